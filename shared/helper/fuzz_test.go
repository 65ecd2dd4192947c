package helper

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// collector is a lane that keeps the replies.
type collector struct {
	t  testing.TB
	mu sync.Mutex
	// replies counts the replies to each sequence number; guarded by mu.
	replies map[uint64]int
	all     int
}

func (c *collector) send(f *frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for rest := f.Buf; len(rest) > 0; {
		var r wire.ReplyView
		next, err := wire.NextReply(rest, &r)
		if err != nil {
			c.t.Errorf("a reply that does not decode: %v", err)
			return
		}
		if r.Code != shared.CodeOK && (r.HasData || r.HasContext) {
			c.t.Errorf("a failed call that commits: %+v", r)
		}
		c.replies[r.Seq]++
		c.all++
		rest = next
	}
	f.release()
}

// FuzzCalls gives the executor frames from a hostile host. A frame that decodes has exactly one reply to each call; one that does not
// runs nothing; nothing panics, and all goroutines end.
func FuzzCalls(f *testing.F) {
	seed := func(calls ...wire.CallView) {
		var frame []byte
		for i := range calls {
			frame = wire.AppendCall(frame, &calls[i])
		}
		f.Add(frame, uint8(len(calls)))
	}
	seed()
	seed(hook(1, 0, 10, encoded(1), encoded(1)))
	seed(hook(1, 1, 10, encoded(1), nil), chained(hook(2, 0, 10, nil, nil)), chained(hook(3, 4, 10, nil, nil)), hook(4, 2, 10, encoded(3), nil))
	seed(hook(1, 4, 0, encoded(1), nil), hook(2, 4, 0, encoded(1), nil), hook(3, 99, 1<<63, []byte("short"), nil))
	seed(wire.CallView{Seq: 1, Kind: wire.CallKind_CALL_KIND_NEW, Object: 3, Budget: 1 << 62}, wire.CallView{Seq: 2, Kind: wire.CallKind_CALL_KIND_FREE, Object: 3})
	f.Add([]byte("\x0a\x05garbage"), uint8(2))
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, uint8(1))

	h := arith()
	h.Hooks["a.add"] = func(_ context.Context, c *Call, s *number) error { s.N += uint64(len(c.Context)); return nil }
	h.Hooks["e.nap"] = h.Hooks["a.add"]
	h.MaySleep = []shared.HookPoint{"e.nap"}
	h.New = func(_ context.Context, c *Call, s *number) error { s.N = c.Object; return nil }
	f.Fuzz(func(t *testing.T, data []byte, workers uint8) {
		h := h
		h.Workers = int(workers%3) + 1
		p, err := h.program()
		if err != nil {
			t.Fatal(err)
		}
		expected, total := map[uint64]int{}, 0
		decodes := true
		var v wire.CallView
		for rest := data; len(rest) > 0 && decodes; {
			next, err := wire.NextCall(rest, &v)
			decodes = err == nil
			if decodes {
				expected[v.Seq]++
				total++
			}
			rest = next
		}
		got := &collector{t: t, replies: map[uint64]int{}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		x := newExecutor(ctx, p, got)
		in := newFrame()
		in.Buf = append(in.Buf, data...)
		err = x.submit(in)
		x.stop()
		x.wg.Wait()
		if (err == nil) != decodes {
			t.Fatalf("submit: %v; the frame decodes: %v", err, decodes)
		}
		if !decodes {
			expected, total = nil, 0
		}
		if got.all != total {
			t.Errorf("%d replies to %d calls", got.all, total)
		}
		for seq, n := range expected {
			if got.replies[seq] != n {
				t.Errorf("%d replies to %d, want %d", got.replies[seq], seq, n)
			}
		}
	})
}
