package hhook

import (
	"context"
	"sync"
	"sync/atomic"
)

// snapshot is an immutable list of hooks together with the runs that use it. A list that is replaced is retired: it takes no new
// runs, and drained is closed when the last of the old ones has gone.
type snapshot struct {
	hooks   []*Hook
	skipped []bool // which hooks are suspended; nil: none
	remote  bool   // some hook leaves the process, so deadlines matter
	users   atomic.Int64
	drained chan struct{}
	close   sync.Once
}

// retired is a bit of users, high above any count of them.
const retired = 1 << 62

// newSnapshot is called with the head's lock held, which guards the hooks' suspended.
func newSnapshot(hooks []*Hook) *snapshot {
	s := &snapshot{hooks: hooks, drained: make(chan struct{})}
	for i, h := range hooks {
		if h.suspended {
			if s.skipped == nil {
				s.skipped = make([]bool, len(hooks))
			}
			s.skipped[i] = true
			continue
		}
		s.remote = s.remote || !h.InProc
	}
	return s
}

// acquire adds a user, unless the snapshot is retired.
func (s *snapshot) acquire() bool {
	if s.users.Add(1)&retired == 0 {
		return true
	}
	s.release()
	return false
}

// hold adds a user on behalf of one that is there.
func (s *snapshot) hold() { s.users.Add(1) }

func (s *snapshot) release() {
	if s.users.Add(-1) == retired {
		s.close.Do(func() { close(s.drained) })
	}
}

func (s *snapshot) retire() {
	if s.users.Add(retired) == retired {
		s.close.Do(func() { close(s.drained) })
	}
}

// wait waits until the last user has gone.
func (s *snapshot) wait(ctx context.Context) error {
	select {
	case <-s.drained:
		return nil
	default:
	}
	select {
	case <-s.drained:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
