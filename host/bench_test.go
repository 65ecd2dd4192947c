package host_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/host/osd"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/helper"
	"github.com/khelp/khelp/shared/wire"
)

// The work that every transport does: 64 bytes of context one way, 64 bytes of data both ways, one counter of the data incremented.

type benchState struct{ Count, A, B, C, D, E, F, G uint64 }

func init() {
	programs["bench"] = func() {
		helper.Serve(helper.Helper[benchState]{
			Name: "bench", Version: "1.0.0", Classes: []shared.Class{"bench"},
			Hooks: helper.Hooks[benchState]{
				"bench.call": func(_ context.Context, _ *helper.Call, s *benchState) error { s.Count++; return nil },
			},
		})
	}
	programs["bench-unary"] = func() {
		plugin.Serve(&plugin.ServeConfig{
			HandshakeConfig: unaryHandshake,
			Plugins:         plugin.PluginSet{"unary": unaryPlugin{}},
			GRPCServer:      plugin.DefaultGRPCServer,
			Logger:          hclog.NewNullLogger(),
		})
	}
}

// unaryPlugin is what everyone does with go-plugin: one unary gRPC call for each hook.
type unaryPlugin struct{ plugin.NetRPCUnsupportedPlugin }

var unaryHandshake = plugin.HandshakeConfig{ProtocolVersion: 1, MagicCookieKey: "BENCH", MagicCookieValue: "unary"}

func (unaryPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	s.RegisterService(&unaryDesc, nil)
	return nil
}

func (unaryPlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return conn, nil
}

var unaryDesc = grpc.ServiceDesc{
	ServiceName: "bench.Unary",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "Call",
		Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var call wire.Call
			if err := decode(&call); err != nil {
				return nil, err
			}
			binary.LittleEndian.PutUint64(call.Data, binary.LittleEndian.Uint64(call.Data)+1)
			return &wire.Reply{Data: call.Data}, nil
		},
	}},
}

// startUnary starts the go-plugin peer and returns its call.
func startUnary(b *testing.B) func(ctx context.Context, object int) error {
	cmd := program("bench-unary")
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig: unaryHandshake, Plugins: plugin.PluginSet{"unary": unaryPlugin{}},
		Cmd: exec.Command(cmd[0], cmd[1:]...), AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		AutoMTLS: true, Logger: hclog.NewNullLogger(),
	})
	b.Cleanup(client.Kill)
	rpc, err := client.Client()
	if err != nil {
		b.Fatal(err)
	}
	raw, err := rpc.Dispense("unary")
	if err != nil {
		b.Fatal(err)
	}
	conn := raw.(*grpc.ClientConn)
	data := make([][]byte, 256)
	for i := range data {
		data[i] = make([]byte, 64)
	}
	payload := make([]byte, 64)
	return func(ctx context.Context, object int) error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		var reply wire.Reply
		call := wire.Call{Object: uint64(object), Data: data[object], Context: payload}
		if err := conn.Invoke(ctx, "/bench.Unary/Call", &call, &reply); err != nil {
			return err
		}
		copy(data[object], reply.Data)
		return nil
	}
}

// startStream starts the helper, and returns a synchronous and an asynchronous call.
func startStream(b *testing.B, async bool) (call func(ctx context.Context, object int) error, committed func() uint64) {
	h := hosttest.New(b, host.Config{})
	head, err := h.RegisterHead("bench.call", hhook.Options{Async: async})
	if err != nil {
		b.Fatal(err)
	}
	if err := h.Load(b.Context(), shared.HelperSpec{Name: "bench", Command: program("bench")}, host.LoadOptions{}); err != nil {
		b.Fatal(err)
	}
	objects := make([]*osd.Object, 256)
	for i := range objects {
		if objects[i], err = h.NewObject(b.Context(), "bench"); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = objects[i].Destroy(context.Background()) })
	}
	payload := make([]byte, 64)
	call = func(ctx context.Context, object int) error {
		v, err := head.Run(ctx, objects[object], payload)
		if v.Rejected {
			return v.Err()
		}
		return err
	}
	hook := head.Hooks()[0]
	return call, func() uint64 { return hook.Stats().Read().Committed }
}

// hammer has callers make n calls in all and returns how long that took, with the durations of the calls if there is one caller.
func hammer(b *testing.B, callers, n int, call func(ctx context.Context, object int) error) (time.Duration, []time.Duration) {
	var lone []time.Duration
	if callers == 1 {
		lone = make([]time.Duration, 0, n)
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for c := range callers {
		wg.Go(func() {
			for next.Add(1) <= int64(n) {
				began := time.Now()
				if err := call(context.Background(), c); err != nil {
					b.Error(err)
					return
				}
				if callers == 1 {
					lone = append(lone, time.Since(began))
				}
			}
		})
	}
	wg.Wait()
	return time.Since(start), lone
}

// BenchmarkLanes sets the stream lane against plain go-plugin gRPC unary, interleaved in rounds so that the machine's moods hit both.
// One operation is one call by each. It reports the medians, and their ratios.
func BenchmarkLanes(b *testing.B) {
	unary := startUnary(b)
	stream, _ := startStream(b, false)
	for _, callers := range []int{1, 8, 64, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			const rounds = 6
			n := max(b.N/rounds, callers*4)
			var took [2][]float64 // seconds a call, by round
			var p50 [2][]float64
			for range rounds {
				for i, call := range []func(context.Context, int) error{unary, stream} {
					d, lone := hammer(b, callers, n, call)
					took[i] = append(took[i], d.Seconds()/float64(n))
					if callers == 1 {
						p50[i] = append(p50[i], median(lone).Seconds())
					}
				}
			}
			b.ReportMetric(1/median(took[0]), "unary-calls/s")
			b.ReportMetric(1/median(took[1]), "stream-calls/s")
			b.ReportMetric(median(took[0])/median(took[1]), "throughput-ratio")
			if callers == 1 {
				b.ReportMetric(median(p50[0])*1e6, "unary-p50-µs")
				b.ReportMetric(median(p50[1])*1e6, "stream-p50-µs")
				b.ReportMetric(median(p50[1])/median(p50[0]), "p50-ratio")
			}
		})
	}
}

func median[T float64 | time.Duration](v []T) T {
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}

// BenchmarkAsync measures queueing on an async head, and the way to the last commit.
func BenchmarkAsync(b *testing.B) {
	call, committed := startStream(b, true)
	b.ReportAllocs()
	before := committed()
	n := 0
	for b.Loop() {
		if err := call(context.Background(), n%256); err != nil {
			b.Fatal(err)
		}
		n++
	}
	hosttest.Until(b, "the last commit", func() bool { return committed() == before+uint64(n) })
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "queued/s")
}

// BenchmarkBuiltin measures one hook in this process, without object data and with 64 bytes of it.
func BenchmarkBuiltin(b *testing.B) {
	for _, data := range []int{0, 64} {
		b.Run(fmt.Sprintf("data=%d", data), func(b *testing.B) {
			h := hosttest.New(b, host.Config{})
			head, err := h.RegisterHead("bench.call", hhook.Options{})
			if err != nil {
				b.Fatal(err)
			}
			if err := h.AddBuiltin(benchBuiltin(data)); err != nil {
				b.Fatal(err)
			}
			ctx, payload := b.Context(), make([]byte, 64)
			o, err := h.NewObject(ctx, "bench")
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = o.Destroy(context.Background()) }()
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				if _, err := head.Run(ctx, o, payload); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// benchBuiltin counts its calls: in its data on the object, or, without, in the program.
func benchBuiltin(data int) host.Builtin {
	var calls uint64
	count := host.Builtin{
		Name: "count", Version: "1.0.0", Classes: []shared.Class{"bench"},
		Hooks: map[shared.HookPoint]host.BuiltinHook{"bench.call": func(_ context.Context, c *host.BuiltinCall) error {
			calls++
			return nil
		}},
	}
	if data > 0 {
		count.Template = make([]byte, data)
		count.Hooks["bench.call"] = func(_ context.Context, c *host.BuiltinCall) error {
			binary.LittleEndian.PutUint64(c.Data, binary.LittleEndian.Uint64(c.Data)+1)
			return nil
		}
	}
	return count
}

// BenchmarkNoHook measures a point that nobody hooks: what a call site pays always.
func BenchmarkNoHook(b *testing.B) {
	h := hosttest.New(b, host.Config{})
	head, err := h.RegisterHead("bench.call", hhook.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	ran := 0
	for b.Loop() {
		if head.Enabled() {
			ran++
		}
	}
	if ran != 0 {
		b.Fatal("a point without hooks is enabled")
	}
}
