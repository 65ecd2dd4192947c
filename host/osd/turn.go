package osd

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// turn is a lock that is given out in the order of asking and that one can stop waiting for. Free and uncontended it costs one
// compare-and-swap each way.
type turn struct {
	state atomic.Int32 // turnHeld | turnWanted

	mu      sync.Mutex // protects the following field and every change of turnWanted
	waiters []chan struct{}
}

const (
	turnHeld   = 1
	turnWanted = 2 // somebody waits: only unlock's slow path may give the turn away
)

// lock takes the turn, waiting until deadline (zero: as long as ctx allows). It reports whether it has it.
func (t *turn) lock(ctx context.Context, deadline time.Time) bool {
	if t.tryLock() {
		return true
	}
	ready := t.enqueue()
	if ready == nil {
		return true
	}
	var expired <-chan time.Time
	if !deadline.IsZero() {
		timer := time.NewTimer(time.Until(deadline))
		defer timer.Stop()
		expired = timer.C
	}
	select {
	case <-ready:
		return true
	case <-ctx.Done():
	case <-expired:
	}
	return t.abandon(ready)
}

// tryLock takes the turn if it is free.
func (t *turn) tryLock() bool { return t.state.CompareAndSwap(0, turnHeld) }

// enqueue takes the turn if it has become free, and returns nil; else it returns a channel that is closed when the turn is given.
func (t *turn) enqueue() chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.state.Or(turnWanted); old&turnHeld == 0 {
		t.state.Store(t.heldLocked())
		return nil
	}
	ready := make(chan struct{})
	t.waiters = append(t.waiters, ready)
	return ready
}

// abandon leaves the queue. It reports true if the turn was given in the meantime: then the caller has it.
func (t *turn) abandon(ready chan struct{}) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.Index(t.waiters, ready)
	if i < 0 {
		return true
	}
	t.waiters = slices.Delete(t.waiters, i, i+1)
	if len(t.waiters) == 0 {
		t.state.And(^int32(turnWanted))
	}
	return false
}

func (t *turn) heldLocked() int32 {
	if len(t.waiters) > 0 {
		return turnHeld | turnWanted
	}
	return turnHeld
}

// unlock gives the turn to the first who waits, or frees it.
func (t *turn) unlock() {
	if t.state.CompareAndSwap(turnHeld, 0) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiters) == 0 {
		t.state.Store(0)
		return
	}
	next := t.waiters[0]
	t.waiters = slices.Delete(t.waiters, 0, 1)
	t.state.Store(t.heldLocked())
	close(next)
}
