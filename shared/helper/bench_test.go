package helper

import (
	"context"
	"fmt"
	"testing"

	"github.com/khelp/khelp/shared/wire"
)

type eight struct{ A, B, C, D, E, F, G, H uint64 }

func bumpHelper() Helper[eight] {
	return Helper[eight]{Name: "bump", Classes: Classes{"tcp"}, Hooks: Hooks[eight]{
		"a.bump": func(_ context.Context, c *Call, s *eight) error { s.A += uint64(len(c.Context)); return nil },
	}}
}

func frameOf(n int) []byte {
	var frame []byte
	for i := range n {
		c := hook(uint64(i), 0, uint64(i+1), make([]byte, 64), make([]byte, 64))
		frame = wire.AppendCall(frame, &c)
	}
	return frame
}

// blackHole is a lane to nowhere that says when a number of reply bytes has come.
type blackHole struct {
	bytes, want int
	done        chan struct{}
}

func (b *blackHole) send(f *frame) {
	b.bytes += len(f.Buf)
	f.release()
	if b.bytes >= b.want {
		b.bytes = 0
		b.done <- struct{}{}
	}
}

// BenchmarkExecutor is the cost of a call in the helper, without transport: decode, state, hook, state, encode.
func BenchmarkExecutor(b *testing.B) {
	for _, n := range []int{1, 64} {
		b.Run(fmt.Sprintf("%d calls a frame", n), func(b *testing.B) {
			h := bumpHelper()
			p, err := h.program()
			if err != nil {
				b.Fatal(err)
			}
			data := frameOf(n)
			reply := wire.ReplyView{Seq: 1, HasData: true, Data: make([]byte, 64)}
			hole := &blackHole{want: n * wire.SizeReply(&reply), done: make(chan struct{}, 1)}
			x := newExecutor(b.Context(), p, hole)
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				f := newFrame()
				f.Buf = append(f.Buf, data...)
				if err := x.submit(f); err != nil {
					b.Fatal(err)
				}
				<-hole.done
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/call")
			b.StopTimer()
			x.stop()
			x.wg.Wait()
		})
	}
}

// BenchmarkRunner is BenchmarkExecutor without its goroutines.
func BenchmarkRunner(b *testing.B) {
	h := bumpHelper()
	p, err := h.program()
	if err != nil {
		b.Fatal(err)
	}
	r := newRunner(b.Context(), p)
	call := hook(1, 0, 1, make([]byte, 64), make([]byte, 64))
	out := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		out = wire.AppendReply(out[:0], r.run(&call, now()))
	}
}

func TestRunnerAllocatesNothing(t *testing.T) {
	h := bumpHelper()
	p, err := h.program()
	if err != nil {
		t.Fatal(err)
	}
	r := newRunner(t.Context(), p)
	frame := frameOf(3)
	out := make([]byte, 0, 1024)
	var v wire.CallView
	if n := testing.AllocsPerRun(100, func() {
		out = out[:0]
		for rest := frame; len(rest) > 0; {
			if rest, err = wire.NextCall(rest, &v); err != nil {
				t.Fatal(err)
			}
			out = wire.AppendReply(out, r.run(&v, now()))
		}
	}); n != 0 {
		t.Errorf("%v allocations for three calls", n)
	}
	if len(out) == 0 {
		t.Error("no reply")
	}
}
