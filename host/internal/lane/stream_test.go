package lane

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/khelp/khelp/host/hosttest/testkit"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

func TestRepliesOutOfOrderAcrossChains(t *testing.T) {
	s, p := newLane(t)
	var recorders []*recorder
	for i := range 5 {
		r, _ := submit(t, s, uint64(i+1), testkit.Patience, fmt.Sprint("context ", i))
		recorders = append(recorders, r)
	}
	calls := p.calls(5)
	for i := range calls {
		c := calls[len(calls)-1-i]
		p.reply(ok(c.Seq, string(c.Context)))
	}
	for i, r := range recorders {
		r.want(fmt.Sprint("=context ", i))
	}
	if got := s.Counts(); got != (Counts{}) {
		t.Errorf("%+v", got)
	}
}

func TestChainOnTheWire(t *testing.T) {
	s, p := newLane(t)
	r := newRecorder(t, 3)
	s.Submit(&Chain{Object: 7, HasData: true, Data: []byte("data"), Handler: r, Calls: []Call{
		{Hook: 1, Context: []byte("a"), Timeout: testkit.Patience},
		{Hook: 2, Context: []byte("b"), Timeout: 2 * testkit.Patience, Kind: wire.CallKind_CALL_KIND_FREE},
		{Hook: 3, Timeout: testkit.Patience},
	}})
	calls := p.calls(3)
	for i, c := range calls {
		if c.Object != 7 || c.Hook != uint32(i+1) || c.Chained != (i > 0) || c.HasData != (i == 0) || c.frame != 0 || c.Seq != calls[0].Seq+uint64(i) {
			t.Errorf("call %d came as %+v", i, c)
		}
	}
	if string(calls[0].Data) != "data" || string(calls[1].Context) != "b" || calls[1].Budget != 2*testkit.Patience || calls[1].Kind != wire.CallKind_CALL_KIND_FREE {
		t.Errorf("%+v", calls)
	}
	p.reply(ok(calls[0].Seq, "1"))
	p.reply(ok(calls[1].Seq, "2"), ok(calls[2].Seq, "3"))
	r.want("=1", "=2", "=3")
}

func TestChainOrderViolated(t *testing.T) {
	s, p := newLane(t)
	r, ticket := submit(t, s, 1, testkit.Patience, "a", "b", "c")
	other, _ := submit(t, s, 2, testkit.Patience, "d")
	calls := p.calls(4)
	p.reply(ok(calls[0].Seq, "1"), ok(calls[2].Seq, "3"), ok(calls[1].Seq, "2"), ok(calls[3].Seq, "4"))
	r.want("=1", "bad_reply", "bad_reply")
	if !errors.Is(r.errs[1], shared.ErrBadReply) {
		t.Errorf("%v", r.errs[1])
	}
	other.want("=4")
	if got := s.Counts(); got.Late != 1 || got.Stray != 0 {
		t.Errorf("%+v, want the reply behind the violation to be late", got)
	}
	if s.Abandon(ticket) {
		t.Error("a chain that has ended was abandoned")
	}
}

func TestDoubleReplyIsDroppedAndCounted(t *testing.T) {
	s, p := newLane(t)
	r, _ := submit(t, s, 1, testkit.Patience, "a")
	seq := p.calls(1)[0].Seq
	p.reply(ok(seq, "1"), ok(seq, "again"))
	r.want("=1")
	marker(t, s, p)
	// The place is used again: the old number still fits nothing.
	r, _ = submit(t, s, 1, testkit.Patience, "b")
	next := p.calls(1)[0].Seq
	p.reply(ok(seq, "old"), ok(next, "2"))
	r.want("=2")
	if got := s.Counts(); got.Late != 2 || got.Stray != 0 {
		t.Errorf("%+v, want 2 late", got)
	}
}

func TestReplyThatNeverComesIsATimeout(t *testing.T) {
	s, p := newLane(t)
	r, ticket := submit(t, s, 1, 5*time.Millisecond, "a", "b")
	other, _ := submit(t, s, 2, testkit.Patience, "c")
	calls := p.calls(3)
	r.want("timeout", "timeout")
	if !errors.Is(r.errs[0], shared.ErrTimeout) || !strings.Contains(r.errs[0].Error(), "5ms") {
		t.Errorf("%v", r.errs[0])
	}
	if s.Abandon(ticket) {
		t.Error("a chain that has timed out was abandoned")
	}
	p.reply(ok(calls[0].Seq, "late"), ok(calls[1].Seq, "late"), ok(calls[2].Seq, "3"))
	other.want("=3")
	if got := s.Counts(); got.Late != 2 || got.Stray != 0 {
		t.Errorf("%+v, want 2 late", got)
	}
}

func TestNumbersThatWereNeverGivenOut(t *testing.T) {
	s, p := newLane(t)
	r, _ := submit(t, s, 1, testkit.Patience, "a")
	next := p.calls(1)[0].Seq
	gen, index, _ := split(next)
	strays := []uint64{0, ^uint64(0), seq(gen, index+1, 0), seq(gen+1, index, 0), seq(0, index, 0), seq(gen, maxChains-1, 0)}
	for _, n := range strays {
		p.reply(ok(n, "stray"))
	}
	p.reply(ok(next, "1"))
	r.want("=1")
	marker(t, s, p)
	if got := s.Counts(); got.Stray != uint64(len(strays)) || got.Late != 0 {
		t.Errorf("%+v, want %d stray", got, len(strays))
	}
}

// ended checks what holds of every lane that has ended.
func ended(t *testing.T, s *Stream, cause shared.Cause) {
	t.Helper()
	testkit.Await(t, "the lane's end", s.Done())
	if !errors.Is(s.Err(), cause.Err()) {
		t.Errorf("the lane ended with %v, want %v", s.Err(), cause.Err())
	}
	r, ticket := submit(t, s, 3, testkit.Patience, "x", "y")
	r.want(string(cause), string(cause))
	if s.Abandon(ticket) {
		t.Error("a chain of an ended lane was abandoned")
	}
	s.Close()
	s.Close()
}

func TestLaneEnds(t *testing.T) {
	for _, tc := range []struct {
		name  string
		cause shared.Cause
		end   func(*Stream, *peer)
	}{
		{"garbage", shared.CauseBadReply, func(_ *Stream, p *peer) { _ = p.raw([]byte("hello, world")) }},
		{"truncated", shared.CauseBadReply, func(_ *Stream, p *peer) {
			frame := wire.AppendReply(nil, &wire.ReplyView{Seq: 1, Message: []byte("reason")})
			_ = p.raw(frame[:len(frame)-1])
		}},
		{"oversize", shared.CauseBadReply, func(_ *Stream, p *peer) { _ = p.raw(make([]byte, wire.MaxFrame+1)) }},
		{"helper returns", shared.CauseCrash, func(_ *Stream, p *peer) { p.end <- nil }},
		{"helper fails", shared.CauseCrash, func(_ *Stream, p *peer) { p.end <- status.Error(codes.Internal, "boom") }},
		{"host closes", shared.CauseCrash, func(s *Stream, _ *peer) { s.Close() }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, p := newLane(t)
			one, _ := submit(t, s, 1, testkit.Patience, "a")
			chain, _ := submit(t, s, 2, testkit.Patience, "b", "c", "d")
			calls := p.calls(4)
			p.reply(ok(calls[1].Seq, "1"))
			marker(t, s, p)
			tc.end(s, p)
			one.want(string(tc.cause))
			chain.want("=1", string(tc.cause), string(tc.cause))
			ended(t, s, tc.cause)
		})
	}
}

func TestGarbageBehindReplies(t *testing.T) {
	s, p := newLane(t)
	one, _ := submit(t, s, 1, testkit.Patience, "a")
	two, _ := submit(t, s, 2, testkit.Patience, "b")
	first := ok(p.calls(2)[0].Seq, "1")
	_ = p.raw(append(wire.AppendReply(nil, &first), 0x0a))
	one.want("=1") // whole, and in front of what is broken
	two.want("bad_reply")
	ended(t, s, shared.CauseBadReply)
}

func TestEmptyFrameIsNothing(t *testing.T) {
	s, p := newLane(t)
	if err := p.raw(nil); err != nil {
		t.Fatal(err)
	}
	marker(t, s, p)
}

func TestAbandon(t *testing.T) {
	s, p := newLane(t)
	r, ticket := submit(t, s, 1, testkit.Patience, "a", "b")
	calls := p.calls(2)
	if !s.Abandon(ticket) {
		t.Error("an unanswered chain was not abandoned")
	}
	if s.Abandon(ticket) || s.Abandon(Ticket{}) {
		t.Error("abandoned twice, or nothing")
	}
	p.reply(ok(calls[0].Seq, "late"))
	marker(t, s, p)
	if len(r.ends) != 0 {
		t.Errorf("an abandoned chain's handler heard %v", r.ends)
	}
	r, ticket = submit(t, s, 1, testkit.Patience, "a", "b")
	calls = p.calls(2)
	p.reply(ok(calls[0].Seq, "1"))
	marker(t, s, p)
	if !s.Abandon(ticket) {
		t.Error("the rest of a chain was not abandoned")
	}
	if len(r.ends) != 1 {
		t.Errorf("%v", r.ends)
	}
	if got := s.Counts(); got.Late != 1 {
		t.Errorf("%+v, want 1 late", got)
	}
}

// Of Abandon and the reply exactly one comes through.
func TestAbandonRacesWithReplies(t *testing.T) {
	s, p := newLane(t)
	var echo sync.WaitGroup
	echo.Go(func() { p.echo(nil) })
	var callers sync.WaitGroup
	for i := range 8 {
		callers.Go(func() {
			for range 300 {
				r, ticket := submit(t, s, uint64(i+1), testkit.Patience, "x")
				if s.Abandon(ticket) {
					r.mu.Lock()
					if len(r.ends) != 0 {
						t.Errorf("abandoned, and ended as %v", r.ends)
					}
					r.mu.Unlock()
					continue
				}
				r.want("=x")
			}
		})
	}
	callers.Wait()
	s.Close()
	echo.Wait()
}

// echo answers every call with its context until the stream ends; frames, if there, gets each frame's length.
func (p *peer) echo(frames func(bytes, calls int)) {
	for frame := p.frame(); frame != nil; frame = p.frame() {
		calls := p.decode(frame, 0)
		if frames != nil {
			frames(len(frame), len(calls))
		}
		var out []byte
		for _, c := range calls {
			out = wire.AppendReply(out, &wire.ReplyView{Seq: c.Seq, HasData: true, Data: c.Context})
		}
		if p.raw(out) != nil {
			return
		}
	}
}

func TestCallsOfManyCallersShareFrames(t *testing.T) {
	s, p := newLane(t)
	frames, calls := 0, 0
	var echo sync.WaitGroup
	echo.Go(func() { p.echo(func(_, n int) { frames, calls = frames+1, calls+n }) })
	var callers sync.WaitGroup
	const each = 100
	for i := range 64 {
		callers.Go(func() {
			for range each {
				r, _ := submit(t, s, uint64(i+1), testkit.Patience, "x")
				r.want("=x")
			}
		})
	}
	callers.Wait()
	s.Close()
	echo.Wait()
	if calls != 64*each || frames > calls/3 {
		t.Errorf("%d calls came in %d frames, want %d in far fewer", calls, frames, 64*each)
	}
	t.Logf("%.1f calls a frame", float64(calls)/float64(frames))
}

func TestFramesAreBoundedInBytes(t *testing.T) {
	s, p := newLane(t)
	big := strings.Repeat("x", 100<<10)
	var recorders []*recorder
	for i := range 60 {
		r, _ := submit(t, s, uint64(i+1), testkit.Patience, big)
		recorders = append(recorders, r)
	}
	largest, calls := 0, 0
	for calls < 60 {
		frame := p.frame()
		got := p.decode(frame, 0)
		largest, calls = max(largest, len(frame)), calls+len(got)
		for _, c := range got {
			if string(c.Context) != big {
				t.Fatal("a context was changed on the way")
			}
			p.reply(ok(c.Seq, ""))
		}
	}
	for _, r := range recorders {
		r.want("=")
	}
	if limit := frameSplit + len(big) + 200; largest > limit {
		t.Errorf("a frame of %d bytes, want %d at most", largest, limit)
	}
}

func TestOpenFails(t *testing.T) {
	conn, err := grpc.NewClient("passthrough:///nowhere", grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s, err := Open(ctx, conn); err == nil {
		s.Close()
		t.Error("opened with a context that has ended")
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(t.Context(), conn); err == nil {
		s.Close()
		t.Error("opened on a closed connection")
	}
}

func BenchmarkStream(b *testing.B) {
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprint("callers=", callers), func(b *testing.B) {
			s, p := newLane(b)
			var workers sync.WaitGroup
			workers.Go(func() { p.echo(nil) })
			msg, data := make([]byte, 64), make([]byte, 64)
			work := make(chan struct{}, callers)
			var done sync.WaitGroup
			b.ReportAllocs()
			for i := range callers {
				done.Go(func() {
					w := &waiter{back: make(chan struct{}, 1)}
					for range work {
						s.Submit(&Chain{Object: uint64(i + 1), HasData: true, Data: data, Handler: w, Calls: []Call{{Context: msg, Timeout: testkit.Patience}}})
						<-w.back
					}
				})
			}
			for b.Loop() {
				work <- struct{}{}
			}
			close(work)
			done.Wait()
			s.Close()
			workers.Wait()
		})
	}
}

// waiter wakes its caller.
type waiter struct{ back chan struct{} }

func (w *waiter) Reply(int, *wire.ReplyView)    { w.back <- struct{}{} }
func (w *waiter) Fail(int, shared.Cause, error) { w.back <- struct{}{} }
