package lane

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/khelp/khelp/host/hosttest/testkit"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// misbehave answers calls as a bad helper would: mostly right, else not at all, twice, out of order, with numbers of its own, until
// the stream ends.
func (p *peer) misbehave(seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	var kept []uint64
	for frame := p.frame(); frame != nil; frame = p.frame() {
		calls := p.decode(frame, 0)
		var out []byte
		put := func(seq uint64) {
			out = wire.AppendReply(out, &wire.ReplyView{Seq: seq, HasData: true, Data: []byte("x")})
		}
		for _, c := range calls {
			switch rng.IntN(40) {
			case 0: // never
			case 1:
				put(c.Seq)
				put(c.Seq)
			case 2: // ahead of the one before it, if that is still to come
				put(c.Seq + 1)
				put(c.Seq)
			case 3: // much later
				kept = append(kept, c.Seq)
			case 4:
				put(rng.Uint64())
				put(c.Seq)
			default:
				put(c.Seq)
			}
		}
		if len(kept) > 20 {
			for _, seq := range kept {
				put(seq)
			}
			kept = kept[:0]
		}
		if p.raw(out) != nil {
			return
		}
	}
}

// Whatever the helper does, each call ends exactly once: recorders fail the test otherwise.
func TestHammerEveryCallEndsOnce(t *testing.T) {
	for round, end := range []func(*Stream, *peer){
		func(s *Stream, _ *peer) { s.Close() },
		func(_ *Stream, p *peer) { p.end <- nil },
		func(_ *Stream, p *peer) { p.end <- fmt.Errorf("crash") },
	} {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			s, p := newLane(t)
			var helper, callers sync.WaitGroup
			helper.Go(func() { p.misbehave(uint64(round)) })
			var submitted, abandoned atomic.Int64
			half := make(chan struct{})
			var once sync.Once
			const each = 250
			for i := range 16 {
				callers.Go(func() {
					rng := rand.New(rand.NewPCG(uint64(round), uint64(i)))
					for n := range each {
						if n == each/2 && round > 0 {
							once.Do(func() { close(half) })
						}
						contexts := make([]string, 1+rng.IntN(4))
						timeout := time.Duration(rng.IntN(3000)) * time.Microsecond
						r, ticket := submit(t, s, uint64(i+1), timeout, contexts...)
						submitted.Add(1)
						if rng.IntN(5) == 0 && s.Abandon(ticket) {
							abandoned.Add(1)
							r.mu.Lock() // nothing may come now
							r.calls = len(r.ends)
							r.mu.Unlock()
							continue
						}
						testkit.Await(t, "a call's end", r.done)
					}
				})
			}
			if round > 0 {
				testkit.Await(t, "half of the work", half)
				end(s, p)
			}
			callers.Wait()
			end(s, p)
			testkit.Await(t, "the lane's end", s.Done())
			s.Close()
			helper.Wait()
			t.Logf("%d chains, %d abandoned, %+v", submitted.Load(), abandoned.Load(), s.Counts())
			free(t, s)
		})
	}
}

// free checks that no place of an ended lane's table is taken.
func free(t *testing.T, s *Stream) {
	t.Helper()
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	if len(s.table.free) != len(s.table.entries) {
		t.Errorf("%d of %d places are free", len(s.table.free), len(s.table.entries))
	}
	seen := map[uint32]bool{}
	for _, i := range s.table.free {
		if seen[i] {
			t.Errorf("place %d is free twice", i)
		}
		seen[i] = true
	}
}

// scribbler uses its chain's context for something else as soon as it is told of the end, as the owner of a pooled buffer does.
type scribbler struct {
	context []byte
	done    chan struct{}
}

func (s *scribbler) Reply(int, *wire.ReplyView) { s.end() }

func (s *scribbler) Fail(int, shared.Cause, error) { s.end() }

func (s *scribbler) end() {
	for i := range s.context {
		s.context[i] = 'z'
	}
	close(s.done)
}

// A chain may end, by its time limit or the stream's end, while Submit has not returned. What goes out is what was submitted.
func TestChainThatEndsWithinSubmitIsSentUnchanged(t *testing.T) {
	s, p := newLane(t)
	var helper, callers sync.WaitGroup
	helper.Go(func() {
		for frame := p.frame(); frame != nil; frame = p.frame() {
			for _, c := range p.decode(frame, 0) {
				for _, b := range c.Context {
					if b != 'a' {
						t.Errorf("the helper was sent a context that was used again: %q…", c.Context[:8])
						return
					}
				}
			}
		}
	})
	for i := range 8 {
		callers.Go(func() {
			for range 100 {
				w := &scribbler{context: make([]byte, 8<<10), done: make(chan struct{})}
				for j := range w.context {
					w.context[j] = 'a'
				}
				s.Submit(&Chain{Object: uint64(i + 1), Handler: w, Calls: []Call{{Context: w.context, Timeout: 1}}})
				testkit.Await(t, "the timeout", w.done)
			}
		})
	}
	callers.Wait()
	s.Close()
	helper.Wait()
}
