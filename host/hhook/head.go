package hhook

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/khelp/khelp/shared"
)

// Options describe a head. The zero value is a synchronous observe head with the default budget.
type Options struct {
	Kind    Kind
	Async   bool          // Run queues and returns; observe heads only
	Mutable bool          // hooks may replace the context for those after them and for the caller
	Budget  time.Duration // for the whole chain, waiting for the object's turn included; 0: shared.DefaultBudget
	Context string        // full name of the protobuf message that the context is, such as khelp.tcp.v1.Segment
	// Forwarded returns how often the subsystem, by its own count, passed the point. It must be safe for concurrent use. May be nil.
	Forwarded func() uint64
}

// Head is one point with its hooks: struct hhook_head. It is safe for concurrent use.
type Head struct {
	point shared.HookPoint
	vnet  string
	opts  Options
	close func(*Head) // tells the registry that the head is gone

	snap atomic.Pointer[snapshot] // nil: no hooks

	mu      sync.Mutex  // protects the following fields and every change of snap
	old     []*snapshot // retired and perhaps still in use
	added   uint64      // how many hooks have been added, ever
	refs    int         // the registrant's included
	closing bool
}

// NewHead returns a head that its registrant holds one reference to: hhook_head_register. closed is called once when it is closed;
// it may be nil. The error is ErrInvalid for options that contradict each other.
func NewHead(point shared.HookPoint, vnet string, opts Options, closed func(*Head)) (*Head, error) {
	if err := point.Validate(); err != nil {
		return nil, err
	}
	switch {
	case opts.Async && opts.Kind == Filter:
		return nil, shared.ErrInvalid.Errorf("%s cannot be async and filter: nobody would wait for the verdict", point)
	case opts.Async && opts.Mutable:
		return nil, shared.ErrInvalid.Errorf("%s cannot be async and mutable: nobody would wait for the new context", point)
	case opts.Budget < 0:
		return nil, shared.ErrInvalid.Errorf("%s: budget %v is negative", point, opts.Budget)
	}
	if opts.Budget == 0 {
		opts.Budget = shared.DefaultBudget
	}
	return &Head{point: point, vnet: vnet, opts: opts, close: closed, refs: 1}, nil
}

// Point returns the head's point.
func (h *Head) Point() shared.HookPoint { return h.point }

// Vnet returns the vnet the head stands in.
func (h *Head) Vnet() string { return h.vnet }

// In returns " in vnet NAME" for sentences, or nothing for the default vnet.
func (h *Head) In() string {
	if h.vnet == "" {
		return ""
	}
	return " in vnet " + h.vnet
}

// Options returns what the head was registered with, defaults filled in.
func (h *Head) Options() Options { return h.opts }

// Enabled reports whether there is a hook: one atomic load, so that a point without hooks costs its call site next to nothing.
func (h *Head) Enabled() bool { return h.snap.Load() != nil }

// Hooks returns the hooks in the order in which they run.
func (h *Head) Hooks() []*Hook {
	if s := h.snap.Load(); s != nil {
		return slices.Clone(s.hooks)
	}
	return nil
}

// Ref takes a reference: hhook_head_get. It returns ErrClosed if the head is closing.
func (h *Head) Ref() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closing {
		return shared.ErrClosed.Errorf("hook point %s is closed", h.point)
	}
	h.refs++
	return nil
}

// Release gives a reference of Ref back: hhook_head_release.
func (h *Head) Release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.refs > 1 {
		h.refs--
	}
}

// Refs returns how many references there are, the registrant's included.
func (h *Head) Refs() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.refs
}

// Add adds hooks, all or none: hhook_add_hook. A hook that is there already (same helper, function and udata) is ErrExist; an order
// that contradicts itself is ErrInvalid; a closed head is ErrClosed.
func (h *Head) Add(hooks ...*Hook) error { return h.Replace(nil, hooks) }

// Replace puts other hooks in the place of some, in one step: a run has either these or those. The errors are those of Add; then nothing
// has changed. A Successor takes over the place of the hook it succeeds and, with the same id, whether that was suspended.
func (h *Head) Replace(old, hooks []*Hook) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closing {
		return shared.ErrClosed.Errorf("hook point %s is closed", h.point)
	}
	list := slices.DeleteFunc(h.Hooks(), func(x *Hook) bool { return slices.Contains(old, x) })
	for _, hook := range hooks {
		if slices.ContainsFunc(list, hook.same) {
			return shared.ErrExist.Errorf("%s has hook %d on %s already", hook.Helper, hook.Index, h.point)
		}
		list = append(list, hook)
	}
	for _, hook := range hooks {
		if hook.seq == 0 { // a hook that comes back keeps its place, and runs that still have it are not disturbed
			h.added++
			hook.seq, hook.point = h.added, h.point
		}
		if i := slices.IndexFunc(old, func(x *Hook) bool { return x.stats == hook.stats }); i >= 0 {
			hook.seq, hook.suspended = old[i].seq, old[i].suspended && old[i].ID == hook.ID
		}
	}
	sorted, err := sortHooks(list)
	if err != nil {
		return err
	}
	h.setLocked(sorted)
	return nil
}

// sortHooks puts hooks in running order. Ids stand for the order of loading, and within a helper the order of first adding counts, so
// a hook that was taken out comes back to its old place.
func sortHooks(list []*Hook) ([]*Hook, error) {
	slices.SortFunc(list, func(a, b *Hook) int { return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.seq, b.seq)) })
	keys := make([]shared.Ordered, len(list))
	for i, h := range list {
		keys[i] = shared.Ordered{Helper: h.Helper, Order: h.Order, Requires: h.Requires}
	}
	order, err := shared.SortHooks(keys)
	if err != nil {
		return nil, err
	}
	sorted := make([]*Hook, len(list))
	for i, j := range order {
		sorted[i] = list[j]
	}
	return sorted, nil
}

// Remove takes the given hooks out of the list: hhook_remove_hook. Runs that began before go on with them; Drain waits for those.
// Hooks that are not there do not matter.
func (h *Head) Remove(hooks ...*Hook) {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := slices.DeleteFunc(h.Hooks(), func(x *Hook) bool { return slices.Contains(hooks, x) })
	h.setLocked(list)
}

// Suspend has the given hooks passed over from now on, and counted as skipped, until Resume or Remove: for a helper that is about to
// leave, and may refuse to. They keep their places. Runs that began before go on with them; Drain waits for those.
func (h *Head) Suspend(hooks ...*Hook) { h.suspend(hooks, true) }

// Resume ends what Suspend began.
func (h *Head) Resume(hooks ...*Hook) { h.suspend(hooks, false) }

func (h *Head) suspend(hooks []*Hook, suspended bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closing {
		return
	}
	for _, hook := range hooks {
		hook.suspended = suspended
	}
	h.setLocked(h.Hooks())
}

// setLocked replaces the snapshot and retires the one before.
func (h *Head) setLocked(hooks []*Hook) {
	var next *snapshot
	if len(hooks) > 0 {
		next = newSnapshot(hooks)
	}
	if prev := h.snap.Swap(next); prev != nil {
		h.old = slices.DeleteFunc(h.old, func(s *snapshot) bool { return s.users.Load() == retired })
		h.old = append(h.old, prev)
		prev.retire()
	}
}

// Drain waits until no run, and no queued invocation, uses a list of hooks from before the last Add or Remove.
func (h *Head) Drain(ctx context.Context) error { return h.Draining()(ctx) }

// Draining returns a Drain that waits for those only that use a list from before now.
func (h *Head) Draining() func(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	old := slices.Clone(h.old)
	return func(ctx context.Context) error {
		for _, s := range old {
			if err := s.wait(ctx); err != nil {
				return shared.ErrTimeout.Errorf("%s still has runs under way: %w", h.point, err)
			}
		}
		return nil
	}
}

// Close ends the head: it stops new runs, drains those under way and takes the head out of its registry (hhook_head_deregister). While
// others hold references it is ErrBusy and nothing happens. If ctx ends before the drain, the head is closed all the same and the
// error says so. Closing twice is harmless.
func (h *Head) Close(ctx context.Context) error { return h.end(ctx, false) }

// Destroy is Close without regard for the references of others: for the end of a whole vnet.
func (h *Head) Destroy(ctx context.Context) error { return h.end(ctx, true) }

func (h *Head) end(ctx context.Context, force bool) error {
	h.mu.Lock()
	if h.closing {
		h.mu.Unlock()
		return nil
	}
	if h.refs > 1 && !force {
		defer h.mu.Unlock()
		return shared.ErrBusy.Errorf("hook point %s is held by %d others", h.point, h.refs-1)
	}
	h.closing = true
	h.setLocked(nil)
	h.mu.Unlock()
	err := h.Drain(ctx)
	if h.close != nil {
		h.close(h)
	}
	return err
}
