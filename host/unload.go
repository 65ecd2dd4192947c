package host

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// UnloadOptions are what an unload may say beside the name.
type UnloadOptions struct {
	// Wait is how long to wait for references to be dropped, and for what is under way on the helper. 0: not at all.
	Wait time.Duration
	// Disable takes a builtin out, which nothing else does; only a forced load brings it back. For other helpers it changes nothing.
	Disable bool
}

// Unload takes a helper out: modctl(MODCTL_UNLOAD) and khelp_deregister_helper. Its hooks leave the heads (they are skipped from then
// on, not failed), calls under way are drained, and the helper is asked to finish; if it refuses, the hooks go back to their old places
// and the error is ErrBusy with its reason. A helper that does not answer is ended all the same. Whom it required is not unloaded.
//
// Errors: ErrNotExist; ErrBusy, which says who holds it, while objects or other helpers or holds do, for a builtin that is not to be
// disabled, and while another operation on the helper is under way.
func (h *Host) Unload(ctx context.Context, name string, opts UnloadOptions) error {
	ctx, done, err := h.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	until := time.Now().Add(opts.Wait)
	for {
		hp, err := h.loaded(name)
		if err != nil {
			return err
		}
		err = h.unload(ctx, hp, unloading{disable: opts.Disable})
		switch {
		case opts.Wait <= 0:
			return err
		case errors.Is(err, errUnderWay) && h.awaitUntil(ctx, hp, until):
			continue
		case !errors.Is(err, errHeld):
			return err
		}
		if err := h.awaitIdle(ctx, name, opts.Wait, until); err != nil {
			return err
		}
	}
}

// loaded returns the helper of a name.
func (h *Host) loaded(name string) (*helper, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if hp := h.findLocked(name); hp != nil {
		return hp, nil
	}
	return nil, h.notLoadedLocked(name)
}

// awaitUntil waits until what is under way on a helper has ended, and reports whether it has in time.
func (h *Host) awaitUntil(ctx context.Context, hp *helper, until time.Time) bool {
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	_, err := h.await(ctx, nil, hp)
	return err == nil
}

// errUnderWay marks the ErrBusy of a helper on which something is under way.
var errUnderWay = errors.New("is")

// errHeld marks the ErrBusy of a helper that somebody holds: that is worth waiting for.
var errHeld = errors.New("held")

// unloading is how an unload came about.
type unloading struct {
	disable   bool    // a builtin may be taken out
	forget    bool    // and is then offered as before, not disabled
	unclaimed bool    // only if it is primed still
	parent    *helper // cannot go on before this unload has ended; nil: nobody in the registry

	expired bool      // it has been idle for long enough, which a call may have changed
	since   time.Time // nobody has needed it, nor for its sake whom it requires, since then; zero: it is needed until it has left
}

// unload takes a helper out by whomever that is asked for.
func (h *Host) unload(ctx context.Context, hp *helper, u unloading) error {
	was, err := h.beginUnload(hp, u)
	if err != nil {
		return err
	}
	defer h.endOperation(hp, u.parent)
	if was == shared.StatePrimed {
		if in := hp.inst.Load(); in != nil {
			in.abort()
		}
		h.takeOut(hp, u)
		return nil
	}
	if err := h.drain(ctx, hp); err != nil {
		h.resume(hp, was)
		return err
	}
	if err := h.fini(ctx, hp, false); err != nil {
		h.resume(hp, was)
		return err
	}
	if in := hp.inst.Load(); in != nil {
		err = in.stop(ctx, h.cfg.StopTimeout)
	}
	h.takeOut(hp, u)
	hp.log.Info("unloaded")
	return err
}

// takeOut takes a helper that has ended out of the registry; a builtin stays there, disabled.
func (h *Host) takeOut(hp *helper, u unloading) {
	if hp.builtin != nil && !u.forget {
		h.disable(hp)
		return
	}
	h.remove(hp)
}

// beginUnload has the hooks of a helper that nobody holds passed over.
func (h *Host) beginUnload(hp *helper, u unloading) (shared.State, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case !slices.Contains(h.helpers, hp):
		return "", h.notLoadedLocked(hp.name)
	case hp.builtin != nil && (!u.disable || hp.state == shared.StateDisabled):
		return "", shared.ErrBusy.Errorf("%s is builtin%s", hp.name, hp.disabledLocked())
	case hp.op != nil:
		return "", shared.ErrBusy.Errorf("%s %w %s", hp.name, errUnderWay, hp.doingLocked())
	case u.unclaimed && hp.state != shared.StatePrimed:
		return "", shared.ErrBusy.Errorf("%s has been claimed", hp.name)
	case hp.refsLocked() > 0:
		return "", shared.ErrBusy.Errorf("%w by %s", errHeld, hp.heldByLocked())
	}
	if u.expired && hp.autounloadPolicy() == shared.AutounloadIdle {
		idle := hp.idleSince
		hp.lookLocked(time.Now())
		if hp.idleSince.After(idle) {
			return "", shared.ErrBusy.Errorf("%s has just been called", hp.name)
		}
	}
	was := hp.state
	hp.beginLocked(0)
	if err := h.dependLocked(u.parent, hp); err != nil {
		hp.endLocked()
		return "", err
	}
	hp.state, hp.leaving = shared.StateDraining, u.since
	if !hp.stepAsideLocked() {
		hp.suspendLocked()
	}
	return was, nil
}

func (hp *helper) disabledLocked() string {
	if hp.state == shared.StateDisabled {
		return " and disabled already"
	}
	return ", which can only be disabled"
}

// doingLocked says what is under way on a helper.
func (hp *helper) doingLocked() string {
	if hp.isActiveLocked() {
		return "being replaced"
	}
	return string(hp.state)
}

// resume makes a helper active again whose unload was refused.
func (h *Host) resume(hp *helper, was shared.State) {
	h.mu.Lock()
	defer h.unlockAndSay()
	if hp.state != shared.StateDraining {
		return
	}
	hp.resumeLocked()
	hp.state = was
	if in := hp.inst.Load(); in != nil && in.dead() != nil && was == shared.StateActive {
		h.failLocked(in)
	}
}

// awaitIdle waits until nobody holds the helper.
func (h *Host) awaitIdle(ctx context.Context, name string, wait time.Duration, until time.Time) error {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	for {
		idle, held, err := h.whenIdle(name)
		if err != nil || idle == nil {
			return err
		}
		select {
		case <-idle:
		case <-timer.C:
			return shared.ErrBusy.Errorf("held by %s, still after %v", held, wait)
		case <-ctx.Done():
			return ended(ctx, "waiting for "+held)
		}
	}
}

// whenIdle returns a channel that is closed when nobody holds the helper any more, and who does now; nil if nobody does.
func (h *Host) whenIdle(name string) (idle <-chan struct{}, held string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	hp := h.findLocked(name)
	if hp == nil {
		return nil, "", h.notLoadedLocked(name)
	}
	if hp.refsLocked() == 0 {
		return nil, "", nil
	}
	if hp.idle == nil {
		hp.idle = make(chan struct{})
	}
	return hp.idle, hp.heldByLocked(), nil
}

// drain waits until no run, and no queued call, uses the helper's hooks any more.
func (h *Host) drain(ctx context.Context, hp *helper) error {
	ctx, cancel := context.WithTimeout(ctx, h.cfg.DrainTimeout)
	defer cancel()
	h.mu.Lock()
	drains := hp.drains
	h.mu.Unlock()
	for _, drain := range drains {
		if err := drain(ctx); err != nil {
			return err
		}
	}
	return nil
}

// fini asks the helper to finish. One that says no is ErrBusy, unless it is forced. One that is dead, or dies of it, has finished; one that
// does not answer, also because the caller gives up, has had its chance: nobody knows what it has ended already, and it cannot be used
// any more.
func (h *Host) fini(ctx context.Context, hp *helper, force bool) error {
	if hp.builtin != nil {
		return hp.finiBuiltin(ctx, h.cfg.StopTimeout, force)
	}
	in, none := hp.alive()
	if none.Cause != shared.CauseNone {
		return nil
	}
	answered, err := in.finish(ctx, h.cfg.StopTimeout, force)
	if err == nil {
		return nil
	}
	return hp.refusal(err, answered && !force)
}

// refusal returns ErrBusy if what Fini said keeps the helper loaded.
func (hp *helper) refusal(said error, stays bool) error {
	if stays {
		return shared.ErrBusy.Errorf("the helper refuses to finish: %w", said)
	}
	hp.log.Warn("the helper did not finish in order", "error", said)
	return nil
}

// finish sends Fini and waits for the answer. The error is the answer's, or why there is none.
func (in *instance) finish(ctx context.Context, limit time.Duration, force bool) (answered bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	answer, err := in.session.Request(ctx, &wire.ControlToHelper{Body: &wire.ControlToHelper_Fini{
		Fini: &wire.FiniRequest{Force: force, BudgetUs: budget(ctx)},
	}})
	return answer != nil, err
}

// remove forgets a helper whose process has ended. One that is loaded on demand may be demanded again from then on.
func (h *Host) remove(hp *helper) {
	h.forget(hp)
	for _, o := range h.objects.All() {
		o.Forget(hp.id)
	}
}

// forget is remove for the registry, in one step, so that subscribers hear of whoever they have heard of before.
func (h *Host) forget(hp *helper) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.Contains(h.helpers, hp) {
		return // Close has overtaken Shutdown
	}
	if hp.aside > 0 { // stand-ins are there already
		hp.unbindLocked(nil)
	} else {
		hp.unbindLocked(h.armLocked(hp))
	}
	in := hp.inst.Load()
	h.withdrawLocked(hp)
	h.generation++
	e := Event{Type: EventUnloaded, Helper: hp.name}
	if in != nil {
		e.Incarnation = in.number
	}
	h.publish(e)
}

// end ends a helper at shutdown, whatever holds it.
func (h *Host) end(ctx context.Context, hp *helper) error {
	h.mu.Lock()
	if !slices.Contains(h.helpers, hp) {
		h.mu.Unlock()
		return nil
	}
	was := hp.state
	hp.state = shared.StateDraining
	hp.suspendLocked()
	h.mu.Unlock()
	var errs []error
	if was != shared.StatePrimed && was != shared.StateDisabled && (hp.builtin != nil || ctx.Err() == nil) {
		if err := h.drain(ctx, hp); err != nil {
			hp.log.Warn("calls under way are cut", "error", err)
			if hp.builtin != nil {
				errs = append(errs, err)
			}
		}
		_ = h.fini(ctx, hp, true) // with force there is no refusal
	}
	if in := hp.inst.Load(); in != nil {
		errs = append(errs, in.stop(ctx, h.cfg.StopTimeout))
	}
	h.remove(hp)
	return errors.Join(errs...)
}

// failed is told by an instance that it is of no more use.
func (h *Host) failed(in *instance) {
	hp := in.helper
	h.mu.Lock()
	defer h.unlockAndSay()
	h.endHoldsLocked(in)
	if hp.inst.Load() != in {
		return // it never came into use, or another has taken over
	}
	hp.lastErr = in.err.Error()
	hp.dropAddedLocked(in)
	switch hp.state {
	case shared.StateActive:
		h.failLocked(in)
	case shared.StatePrimed:
		h.sayLocked(func() { hp.log.Error("primed helper is gone", "pid", in.end.PID(), "error", in.err) })
	}
}

// failLocked notes that the instance of an active helper is dead.
func (h *Host) failLocked(in *instance) {
	hp := in.helper
	hp.state, hp.lastErr, hp.changedAt = shared.StateFailed, in.err.Error(), time.Now()
	h.sayLocked(func() { hp.log.Error("helper is gone", "pid", in.end.PID(), "error", in.err) })
	h.publish(hp.failedEventLocked(in))
}

// dropAddedLocked takes away the hooks that an incarnation has added to those that it declared: they end with it.
func (hp *helper) dropAddedLocked(in *instance) {
	added := func(info shared.HookInfo) bool {
		return !slices.ContainsFunc(in.face.info.Hooks, func(x shared.HookInfo) bool { return sameHook(x, info) })
	}
	hp.dropHooksLocked(func(b binding) bool { return added(b.info()) })
	in.hooks = slices.DeleteFunc(slices.Clone(in.hooks), added)
}
