package lane

import (
	"sync"
	"time"

	"github.com/khelp/khelp/shared"
)

// table holds the chains that are unanswered. A sequence number is the chain's place in the table, the call's place in the chain and
// the generation of the place, so that a reply to a call that has ended finds nothing.
type table struct {
	mu      sync.Mutex // protects the following fields
	entries []entry
	free    []uint32 // indices of entries without a chain
	armed   time.Time
	timer   *time.Timer // runs expire; stopped while the table is empty and nothing is armed
	closed  bool
	cause   shared.Cause // why it was closed
	err     error
	counts  Counts
	idle    chan struct{}  // closed when no chain is unanswered; nil: nobody waits for that
	telling sync.WaitGroup // runs of expire that call handlers; none begins once closed is set
}

// entry is one place of the table.
type entry struct {
	handler  Handler // nil: free
	gen      uint32
	next     uint16 // the call whose reply comes next
	calls    uint16
	busy     bool // the receiver is in handler.Reply; nobody else may end the chain
	timeout  time.Duration
	deadline time.Time
	timeouts []time.Duration // of the calls, for chains of more than one with different limits
}

const (
	callBits  = 12
	indexBits = 20
	maxChains = 1 << indexBits
)

func seq(gen, index uint32, call int) uint64 {
	return uint64(gen)<<(indexBits+callBits) | uint64(index)<<callBits | uint64(call)
}

func split(seq uint64) (gen, index uint32, call int) {
	return uint32(seq >> (indexBits + callBits)), uint32(seq>>callBits) & (maxChains - 1), int(seq & (1<<callBits - 1))
}

// add puts a chain in and returns the sequence number of its first call. The error says why the lane is closed.
func (t *table) add(c *Chain, now time.Time) (uint64, shared.Cause, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return 0, t.cause, t.err
	}
	index, ok := t.placeLocked()
	if !ok {
		return 0, shared.CauseOverload, shared.ErrOverload.Errorf("%d chains are unanswered", maxChains)
	}
	e := &t.entries[index]
	e.handler, e.next, e.calls, e.busy = c.Handler, 0, uint16(len(c.Calls)), false
	e.timeout = c.Calls[0].Timeout
	e.timeouts = e.timeouts[:0]
	if len(c.Calls) > 1 {
		for _, call := range c.Calls {
			e.timeouts = append(e.timeouts, call.Timeout)
		}
	}
	e.deadline = now.Add(e.timeout)
	t.armLocked(e.deadline, now)
	return seq(e.gen, index, 0), shared.CauseNone, nil
}

func (t *table) placeLocked() (uint32, bool) {
	if n := len(t.free); n > 0 {
		index := t.free[n-1]
		t.free = t.free[:n-1]
		return index, true
	}
	if len(t.entries) == maxChains {
		return 0, false
	}
	t.entries = append(t.entries, entry{gen: 1})
	return uint32(len(t.entries) - 1), true
}

// armLocked sees to it that expire runs at the deadline or before.
func (t *table) armLocked(deadline, now time.Time) {
	if !t.armed.IsZero() && !deadline.Before(t.armed) {
		return
	}
	t.armed = deadline
	if t.timer == nil {
		t.timer = time.AfterFunc(deadline.Sub(now), t.expire)
		return
	}
	t.timer.Reset(deadline.Sub(now))
}

// freeLocked ends the chain at a place.
func (t *table) freeLocked(index uint32) {
	e := &t.entries[index]
	e.handler = nil
	if e.gen++; e.gen == 0 { // 0 is no generation
		e.gen = 1
	}
	t.free = append(t.free, index)
	if t.idle != nil && len(t.free) == len(t.entries) {
		close(t.idle)
		t.idle = nil
	}
}

// whenIdle returns a channel that is closed when no chain is unanswered, or nil if none is.
func (t *table) whenIdle() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.free) == len(t.entries) {
		return nil
	}
	if t.idle == nil {
		t.idle = make(chan struct{})
	}
	return t.idle
}

// claim finds whose reply a sequence number is. If the chain has calls left its place is marked busy until settle; else the place is
// freed. A nil handler means that the reply fits nothing, or, with wrong set, that it fits a chain but not the call that is next: then
// the chain has been ended and wrong is whom to tell.
func (t *table) claim(s uint64) (handler Handler, call int, last bool, wrong Handler) {
	gen, index, call := split(s)
	t.mu.Lock()
	defer t.mu.Unlock()
	if int(index) >= len(t.entries) {
		t.counts.Stray++
		return nil, 0, false, nil
	}
	e := &t.entries[index]
	switch {
	case gen > e.gen || gen == 0 || gen == e.gen && e.handler == nil:
		t.counts.Stray++
		return nil, 0, false, nil
	case gen < e.gen || call < int(e.next):
		t.counts.Late++
		return nil, 0, false, nil
	case call != int(e.next):
		wrong, call = e.handler, int(e.next)
		t.freeLocked(index)
		return nil, call, false, wrong
	}
	handler, last = e.handler, call == int(e.calls)-1
	if last {
		t.freeLocked(index)
	} else {
		e.next++
		e.busy = true
	}
	return handler, call, last, nil
}

// settle ends what claim began for a chain with calls left: the next call's time begins.
func (t *table) settle(s uint64, now time.Time) {
	_, index, call := split(s)
	t.mu.Lock()
	defer t.mu.Unlock()
	e := &t.entries[index]
	e.busy = false
	e.timeout = e.timeouts[call+1]
	e.deadline = now.Add(e.timeout)
	t.armLocked(e.deadline, now)
}

// abandon ends a chain whose caller waits no longer. It reports whether it did: if not, the chain has ended, or is ending, otherwise.
func (t *table) abandon(s uint64) bool {
	gen, index, _ := split(s)
	t.mu.Lock()
	defer t.mu.Unlock()
	e := &t.entries[index]
	if e.gen != gen || e.handler == nil || e.busy {
		return false
	}
	t.freeLocked(index)
	return true
}

// late is one chain whose time is over.
type late struct {
	handler Handler
	call    int
	timeout time.Duration
}

// expire fails the chains whose time is over and arms the timer for the next.
func (t *table) expire() {
	now := time.Now()
	var over []late
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return
	}
	t.armed = time.Time{}
	var next time.Time
	for i := range t.entries {
		e := &t.entries[i]
		if e.handler == nil {
			continue
		}
		deadline := e.deadline
		if !deadline.After(now) {
			if !e.busy {
				over = append(over, late{e.handler, int(e.next), e.timeout})
				t.freeLocked(uint32(i))
				continue
			}
			deadline = now.Add(time.Millisecond)
		}
		if next.IsZero() || deadline.Before(next) {
			next = deadline
		}
	}
	if !next.IsZero() {
		t.armLocked(next, now)
	}
	t.telling.Add(1)
	defer t.telling.Done()
	t.mu.Unlock()
	for _, l := range over {
		l.handler.Fail(l.call, shared.CauseTimeout, shared.ErrTimeout.Errorf("no reply within %v", l.timeout))
	}
}

// close takes no more chains, fails those that are unanswered and waits until every handler has been told. The receiver calls it when it
// has ended, so no place is busy.
func (t *table) close(cause shared.Cause, err error) {
	var rest []late
	t.mu.Lock()
	if !t.closed {
		t.closed, t.cause, t.err = true, cause, err
		for i := range t.entries {
			if e := &t.entries[i]; e.handler != nil {
				rest = append(rest, late{handler: e.handler, call: int(e.next)})
				t.freeLocked(uint32(i))
			}
		}
		if t.timer != nil {
			t.timer.Stop()
		}
	}
	t.mu.Unlock()
	for _, l := range rest {
		l.handler.Fail(l.call, cause, err)
	}
	t.telling.Wait()
}

func (t *table) read() Counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.counts
}
