package helper

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// requestTimeout bounds a request to the host whose context has no deadline.
const requestTimeout = 30 * time.Second

// control is the control stream as seen by the goroutines that send on it.
type control struct {
	sendMu sync.Mutex // serialises sends
	stream wire.Helper_ControlServer

	// mu protects the following fields.
	mu      sync.Mutex
	closed  bool
	next    uint64
	pending map[uint64]waiter // requests of ours without an answer
}

func newControl(stream wire.Helper_ControlServer) *control {
	return &control{stream: stream, pending: map[uint64]waiter{}}
}

func (c *control) send(m *wire.ControlToHost) error {
	c.sendMu.Lock()
	defer c.sendMu.Unlock()
	return c.stream.Send(m)
}

// waiter is who waits for an answer.
type waiter struct {
	answer chan *wire.Answer  // holds one; nil: nobody waits any more
	late   func(*wire.Answer) // takes an answer for which nobody waits; nil: it is dropped
}

// ask sends a request and waits for its answer, the context's end, or the stream's. There is no answer if the error is not the host's.
func (c *control) ask(ctx context.Context, m *wire.ControlToHost) (*wire.Answer, error) {
	return c.askFor(ctx, m, nil)
}

// askFor is ask; late gets the answer if it comes after the context has ended. It runs on the goroutine that reads the stream.
func (c *control) askFor(ctx context.Context, m *wire.ControlToHost, late func(*wire.Answer)) (*wire.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	answer := make(chan *wire.Answer, 1)
	if err := c.begin(m, waiter{answer, late}); err != nil {
		return nil, err
	}
	select {
	case a, ok := <-answer:
		return outcome(a, ok)
	case <-ctx.Done():
	}
	if c.abandon(m.Id) {
		return nil, &unansweredError{shared.FromCode(codeOf(ctx.Err()), "the host did not answer in time")}
	}
	a, ok := <-answer // it came at the same moment
	return outcome(a, ok)
}

// outcome is what an answer means; ok tells whether there is one.
func outcome(a *wire.Answer, ok bool) (*wire.Answer, error) {
	if !ok {
		return nil, hostGone()
	}
	return a, a.GetStatus().Err()
}

func hostGone() error { return shared.ErrClosed.Errorf("the host is gone") }

// unansweredError is the error of a request whose outcome is not known.
type unansweredError struct{ err error }

func (e *unansweredError) Error() string { return e.err.Error() }
func (e *unansweredError) Unwrap() error { return e.err }

func unanswered(err error) bool {
	var e *unansweredError
	return errors.As(err, &e)
}

// tell sends a request without waiting; late gets the answer.
func (c *control) tell(m *wire.ControlToHost, late func(*wire.Answer)) {
	_ = c.begin(m, waiter{late: late}) // if the host is gone there is nobody to tell
}

// begin gives a request its number and sends it.
func (c *control) begin(m *wire.ControlToHost, w waiter) error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return hostGone()
	}
	c.next++
	m.Id = c.next
	c.pending[m.Id] = w
	c.mu.Unlock()
	if err := c.send(m); err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.pending, m.Id)
		return shared.ErrClosed.Errorf("the host is gone: %w", err)
	}
	return nil
}

// abandon gives up waiting for an answer. It reports false if there is one already, or is none to come.
func (c *control) abandon(id uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	w, ok := c.pending[id]
	switch {
	case !ok:
		return false
	case w.late == nil:
		delete(c.pending, id)
	default:
		c.pending[id] = waiter{late: w.late}
	}
	return true
}

// answered gives an answer to whoever waits for it. One that nobody waits for came too late, or twice, and is dropped.
func (c *control) answered(id uint64, a *wire.Answer) {
	c.mu.Lock()
	w := c.pending[id]
	delete(c.pending, id)
	c.mu.Unlock()
	switch {
	case w.answer != nil:
		w.answer <- a
	case w.late != nil:
		w.late(a)
	}
}

// close fails all requests that wait, and all to come.
func (c *control) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for id, w := range c.pending {
		delete(c.pending, id)
		if w.answer != nil {
			close(w.answer)
		}
	}
}
