package hhook

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/khelp/khelp/host/osd"
	"github.com/khelp/khelp/shared"
)

// The model runs a head while hooks come and go. Invariants, after every step: of a hook attached throughout, what was forwarded is
// committed + missed + skipped; of every hook, calls are committed + missed; hooks that are out are not called.
func TestO10_CountsAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom([]Kind{Observe, Filter}).Draw(t, "kind")
		h, err := NewHead("test.point", "", Options{Kind: kind, Async: kind == Observe && rapid.Bool().Draw(t, "async")}, nil)
		if err != nil {
			t.Fatal(err)
		}
		var next Outcome
		outcome := func(context.Context, *Invocation) Outcome { return next }
		hooks, in, calls := make([]*Hook, 6), make([]bool, 6), make([]uint64, 6)
		for i := range hooks {
			hooks[i] = newHook(shared.HelperID(i+1), string(rune('a'+i)), func(ctx context.Context, inv *Invocation) Outcome {
				if !in[i] {
					t.Fatalf("%s was called, and is out", inv.Hook.Helper)
				}
				calls[i]++
				return outcome(ctx, inv)
			})
			hooks[i].NeedsOSD = i%2 == 0
			if i%3 == 0 {
				hooks[i].Policy.OnFailure = shared.Open
			}
		}
		// The first two stay.
		if err := h.Add(hooks[0], hooks[1]); err != nil {
			t.Fatal(err)
		}
		in[0], in[1] = true, true
		objects := []*osd.Object{nil, object(1), object(2, 1), object(3, 1, 2, 3, 4, 5, 6)}
		forwarded := uint64(0)
		t.Repeat(map[string]func(*rapid.T){
			"run": func(t *rapid.T) {
				next = rapid.SampledFrom([]Outcome{
					{}, {}, {Reject: true}, Failed(shared.CauseCrash, nil), Failed(shared.CauseTimeout, shared.ErrTimeout),
				}).Draw(t, "outcome")
				forwarded++
				if _, err := h.Run(context.Background(), rapid.SampledFrom(objects).Draw(t, "object"), nil); err != nil {
					t.Fatal(err)
				}
			},
			"move": func(t *rapid.T) {
				i := rapid.IntRange(2, 5).Draw(t, "hook")
				if in[i] {
					h.Remove(hooks[i])
				} else if err := h.Add(hooks[i]); err != nil {
					t.Fatal(err)
				}
				in[i] = !in[i]
			},
			"": func(t *rapid.T) {
				for i, hook := range hooks {
					c := hook.Stats().Read()
					missed := uint64(0)
					for _, n := range c.Missed {
						missed += n
					}
					if c.Calls != c.Committed+missed || c.Calls != calls[i] {
						t.Fatalf("%s: %+v, called %d times", hook.Helper, c, calls[i])
					}
					if i < 2 && forwarded != c.Calls+c.Skipped {
						t.Fatalf("%s: forwarded %d, %+v", hook.Helper, forwarded, c)
					}
				}
			},
		})
	})
}

// Runs, adds, removes, drains and at last a close go on at once. A hook that has been removed and drained is called no more, and the
// counts of the one that stays add up.
func TestHammerHead(t *testing.T) {
	h := newHead(t, Options{Kind: Filter})
	stays := newHook(1, "stays", pass)
	stays.NeedsOSD = true
	add(t, h, stays)
	objects := []*osd.Object{nil, object(1, 1), object(2), object(3, 1)}
	var forwarded atomic.Uint64
	for _, obj := range objects {
		forwarded.Add(1)
		run(t, h, obj)
	}
	var runners, movers sync.WaitGroup
	stop := make(chan struct{})
	for i := range 4 {
		runners.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			for {
				select {
				case <-stop:
					return
				default:
				}
				forwarded.Add(1)
				run(t, h, objects[rng.IntN(len(objects))])
			}
		})
	}
	for i := range 4 {
		movers.Go(func() {
			rng := rand.New(rand.NewPCG(2, uint64(i)))
			for range 300 {
				var out atomic.Bool
				hook := newHook(shared.HelperID(10+i), "moves", func(context.Context, *Invocation) Outcome {
					if out.Load() {
						t.Error("called after it was removed and drained")
					}
					return Outcome{}
				})
				if rng.IntN(2) == 0 {
					hook.Order = shared.Order{Place: shared.First}
				}
				add(t, h, hook)
				h.Enabled()
				h.Hooks()
				h.Remove(hook)
				if err := h.Drain(t.Context()); err != nil {
					t.Error(err)
				}
				out.Store(true)
			}
		})
	}
	movers.Wait()
	close(stop)
	runners.Wait()
	c := stays.Stats().Read()
	if got := c.Calls + c.Skipped; got != forwarded.Load() || c.Skipped == 0 || c.Committed == 0 {
		t.Errorf("forwarded %d, %+v", forwarded.Load(), c)
	}
	if err := h.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// Close among runs: each run either finds the head closed or is waited for.
func TestHammerClose(t *testing.T) {
	for range 200 {
		var closed atomic.Bool
		var h *Head
		h, err := NewHead("test.point", "", Options{}, func(*Head) { closed.Store(true) })
		if err != nil {
			t.Fatal(err)
		}
		add(t, h, newHook(1, "a", func(context.Context, *Invocation) Outcome {
			if closed.Load() {
				t.Error("a hook runs on a head that has been unbound")
			}
			return Outcome{}
		}))
		var runners sync.WaitGroup
		for range 3 {
			runners.Go(func() {
				for {
					if _, err := h.Run(context.Background(), nil, nil); err != nil {
						return
					}
				}
			})
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		if err := h.Close(ctx); err != nil {
			t.Error(err)
		}
		cancel()
		runners.Wait()
	}
}

// A snapshot's last user and its retirement may meet in any order: who waits is always woken, and never before the last has gone.
func TestHammerSnapshotDrain(t *testing.T) {
	for range 2000 {
		s := newSnapshot([]*Hook{newHook(1, "a", pass)})
		var users atomic.Int32
		var runners sync.WaitGroup
		begin := make(chan struct{})
		for range 3 {
			runners.Go(func() {
				<-begin
				for range 3 {
					if !s.acquire() {
						continue
					}
					users.Add(1)
					s.hold() // as for a queued invocation
					users.Add(1)
					users.Add(-1)
					s.release()
					users.Add(-1)
					s.release()
				}
			})
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		close(begin)
		s.retire()
		if err := s.wait(ctx); err != nil {
			t.Fatal(err)
		}
		if n := users.Load(); n != 0 {
			t.Fatalf("drained with %d users", n)
		}
		cancel()
		runners.Wait()
	}
}
