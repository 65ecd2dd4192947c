package hhook

import (
	"context"
	"time"

	"github.com/khelp/khelp/host/osd"
	"github.com/khelp/khelp/shared"
)

// sampleEvery is how many calls of an in-process hook go by for one that is timed: reading the clock twice costs more than the hook.
const sampleEvery = 64

// Run passes the point: every hook on it runs with msg as its context, in order (hhook_run_hooks). Obj may be nil. Msg is borrowed until Run
// returns. On an async head Run queues and returns, after waiting for a place within the head's budget at most.
//
// Run returns within the budget and 20 ms of its entry. The verdict tells whether to go on; the error is ErrClosed on a closed head,
// and never tells of a hook's failure, which the policy has decided. Safe for concurrent use: runs on one object take turns, in the
// order in which they came, and runs on different objects go side by side.
func (h *Head) Run(ctx context.Context, obj *osd.Object, msg []byte) (v Verdict, err error) {
	s := h.snap.Load()
	for s != nil && !s.acquire() {
		s = h.snap.Load()
	}
	if s == nil {
		return v, h.closedErr()
	}
	var deadline time.Time
	if s.remote {
		deadline = time.Now().Add(h.opts.Budget)
	}
	// No defers: they cost as much as a hook, and no Target panics.
	switch {
	case h.opts.Async:
		h.queue(ctx, s, obj, msg, deadline)
	case obj == nil:
		h.chain(ctx, s, nil, msg, deadline, &v)
	case h.lock(ctx, obj, deadline):
		h.chain(ctx, s, obj, msg, deadline, &v)
		obj.Unlock()
	default:
		h.failAll(s, obj, &v)
	}
	s.release()
	return v, nil
}

// closedErr tells a head without hooks from one that is closed.
func (h *Head) closedErr() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closing {
		return shared.ErrClosed.Errorf("hook point %s is closed", h.point)
	}
	return nil
}

func (h *Head) lock(ctx context.Context, obj *osd.Object, deadline time.Time) bool {
	if !deadline.IsZero() {
		return obj.Lock(ctx, deadline)
	}
	if obj.TryLock() {
		return true
	}
	return obj.Lock(ctx, time.Now().Add(h.opts.Budget))
}

// chain runs the hooks one after another.
func (h *Head) chain(ctx context.Context, s *snapshot, obj *osd.Object, msg []byte, deadline time.Time, v *Verdict) {
	inv := invocations.Get().(*Invocation)
	inv.Object, inv.Context, inv.Deadline = obj, msg, deadline
	for i, hook := range s.hooks {
		if !inv.aim(s, i) {
			continue
		}
		hook.call(ctx, inv)
		if h.judge(v, inv) {
			skipRest(s.hooks[i+1:])
			break
		}
	}
	inv.recycle()
}

// judge turns an outcome into the verdict and reports whether the chain ends there.
func (h *Head) judge(v *Verdict, inv *Invocation) bool {
	out := &inv.Out
	if out.Cause != shared.CauseNone {
		return h.judgeFailure(v, inv)
	}
	if out.Reject && h.opts.Kind == Filter {
		*v = Verdict{Rejected: true, Helper: inv.Hook.Helper, Reason: out.Reason, Context: v.Context}
		return true
	}
	if out.Context != nil && h.opts.Mutable {
		inv.Context, v.Context = out.Context, out.Context
	}
	return false
}

func (h *Head) judgeFailure(v *Verdict, inv *Invocation) bool {
	out := &inv.Out
	if h.opts.Kind != Filter || Decide(h.opts.Kind, inv.Hook.Policy, out.Cause) != shared.Closed {
		return false
	}
	reason := string(out.Cause)
	if out.Err != nil {
		reason = out.Err.Error()
	}
	*v = Verdict{Rejected: true, Helper: inv.Hook.Helper, Cause: out.Cause, Reason: reason, Context: v.Context}
	return true
}

// skipRest counts the hooks that a reject kept from being called, so that every helper's counts add up to the points passed.
func skipRest(hooks []*Hook) {
	for _, hook := range hooks {
		hook.stats.skip()
	}
}

// failAll is the verdict of a run that did not get the object's turn in time: every hook missed it by timeout.
func (h *Head) failAll(s *snapshot, obj *osd.Object, v *Verdict) {
	inv := &Invocation{Object: obj}
	for i, hook := range s.hooks {
		if !inv.aim(s, i) {
			continue
		}
		inv.Out = Failed(shared.CauseTimeout, shared.ErrTimeout.Errorf("object %d did not become free within %v", obj.ID(), h.opts.Budget))
		hook.stats.end(inv.Out.Cause, 0)
		if h.judge(v, inv) {
			skipRest(s.hooks[i+1:])
			return
		}
	}
}

// call runs one hook and counts it.
func (h *Hook) call(ctx context.Context, inv *Invocation) {
	if h.InProc && h.stats.committed.Load()%sampleEvery != 0 {
		h.Target.Call(ctx, inv)
		inv.count(0)
		return
	}
	start := time.Now()
	h.Target.Call(ctx, inv)
	inv.count(time.Since(start))
}

// count counts a call that has ended for whom it was: another hook's, if it was redirected.
func (inv *Invocation) count(took time.Duration) {
	if !inv.skipped {
		inv.Hook.stats.end(inv.Out.Cause, took)
	}
}

// queue hands the invocation to every hook's target.
func (h *Head) queue(ctx context.Context, s *snapshot, obj *osd.Object, msg []byte, deadline time.Time) {
	inv := invocations.Get().(*Invocation)
	inv.Object, inv.Context, inv.Deadline, inv.snap = obj, msg, deadline, s
	for i, hook := range s.hooks {
		if !inv.aim(s, i) {
			continue
		}
		s.hold()
		hook.Target.Queue(ctx, inv)
	}
	inv.recycle()
}
