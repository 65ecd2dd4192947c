package hhook

import (
	"context"
	"sync"
	"time"

	"github.com/khelp/khelp/host/osd"
	"github.com/khelp/khelp/shared"
)

// Target is what a hook calls: a function in this process, or a helper in its own. Its methods are safe for concurrent use and
// do not panic.
type Target interface {
	// Call runs the hook and waits for it, no longer than the invocation's deadline and ctx allow. It says in inv.Out what became of it,
	// which it finds zero, as Queue does.
	Call(ctx context.Context, inv *Invocation)
	// Queue has the hook run some time, in order with the helper's other calls on the object, and sees to it that Done is called once, on
	// inv or on a copy. It copies the context. If the queue is full it waits for a place until the deadline.
	Queue(ctx context.Context, inv *Invocation)
}

// Invocation is one call of one hook on its way to a Target, which has it until Call or Queue returns.
type Invocation struct {
	Hook     *Hook
	Object   *osd.Object // nil: none
	Slot     *osd.Slot   // the helper's data on the object; nil: none
	Context  []byte      // borrowed until Call or Queue returns
	Deadline time.Time   // the head's budget ends here; zero on heads whose hooks are all in process
	Out      Outcome     // what became of it, after Call
	Scratch  any         // what some Target left for whoever is called next; may be of any type

	snap    *snapshot // held by a queued invocation until Done
	skipped bool      // it has been counted as one that was not to be made
}

// invocations are used again, so that a run allocates nothing: they are large enough for copies to cost more than a builtin hook.
var invocations = sync.Pool{New: func() any { return new(Invocation) }}

// recycle lets go of what the invocation refers to. Field by field, for that is half the cost of clearing it whole.
func (inv *Invocation) recycle() {
	inv.Hook, inv.Object, inv.Slot, inv.Context, inv.snap = nil, nil, nil, nil, nil
	inv.Out = Outcome{}
	inv.skipped = false
	invocations.Put(inv)
}

// aim points the invocation at hook i, and reports whether that is to be called: it is not if it is suspended, or needs data on the
// object and there is none.
func (inv *Invocation) aim(s *snapshot, i int) bool {
	hook := s.hooks[i]
	if inv.Hook != nil {
		inv.Out, inv.Slot, inv.skipped = Outcome{}, nil, false
	}
	inv.Hook = hook
	if inv.Object != nil {
		inv.Slot = inv.Object.Slot(hook.ID)
	}
	if hook.NeedsOSD && inv.Slot == nil || i < len(s.skipped) && s.skipped[i] {
		hook.stats.skip()
		return false
	}
	return true
}

// Redirect turns the invocation of a hook into that of another on the same head, which is counted in its stead: for a Target that finds
// out only when it is called who is to be called. It reports false if the other has no data on the object and needs some; then that has
// been counted, and there is nobody to call.
func (inv *Invocation) Redirect(to *Hook) bool {
	inv.Hook, inv.Slot = to, nil
	if inv.Object != nil {
		inv.Slot = inv.Object.Slot(to.ID)
	}
	if to.NeedsOSD && inv.Slot == nil {
		inv.Skip()
		return false
	}
	return true
}

// Skip counts the invocation as one that was not to be made: for a Target that finds out only when it is called that its hook is gone.
func (inv *Invocation) Skip() {
	inv.Hook.stats.skip()
	inv.skipped = true
}

// Done ends a queued invocation: the Target calls it once, with how long the helper took, or 0 if that is not known.
func (inv *Invocation) Done(out Outcome, took time.Duration) {
	if !inv.skipped {
		inv.Hook.stats.end(out.Cause, took)
	}
	inv.snap.release()
}

// Queued reports whether nobody waits for the outcome.
func (inv *Invocation) Queued() bool { return inv.snap != nil }

// Outcome is what became of one call.
type Outcome struct {
	Cause   shared.Cause // CauseNone: the call committed, data and all
	Err     error        // what went wrong, if Cause is set
	Reject  bool         // the hook rejects
	Reason  string       // why
	Context []byte       // what replaces the context; nil: nothing
}

// Failed returns the outcome of a call that did not commit.
func Failed(cause shared.Cause, err error) Outcome { return Outcome{Cause: cause, Err: err} }

// HookConfig describes a hook to be added to a head. Target and Helper are required.
type HookConfig struct {
	Helper   string
	ID       shared.HelperID // also the load order
	Index    uint32          // the helper's number for the function
	UData    []byte          // tells hooks with the same function apart
	NeedsOSD bool            // skipped for objects without a slot
	InProc   bool            // runs in this process: durations are sampled and there is no deadline
	Timeout  time.Duration   // of one call; 0: only the head's budget
	Order    shared.Order
	Requires []string // helpers whose hooks go first, unless Order says otherwise
	Policy   Policy
	Target   Target
}

// Hook is one function of one helper on one head: struct hookinfo. It is safe for concurrent use.
type Hook struct {
	HookConfig
	suspended bool             // protected by the head's mu
	point     shared.HookPoint // set when it is first added to a head
	seq       uint64           // and its place among those added; the head's mu protects it
	stats     *Stats
}

// NewHook returns a hook that can be added to one head.
func NewHook(cfg HookConfig) *Hook { return &Hook{HookConfig: cfg, stats: new(Stats)} }

// Successor returns a hook that goes on counting where h has got to, for Replace. It is the same function, perhaps of another process, or
// of another id.
func (h *Hook) Successor(cfg HookConfig) *Hook { return &Hook{HookConfig: cfg, stats: h.stats} }

// Point returns the point of the head that the hook has been added to.
func (h *Hook) Point() shared.HookPoint { return h.point }

// Stats returns the hook's counters.
func (h *Hook) Stats() *Stats { return h.stats }

// same reports whether two hooks are the same function of the same helper with the same udata.
func (h *Hook) same(other *Hook) bool {
	return h.ID == other.ID && h.Index == other.Index && string(h.UData) == string(other.UData) && h.Helper == other.Helper
}

// Verdict is what the run of a head came to.
type Verdict struct {
	Rejected bool
	Helper   string       // who rejected, or whose failure did
	Cause    shared.Cause // the failure that rejected; CauseNone if the hook itself did
	Reason   string
	Context  []byte // on mutable heads, what the hooks made of the context; nil: unchanged
}

// Err returns nil for a verdict that passes, else an error that wraps shared.ErrRejected.
func (v Verdict) Err() error {
	switch {
	case !v.Rejected:
		return nil
	case v.Cause != shared.CauseNone:
		return shared.ErrRejected.Errorf("rejected because %s failed (%s): %s", v.Helper, v.Cause, v.Reason)
	default:
		return shared.ErrRejected.Errorf("rejected by %s: %s", v.Helper, v.Reason)
	}
}
