package host

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/internal/lane"
	"github.com/khelp/khelp/host/osd"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

const (
	chainCalls = 512       // calls of one chain
	chainBytes = 512 << 10 // bytes of context in one chain
	idleBytes  = 512       // larger buffers are not kept by an idle queue
	keepBytes  = 64 << 10  // nor by a chain that waits to be used again
)

// serial keeps one helper's calls on one object in order: one chain is under way, what comes meanwhile is queued. Asynchronous calls
// that stand together become the next chain; a synchronous call waits for its turn and goes alone.
type serial struct {
	mu    sync.Mutex // protects the following fields
	busy  bool       // a chain, or the holder of the turn, is under way
	queue []queued
	buf   []byte // the contexts of the queue's asynchronous calls
}

// queued is one call in the queue, or in a chain.
type queued struct {
	inv      hhook.Invocation // without its context
	kind     wire.CallKind
	timeout  time.Duration
	off, len int           // of the context in the buffer
	place    place         // in the helper's room
	turn     chan struct{} // closed when a synchronous caller's turn has come; nil: asynchronous
	target   *remote
}

// newDataSlot returns a slot for a helper's data on an object.
func newDataSlot(hp *helper, data []byte) *osd.Slot { return osd.NewSlot(hp.id, data, &serial{}) }

func serialOf(slot *osd.Slot) *serial { return slot.Serial().(*serial) }

// lock takes the turn, waiting until the deadline, and reports whether it has it.
func (s *serial) lock(ctx context.Context, deadline time.Time) bool {
	s.mu.Lock()
	if !s.busy {
		s.busy = true
		s.mu.Unlock()
		return true
	}
	turn := make(chan struct{})
	s.queue = append(s.queue, queued{turn: turn})
	s.mu.Unlock()
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case <-turn:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return s.leave(turn)
}

// leave gives up waiting. It reports true if the turn came in the meantime: then the caller has it.
func (s *serial) leave(turn chan struct{}) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.queue {
		if s.queue[i].turn == turn {
			s.queue = slices.Delete(s.queue, i, i+1)
			return false
		}
	}
	return true
}

// put queues an asynchronous call, or takes the turn for it: then it is not queued, and the caller sends it.
func (s *serial) put(q queued, msg []byte) (mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.busy {
		s.busy = true
		return true
	}
	q.off, q.len = len(s.buf), len(msg)
	s.buf = append(s.buf, msg...)
	s.queue = append(s.queue, q)
	return false
}

// next passes the turn on: to a synchronous caller, or to the queued calls up to the next of those, which it moves into c and reports.
func (s *serial) next(c *chain) (send bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		s.busy = false
		s.queue = nil
		s.buf = s.buf[:0]
		if cap(s.buf) > idleBytes {
			s.buf = nil
		}
		return false
	}
	if turn := s.queue[0].turn; turn != nil {
		s.queue = slices.Delete(s.queue, 0, 1)
		close(turn)
		return false
	}
	s.moveLocked(c)
	return true
}

// moveLocked moves the head of the queue into c.
func (s *serial) moveLocked(c *chain) {
	n, end := 0, 0
	for _, q := range s.queue {
		if q.turn != nil || n == chainCalls || n > 0 && q.off+q.len > chainBytes {
			break
		}
		n, end = n+1, q.off+q.len
	}
	if n == len(s.queue) {
		c.calls, s.queue = s.queue, c.calls[:0]
		c.buf, s.buf = s.buf, c.buf[:0]
		return
	}
	c.calls = append(c.calls[:0], s.queue[:n]...)
	c.buf = append(c.buf[:0], s.buf[:end]...)
	s.queue = slices.Delete(s.queue, 0, n)
	s.buf = s.buf[:copy(s.buf, s.buf[end:])]
	for i := range s.queue {
		if s.queue[i].turn == nil {
			s.queue[i].off -= end
		}
	}
}

// laneCalls returns the chain's calls as the lane wants them.
func (c *chain) laneCalls(in *instance) ([]lane.Call, error) {
	c.wire = c.wire[:0]
	for i := range c.calls {
		q := &c.calls[i]
		index, ok := q.target.indexIn(in)
		if !ok {
			return nil, shared.ErrNotExist.Errorf("%s has no hook on %s any more", c.helper.name, q.target.hook.Point)
		}
		c.wire = append(c.wire, lane.Call{Kind: q.kind, Hook: index, Context: c.buf[q.off : q.off+q.len], Timeout: q.timeout})
	}
	return c.wire, nil
}
