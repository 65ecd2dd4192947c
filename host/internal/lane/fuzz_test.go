package lane

import (
	"context"
	"io"
	"testing"

	"google.golang.org/grpc"

	"github.com/khelp/khelp/host/hosttest/testkit"
	"github.com/khelp/khelp/shared/wire"
)

// hostileStream is a stream on which the given frames come, and then its end, when all of the calls have been sent.
type hostileStream struct {
	grpc.ClientStream
	frames [][]byte
	begin  chan struct{}
}

func (h *hostileStream) SendMsg(m any) error {
	m.(*wire.RawFrame).Sent()
	return nil
}

func (h *hostileStream) RecvMsg(m any) error {
	<-h.begin
	if len(h.frames) == 0 {
		return io.EOF
	}
	raw := m.(*wire.RawFrame)
	raw.Buf = append(raw.Buf[:0], h.frames[0]...)
	h.frames = h.frames[1:]
	return nil
}

// over returns a lane over a stream.
func over(stream grpc.ClientStream) *Stream {
	_, cancel := context.WithCancel(context.Background())
	s := &Stream{stream: stream, cancel: cancel, done: make(chan struct{})}
	s.out.init()
	s.workers.Go(s.send)
	s.workers.Go(s.receive)
	return s
}

// FuzzReplies drives a lane with frames of replies, each behind a byte that is its length. Invariants: no panic; each submitted call
// ends exactly once, in order (the recorders see to it); the table is empty at the end.
func FuzzReplies(f *testing.F) {
	shape := []int{1, 3, 1, 2}
	frame := func(replies ...wire.ReplyView) []byte {
		var b []byte
		for i := range replies {
			b = wire.AppendReply(b, &replies[i])
		}
		return append([]byte{byte(len(b))}, b...)
	}
	join := func(frames ...[]byte) (all []byte) {
		for _, b := range frames {
			all = append(all, b...)
		}
		return all
	}
	at := func(index uint32, call int) wire.ReplyView { return ok(seq(1, index, call), "x") }
	f.Add([]byte{})
	f.Add([]byte("\x05hello"))
	f.Add(frame(at(0, 0), at(1, 0), at(1, 1), at(1, 2), at(2, 0), at(3, 0), at(3, 1)))
	f.Add(join(frame(at(2, 0)), frame(at(1, 0), at(1, 0)), frame(at(0, 0), at(0, 0))))
	f.Add(join(frame(at(1, 1)), frame(at(1, 0)), frame(at(3, 1))))
	f.Add(frame(ok(0, ""), ok(seq(2, 0, 0), ""), ok(seq(1, 77, 0), ""), at(0, 9)))
	f.Add(join(frame(at(0, 0)), []byte("\x03\x0a\xff\xff")))
	f.Add(frame(wire.ReplyView{Seq: seq(1, 0, 0), Verdict: 9, Code: -1, Message: []byte("\xff"), HasContext: true}))
	f.Fuzz(func(t *testing.T, input []byte) {
		h := &hostileStream{begin: make(chan struct{})}
		for len(input) > 0 {
			n := min(int(input[0]), len(input)-1)
			h.frames = append(h.frames, input[1:1+n])
			input = input[1+n:]
		}
		s := over(h)
		var recorders []*recorder
		for i, n := range shape {
			r, _ := submit(t, s, uint64(i+1), testkit.Patience, make([]string, n)...)
			recorders = append(recorders, r)
		}
		close(h.begin)
		for _, r := range recorders {
			testkit.Await(t, "a call's end", r.done)
		}
		testkit.Await(t, "the lane's end", s.Done())
		s.Close()
		if s.Err() == nil {
			t.Error("the lane ended without a reason")
		}
		if len(s.table.free) != len(s.table.entries) {
			t.Errorf("%d of %d places are free", len(s.table.free), len(s.table.entries))
		}
	})
}
