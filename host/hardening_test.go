package host_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/host/osd"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/helper"
	"github.com/khelp/khelp/shared/wire"
)

// What is sent to a helper that reads nothing is bounded, also once the calls have timed out.
func TestDeafHelperMemory(t *testing.T) {
	s := &hostile{run: func(stream grpc.BidiStreamingServer[wire.CallFrame, wire.ReplyFrame]) error {
		<-stream.Context().Done()
		return nil
	}}
	v := attack(t, s)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	msg := make([]byte, 512<<10)
	refused := 0
	for range 120 {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Millisecond)
		got, err := v.rcv.Run(ctx, v.object, msg)
		cancel()
		if err != nil || !got.Rejected {
			t.Fatal(got, err)
		}
		if got.Cause == shared.CauseOverload {
			refused++
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapInuse) - int64(before.HeapInuse); grown > 48<<20 || refused == 0 {
		t.Errorf("60 MiB of calls that nobody reads hold %d MiB; %d refused", grown>>20, refused)
	}
}

func TestModinfoIsBounded(t *testing.T) {
	h := hosttest.New(t, host.Config{})
	head(t, h, "tcp.est_in", hhook.Options{})
	hosttest.Load(t, h, counting(), shared.HelperSpec{})
	info := hostileInfo()
	for range 100_000 {
		info.Requires = append(info.Requires, &wire.Requirement{Name: "counting"})
	}
	s := &hostile{info: info}
	err := h.Load(t.Context(), shared.HelperSpec{Name: "hostile"}, host.LoadOptions{Dial: s.serve(t)})
	wantErr(t, err, shared.ErrInvalid, "100000 requirements, the limit is 256")
}

// H11: a builtin that comes back to its own object by another point waits for its budget and no longer.
func TestH11_BuiltinThatReenters(t *testing.T) {
	h := hosttest.New(t, host.Config{})
	outer := head(t, h, "p.a", hhook.Options{})
	inner := head(t, h, "p.b", hhook.Options{Async: true, Budget: 50 * time.Millisecond})
	var o *osd.Object
	err := h.AddBuiltin(host.Builtin{
		Name: "x", Version: "1.0.0", Classes: []shared.Class{"tcp"}, Template: []byte{0},
		Hooks: map[shared.HookPoint]host.BuiltinHook{
			"p.a": func(ctx context.Context, _ *host.BuiltinCall) error { _, err := inner.Run(ctx, o, nil); return err },
			"p.b": func(context.Context, *host.BuiltinCall) error { return nil },
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	o = object(t, h, "tcp")
	defer destroy(t, o)
	if _, err := outer.Run(t.Context(), o, nil); err != nil {
		t.Fatal(err)
	}
	if c := inner.Hooks()[0].Stats().Read(); c.Missed[shared.CauseTimeout] != 1 {
		t.Errorf("%+v; want one time-out", c)
	}
}

func TestStatDuringLoad(t *testing.T) {
	h := hosttest.New(t, host.Config{})
	stop := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := h.Stat(context.Background(), ""); err != nil {
				t.Error(err)
			}
		}
	})
	for range 10 {
		hosttest.Load(t, h, counting(), shared.HelperSpec{})
		if err := h.Unload(t.Context(), "counting", host.UnloadOptions{}); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	reader.Wait()
}

// refusing is a helper whose first Fini waits and then refuses.
func refusing(asked, goOn chan struct{}) helper.Helper[counter] {
	hp := counting()
	first := true
	hp.Fini = func(context.Context) error {
		if !first {
			return nil
		}
		first = false
		close(asked)
		<-goOn
		return errors.New("not now")
	}
	return hp
}

// A helper that is asked to leave and stays is back on every head, on one too that came up meanwhile; runs in between are skipped and
// counted (O10); a head that is closing meanwhile is none any more.
func TestL9_RefusedUnloadLeavesNoGap(t *testing.T) {
	h := hosttest.New(t, host.Config{})
	in := head(t, h, "tcp.est_in", hhook.Options{})
	doomed, err := h.Vnet("doomed")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := doomed.RegisterHead("tcp.est_in", hhook.Options{}); err != nil {
		t.Fatal(err)
	}
	asked, goOn := make(chan struct{}), make(chan struct{})
	hosttest.Load(t, h, refusing(asked, goOn), shared.HelperSpec{})
	unloaded := make(chan error, 1)
	go func() { unloaded <- h.Unload(context.Background(), "counting", host.UnloadOptions{}) }()
	<-asked
	out := head(t, h, "tcp.est_out", hhook.Options{})
	if err := doomed.Close(t.Context()); err != nil {
		t.Error(err)
	}
	for range 7 {
		if _, err := in.Run(t.Context(), nil, nil); err != nil {
			t.Error(err)
		}
	}
	close(goOn)
	wantErr(t, <-unloaded, shared.ErrBusy, "not now")
	o := object(t, h, "tcp")
	defer destroy(t, o)
	for _, point := range []*hhook.Head{in, out} {
		if _, err := point.Run(t.Context(), o, nil); err != nil {
			t.Error(err)
		}
	}
	if c := in.Hooks()[0].Stats().Read(); c.Skipped != 7 || c.Committed != 1 {
		t.Errorf("est_in %+v; want 7 skipped, 1 committed", c)
	}
	if c := out.Hooks()[0].Stats().Read(); c.Committed != 1 {
		t.Errorf("est_out, registered meanwhile: %+v; want 1 committed", c)
	}
}

// A head that is draining its last runs is nothing to bind to, and does not keep others from loading.
func TestK2_ClosingHeadIsPassedOver(t *testing.T) {
	h := hosttest.New(t, host.Config{})
	in := head(t, h, "tcp.est_in", hhook.Options{})
	running, goOn := make(chan struct{}), make(chan struct{})
	block := host.Builtin{Name: "x", Version: "1.0.0", Hooks: map[shared.HookPoint]host.BuiltinHook{
		"tcp.est_in": func(context.Context, *host.BuiltinCall) error { close(running); <-goOn; return nil },
	}}
	if err := h.AddBuiltin(block); err != nil {
		t.Fatal(err)
	}
	var both sync.WaitGroup
	both.Go(func() {
		if _, err := in.Run(context.Background(), nil, nil); err != nil {
			t.Error(err)
		}
	})
	<-running
	both.Go(func() {
		if err := in.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	hosttest.Until(t, "closing", func() bool { return !in.Enabled() })
	block.Name = "y"
	if err := h.AddBuiltin(block); err != nil {
		t.Error(err)
	}
	hosttest.Load(t, h, counting(), shared.HelperSpec{})
	close(goOn)
	both.Wait()
	block.Hooks = map[shared.HookPoint]host.BuiltinHook{"p": nil}
	block.Name = "z"
	if err := h.AddBuiltin(block); err == nil {
		t.Error("a hook on no point is accepted")
	}
	if _, err := h.ID("z"); !errors.Is(err, shared.ErrNotExist) {
		t.Errorf("a builtin that failed leaves its name behind: %v", err)
	}
}

// The limit of a helper's bytes is not eaten up by replies that come after their objects.
func TestO7_LateGrowthIsNotCounted(t *testing.T) {
	goOn := make(chan struct{})
	s := &hostile{reply: func(c *wire.CallView) [][]byte {
		<-goOn
		return [][]byte{reply(wire.ReplyView{Seq: c.Seq, HasData: true, Data: make([]byte, 16)})}
	}, info: hostileInfo()}
	h := hosttest.New(t, host.Config{})
	in := head(t, h, "tcp.est_in", hhook.Options{Async: true})
	if err := h.Load(t.Context(), shared.HelperSpec{Name: "hostile"}, host.LoadOptions{Dial: s.serve(t)}); err != nil {
		t.Fatal(err)
	}
	gaveUp, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		o := object(t, h, "tcp")
		if _, err := in.Run(t.Context(), o, nil); err != nil {
			t.Fatal(err)
		}
		wantErr(t, o.Destroy(gaveUp), shared.ErrTimeout, "queued calls")
	}
	close(goOn)
	hosttest.Until(t, "20 ends", func() bool { return in.Hooks()[0].Stats().Read().Calls == 20 })
	if st, err := h.Stat(t.Context(), ""); err != nil || st.Helpers[0].ObjectBytes != 0 || st.Helpers[0].Objects != 0 {
		t.Errorf("%+v, %v; want no bytes, no objects", st, err)
	}
}

// A context that takes more than all the room takes all of it, and gets through when that is free.
func TestHeavyCallInSmallRoom(t *testing.T) {
	h := hosttest.New(t, host.Config{Limits: shared.Limits{Inflight: 2}})
	in := head(t, h, "tcp.est_in", hhook.Options{})
	hosttest.Load(t, h, counting(), shared.HelperSpec{})
	o := object(t, h, "tcp")
	defer destroy(t, o)
	if _, err := in.Run(t.Context(), o, make([]byte, 64<<10)); err != nil {
		t.Fatal(err)
	}
	if c := in.Hooks()[0].Stats().Read(); c.Committed != 1 {
		t.Errorf("%+v; want 1 committed", c)
	}
}

// O10: calls that end after their head was closed are counted.
func TestO10_CountsOutliveTheHead(t *testing.T) {
	h := hosttest.New(t, host.Config{})
	in := head(t, h, "tcp.est_in", hhook.Options{Async: true})
	goOn := make(chan struct{})
	hp := counting()
	hp.Hooks["tcp.est_in"] = func(context.Context, *helper.Call, *counter) error { <-goOn; return nil }
	hosttest.Load(t, h, hp, shared.HelperSpec{})
	o := object(t, h, "tcp")
	for range 10 {
		if _, err := in.Run(t.Context(), o, nil); err != nil {
			t.Fatal(err)
		}
	}
	gaveUp, cancel := context.WithCancel(t.Context())
	cancel()
	wantErr(t, in.Close(gaveUp), shared.ErrTimeout, "under way")
	close(goOn)
	destroy(t, o)
	if st, err := h.Stat(t.Context(), ""); err != nil || st.Helpers[0].Committed != 10 {
		t.Errorf("%+v, %v; want 10 committed", st, err)
	}
}

// A builtin may put bytes of its own into Data; what it does with them afterwards is its own affair.
func TestBuiltinDataIsCopied(t *testing.T) {
	h := hosttest.New(t, host.Config{})
	in := head(t, h, "tcp.est_in", hhook.Options{})
	err := h.AddBuiltin(host.Builtin{
		Name: "x", Version: "1.0.0", Classes: []shared.Class{"tcp"}, Template: []byte("tmpl"),
		Hooks: map[shared.HookPoint]host.BuiltinHook{
			"tcp.est_in": func(_ context.Context, c *host.BuiltinCall) error { c.Data = c.Context[:4]; return nil },
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	o := object(t, h, "tcp")
	defer destroy(t, o)
	msg := []byte("good")
	if _, err := in.Run(t.Context(), o, msg); err != nil {
		t.Fatal(err)
	}
	copy(msg, "evil")
	if data := string(o.Slots()[0].Bytes()); data != "good" {
		t.Errorf("data %q", data)
	}
}

func TestClosedVnetTakesNoHeads(t *testing.T) {
	h := hosttest.New(t, host.Config{})
	v, err := h.Vnet("edge")
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err = v.RegisterHead("tcp.est_in", hhook.Options{})
	wantErr(t, err, shared.ErrClosed, "edge")
}

// Shutdown waits for a builtin that is stuck as long as for anybody, whatever its context says.
func TestShutdownWithStuckBuiltin(t *testing.T) {
	h, err := host.New(host.Config{DrainTimeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	in := head(t, h, "tcp.est_in", hhook.Options{})
	running, goOn := make(chan struct{}), make(chan struct{})
	err = h.AddBuiltin(host.Builtin{Name: "x", Version: "1.0.0", Hooks: map[shared.HookPoint]host.BuiltinHook{
		"tcp.est_in": func(context.Context, *host.BuiltinCall) error { close(running); <-goOn; return nil },
	}})
	if err != nil {
		t.Fatal(err)
	}
	ran := make(chan struct{})
	go func() {
		defer close(ran)
		if _, err := in.Run(context.Background(), nil, nil); err != nil {
			t.Error(err)
		}
	}()
	<-running
	wantErr(t, h.Shutdown(context.Background()), shared.ErrTimeout, "under way")
	close(goOn)
	<-ran
}

// What a helper says when it ends a stream is cut.
func TestHugeStatus(t *testing.T) {
	quit := make(chan struct{})
	s := &hostile{run: func(grpc.BidiStreamingServer[wire.CallFrame, wire.ReplyFrame]) error {
		<-quit
		return fmt.Errorf("%0100000d\x1b[2J\nforged", 7)
	}}
	v := attack(t, s)
	close(quit)
	hosttest.Until(t, "failed", func() bool {
		st, err := v.host.Stat(t.Context(), "")
		return err == nil && st.Helpers[0].State == shared.StateFailed
	})
	st, err := v.host.Stat(t.Context(), "")
	if err != nil || len(st.Helpers[0].LastError) > 2*shared.MaxText {
		t.Errorf("last error of %d bytes, %v", len(st.Helpers[0].LastError), err)
	}
	got, err := v.rcv.Run(t.Context(), v.object, nil)
	if err != nil || !got.Rejected || len(got.Reason) > 2*shared.MaxText {
		t.Errorf("reason of %d bytes, %v", len(got.Reason), err)
	}
}

// What the operator says of a hook that the helper does not have would do nothing.
func TestSpecOfAHookThatIsNotThere(t *testing.T) {
	h := hosttest.New(t, host.Config{})
	spec := shared.HelperSpec{Name: "counting", Hooks: []shared.HookSpec{{Point: "socket.rcv", Required: true}}}
	err := h.Load(t.Context(), spec, host.LoadOptions{Dial: hosttest.Serve(t, counting())})
	wantErr(t, err, shared.ErrInvalid, "counting has no hook on socket.rcv; it hooks tcp.est_in, tcp.est_out")
}

func TestNearMissesOfNames(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "h_example"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	h := hosttest.New(t, host.Config{HelperPath: []string{dir}})
	wantErr(t, h.Load(t.Context(), shared.HelperSpec{Name: "h_exampel"}, host.LoadOptions{}), shared.ErrNotExist, `did you mean "h_example"?`)
	hosttest.Load(t, h, counting(), shared.HelperSpec{})
	wantErr(t, h.Unload(t.Context(), "countin", host.UnloadOptions{}), shared.ErrNotExist, `did you mean "counting"?`)
	_, err := h.Stat(t.Context(), "countin")
	wantErr(t, err, shared.ErrNotExist, `did you mean "counting"?`)
}
