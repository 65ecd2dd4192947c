package osd

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func newTestObject() *Object { return NewObject(1, "", nil, nil, nil) }

func TestO5_TurnsAreGivenInTheOrderOfAsking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newTestObject()
		if !o.Lock(t.Context(), time.Time{}) {
			t.Fatal("a free turn was not given")
		}
		if o.TryLock() {
			t.Fatal("the turn was given twice")
		}
		var mu sync.Mutex
		var order []int
		var waiters sync.WaitGroup
		const n = 20
		for i := range n {
			waiters.Go(func() {
				if !o.Lock(t.Context(), time.Time{}) {
					t.Error("not given")
					return
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				if o.TryLock() {
					t.Error("given twice")
				}
				o.Unlock()
			})
			synctest.Wait() // it waits now, behind those before
		}
		o.Unlock()
		waiters.Wait()
		for i := range n {
			if order[i] != i {
				t.Fatalf("turns went to %v", order)
			}
		}
		if !o.TryLock() {
			t.Fatal("the turn did not come back")
		}
		o.Unlock()
	})
}

func TestTurnIsAbandonedAtTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newTestObject()
		o.TryLock()
		start := time.Now()
		if o.Lock(t.Context(), start.Add(30*time.Millisecond)) {
			t.Error("a held turn was given")
		}
		if got := time.Since(start); got != 30*time.Millisecond {
			t.Errorf("given up after %v, want 30ms", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		start = time.Now()
		if o.Lock(ctx, start.Add(time.Hour)) {
			t.Error("a held turn was given")
		}
		if got := time.Since(start); got != 10*time.Millisecond {
			t.Errorf("given up after %v, want 10ms", got)
		}
		start = time.Now()
		if o.Lock(t.Context(), start.Add(-time.Second)) || time.Since(start) != 0 {
			t.Error("waited past a deadline that was over")
		}
		o.Unlock()
		// Those who gave up have taken nothing with them.
		if !o.TryLock() {
			t.Fatal("the turn was lost")
		}
		o.Unlock()
		if !o.Lock(ctx, time.Now().Add(-time.Second)) {
			t.Error("a free turn was not given at once")
		}
	})
}

// One in the middle of the queue gives up: the others come in order all the same.
func TestTurnOfOneWhoGaveUpGoesToTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newTestObject()
		o.TryLock()
		got := make(chan int, 3)
		for i, wait := range []time.Duration{time.Hour, 5 * time.Millisecond, time.Hour} {
			go func() {
				if o.Lock(t.Context(), time.Now().Add(wait)) {
					got <- i
				}
			}()
			synctest.Wait()
		}
		<-time.After(10 * time.Millisecond)
		for _, want := range []int{0, 2} {
			o.Unlock()
			synctest.Wait()
			select {
			case i := <-got:
				if i != want {
					t.Errorf("the turn went to %d, want %d", i, want)
				}
			default:
				t.Fatalf("nobody has the turn, want %d", want)
			}
		}
		o.Unlock()
		if !o.TryLock() {
			t.Error("the turn was lost")
		}
	})
}

// Whatever mixture of asking, giving up and trying: one at a time, and the turn is free at the end.
func TestHammerTurn(t *testing.T) {
	o := newTestObject()
	inside, had := 0, 0
	var callers sync.WaitGroup
	for i := range 16 {
		callers.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			for range 500 {
				var ok bool
				switch rng.IntN(4) {
				case 0:
					ok = o.TryLock()
				case 1:
					ok = o.Lock(t.Context(), time.Now().Add(time.Duration(rng.IntN(20))*time.Microsecond))
				case 2:
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rng.IntN(20))*time.Microsecond)
					ok = o.Lock(ctx, time.Time{})
					cancel()
				default:
					ok = o.Lock(t.Context(), time.Time{})
				}
				if !ok {
					continue
				}
				if inside++; inside != 1 { // the race detector looks on too
					t.Error("two have the turn")
				}
				had++
				inside--
				o.Unlock()
			}
		})
	}
	callers.Wait()
	if !o.TryLock() {
		t.Error("the turn was lost")
	}
	if len(o.turn.waiters) != 0 || had < 16*500/4 {
		t.Errorf("%d waiters are left, the turn was had %d times", len(o.turn.waiters), had)
	}
}

func BenchmarkTurn(b *testing.B) {
	o := newTestObject()
	b.ReportAllocs()
	for b.Loop() {
		o.Lock(b.Context(), time.Time{})
		o.Unlock()
	}
}
