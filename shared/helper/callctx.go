package helper

import (
	"context"
	"sync"
	"time"
)

// callContext is the context of one call. Most hooks never ask for it, so it has a deadline but makes no timer and no channel until
// Done, and a runner uses it again for the next call if nobody asked.
type callContext struct {
	parent   context.Context
	deadline time.Duration // since epoch; 0: none

	// mu protects the following fields: a hook may hand its context to goroutines.
	mu     sync.Mutex
	inner  context.Context // the real thing, once Done was asked for
	cancel context.CancelFunc
}

// Deadline returns when the host stops waiting for this call.
func (c *callContext) Deadline() (time.Time, bool) {
	if c.deadline != 0 {
		return epoch.Add(c.deadline), true
	}
	return c.parent.Deadline()
}

// Done is closed at the deadline, when the helper ends, and when the call is over.
func (c *callContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inner == nil {
		if c.deadline != 0 {
			c.inner, c.cancel = context.WithDeadline(c.parent, epoch.Add(c.deadline))
		} else {
			c.inner, c.cancel = context.WithCancel(c.parent)
		}
	}
	return c.inner.Done()
}

// Err says why Done is, or would be, closed.
func (c *callContext) Err() error {
	c.mu.Lock()
	inner := c.inner
	c.mu.Unlock()
	switch {
	case inner != nil:
		return inner.Err()
	case c.parent.Err() != nil:
		return c.parent.Err()
	case c.deadline != 0 && now() >= c.deadline:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// Value asks the real context if there is one: the standard library finds it so and needs no goroutine for contexts derived from it.
func (c *callContext) Value(key any) any {
	c.mu.Lock()
	inner := c.inner
	c.mu.Unlock()
	if inner != nil {
		return inner.Value(key)
	}
	return c.parent.Value(key)
}

// end ends the call and says whether the context may serve another one.
func (c *callContext) end() (reusable bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inner == nil {
		return true
	}
	c.cancel()
	return false
}
