package host

import (
	"context"
	"errors"
	"time"

	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/shared"
)

// reinit gives a builtin other properties: it finishes and initialises itself again where it stands, for it has no process that could take
// over. Its id, its references, its data and the places of its hooks stay; these are passed over meanwhile. If it refuses the new
// properties it gets the old ones again, and if it does not take those either it has failed. One that is primed has yet to be
// initialised.
func (h *Host) reinit(ctx context.Context, s *step) error {
	if h.isPrimed(s.helper) {
		h.update([]*step{s})
		return s.Err
	}
	was, err := h.beginReinit(s.helper)
	if err != nil {
		return err
	}
	err = h.tryReinit(ctx, s, was)
	h.mu.Lock()
	defer h.mu.Unlock()
	s.helper.endLocked()
	if err == nil {
		h.staysLocked(s)
	}
	return err
}

func (h *Host) isPrimed(hp *helper) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return hp.state == shared.StatePrimed
}

func (h *Host) beginReinit(hp *helper) (was shared.State, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case hp.op != nil:
		return "", shared.ErrBusy.Errorf("%s is %s", hp.name, hp.doingLocked())
	case hp.state != shared.StateActive && hp.state != shared.StateFailed:
		return "", shared.ErrBusy.Errorf("%s is %s", hp.name, hp.state)
	}
	was = hp.state
	hp.beginLocked(0)
	return was, nil
}

// tryReinit makes what can be found out before anything ends come first.
func (h *Host) tryReinit(ctx context.Context, s *step, was shared.State) error {
	hp := s.helper
	old := hp.face.Load()
	asked, info := *old, hp.builtin.modinfo()
	asked.spec = s.spec
	next, err := asked.described(&info)
	if err != nil {
		return err
	}
	if _, err := next.properties(); err != nil {
		return err
	}
	undo := h.requirements(hp)
	l := &loading{} // see succeed
	if err = h.requireAll(ctx, hp, next, l); err == nil {
		err = h.exchange(ctx, hp, next, was)
	}
	if err != nil {
		undo()
		h.rollBack(ctx, l.brought, hp)
	}
	return err
}

// exchange finishes a builtin and initialises it with another face.
func (h *Host) exchange(ctx context.Context, hp *helper, next *face, was shared.State) error {
	h.mu.Lock()
	hp.state = shared.StateRestarting
	hp.suspendLocked()
	h.mu.Unlock()
	err := h.drain(ctx, hp)
	if err == nil {
		err = h.fini(ctx, hp, false)
	}
	if err != nil {
		h.comeBack(hp, was, nil)
		return err
	}
	if err = h.initBuiltin(ctx, hp, next); err == nil {
		if err = h.changeFace(hp, next); err == nil {
			return nil
		}
		_ = hp.finiBuiltin(ctx, h.cfg.StopTimeout, true)
	}
	again := h.initBuiltin(ctx, hp, hp.face.Load())
	h.comeBack(hp, shared.StateActive, again)
	return errors.Join(err, again)
}

// initBuiltin calls Init with a face's properties.
func (h *Host) initBuiltin(ctx context.Context, hp *helper, f *face) error {
	props, err := f.properties()
	if err != nil || hp.builtin.Init == nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, h.cfg.StartTimeout)
	defer cancel()
	if err := guarded(func() error { return hp.builtin.Init(ctx, props) }); err != nil {
		return wrap(err, "Init")
	}
	return nil
}

// changeFace makes another the face of a builtin that is initialised for it.
func (h *Host) changeFace(hp *helper, next *face) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	old, down := hp.face.Load(), hp.down
	hp.face.Store(next)
	hp.down = false
	if err := h.rebindLocked(hp); err != nil {
		hp.face.Store(old)
		hp.down = down
		return err
	}
	hp.resumeLocked()
	hp.dropRequirementsLocked()
	hp.resizeLocked()
	hp.state, hp.lastErr = shared.StateActive, ""
	hp.restarts++
	h.generation++
	h.publish(Event{Type: EventReplaced, Helper: hp.name, Message: "version " + next.info.Version})
	return nil
}

// comeBack ends what exchange began: the builtin is what it was, or has failed.
func (h *Host) comeBack(hp *helper, was shared.State, failed error) {
	h.mu.Lock()
	defer h.unlockAndSay()
	down := failed != nil || was == shared.StateFailed
	hp.state = shared.StateActive
	if down {
		hp.state = shared.StateFailed
	}
	if failed != nil {
		hp.lastErr, hp.changedAt = failed.Error(), time.Now()
		h.sayLocked(func() { hp.log.Error("it cannot be initialised again", "error", failed) })
		h.publish(hp.failedBuiltinLocked())
	} else if !down {
		hp.lastErr = ""
	}
	if hp.down != down {
		hp.down = down
		if err := h.rebindLocked(hp); err != nil {
			h.sayLocked(func() { hp.log.Error("its hooks do not fit in any more", "error", err) }) // they did a moment ago
		}
	}
	hp.resumeLocked()
}

// targetLocked is what a builtin's hook calls: its function, while it is initialised.
func (hp *helper) targetLocked(point shared.HookPoint) hhook.Target {
	if hp.down {
		return downTarget{hp.name}
	}
	return builtinTarget{hp, hp.builtin.Hooks[point]}
}

// downTarget fails the calls of a builtin that could not be initialised again.
type downTarget struct{ name string }

// Call fails.
func (t downTarget) Call(_ context.Context, inv *hhook.Invocation) {
	inv.Out = hhook.Failed(shared.CauseCrash, shared.ErrHelperGone.Errorf("%s could not be initialised again", t.name))
}

// Queue fails.
func (t downTarget) Queue(ctx context.Context, inv *hhook.Invocation) {
	t.Call(ctx, inv)
	inv.Done(inv.Out, 0)
}
