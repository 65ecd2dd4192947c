package host

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/osd"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// NewObject makes an object of the given classes: khelp_init_osd. Every helper that shares a class and keeps data gets a slot, and a
// reference is taken on each; helpers whose New makes the data are asked side by side, within the default budget. It is all or
// nothing: if a helper that must not be missed (policy closed) fails, what was done is undone and the error names it. The caller ends
// the object with its Destroy.
func (v *Vnet) NewObject(ctx context.Context, classes ...shared.Class) (*osd.Object, error) {
	if len(classes) == 0 {
		return nil, shared.ErrInvalid.Errorf("an object needs a class")
	}
	for _, c := range classes {
		if err := c.Validate(); err != nil {
			return nil, err
		}
	}
	h := v.host
	births, err := h.claim(ctx, classes)
	if err != nil {
		return nil, err
	}
	id := h.objectIDs.Add(1)
	h.bear(ctx, id, births)
	var slots []*osd.Slot
	for i := range births {
		b := &births[i]
		if b.out.Cause == shared.CauseNone {
			slots = append(slots, b.slot)
			continue
		}
		if err = b.verdict(); err != nil {
			break
		}
		b.helper.log.Debug("object is not followed", "object", id, "cause", b.out.Cause, "error", b.out.Err)
	}
	if err != nil {
		h.unbear(ctx, id, births)
		return nil, err
	}
	h.disclaim(births, (*birth).stillborn)
	o := osd.NewObject(id, v.name, slices.Clone(classes), slots, h.destroy)
	h.objects.Add(o)
	return o, nil
}

// birth is one helper's part in the making of an object.
type birth struct {
	helper *helper // nil: it is not loaded
	name   string
	kind   hhook.Kind
	policy hhook.Policy
	slot   *osd.Slot
	out    hhook.Outcome
}

// verdict returns an error if a failure means that the object is not to be.
func (b *birth) verdict() error {
	if hhook.Decide(b.kind, b.policy, b.out.Cause) == shared.Closed {
		return b.out.Cause.Err().Errorf("%s could not follow the object (%s): %w", b.name, b.out.Cause, b.out.Err)
	}
	return nil
}

// stillborn reports whether the helper does not follow the object.
func (b *birth) stillborn() bool { return b.out.Cause != shared.CauseNone }

// claim takes a reference on every helper that follows one of the classes. Those that are loaded on demand are loaded first.
func (h *Host) claim(ctx context.Context, classes []shared.Class) ([]birth, error) {
	births, demanded, err := h.tryClaim(classes, nil)
	if len(demanded) == 0 || err != nil {
		return births, err
	}
	w := &demandWait{host: h, deadline: time.Now().Add(h.cfg.StartTimeout), failed: map[string]bool{}}
	defer w.end()
	for len(demanded) > 0 && err == nil {
		if err = w.await(ctx, demanded); err == nil {
			births, demanded, err = h.tryClaim(classes, w.failed) // under memory pressure one may have left again
		}
	}
	return births, err
}

// tryClaim is claim, or returns who has to be loaded before, of whom some may have failed already.
func (h *Host) tryClaim(classes []shared.Class, failed map[string]bool) ([]birth, []*demand, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, nil, errClosed()
	}
	if demanded := h.demandedLocked(classes, failed); len(demanded) > 0 {
		return nil, demanded, nil
	}
	var births []birth
	for _, hp := range h.helpers {
		if !hp.bound || hp.state == shared.StateDraining || !hp.face.Load().follows(classes) {
			continue
		}
		b := birth{helper: hp, name: hp.name}
		b.kind, b.policy = hp.objectPolicyLocked()
		hp.objects++
		births = append(births, b)
	}
	return births, nil, nil
}

// disclaim gives back what those births hold that which chooses: their references, and their share of the helper's limit.
func (h *Host) disclaim(births []birth, which func(*birth) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range births {
		if b := &births[i]; which(b) {
			b.helper.bytes.Add(-int64(b.slot.End()))
			b.helper.dropObjectLocked()
		}
	}
}

// bear fills the slots: from templates at once, by New side by side.
func (h *Host) bear(ctx context.Context, id uint64, births []birth) {
	deadline := time.Now().Add(shared.DefaultBudget)
	var asked sync.WaitGroup
	for i := range births {
		b := &births[i]
		b.slot = newDataSlot(b.helper, nil)
		if b.helper.builtin != nil {
			b.slot = osd.NewSlot(b.helper.id, nil, nil)
		}
		osdInfo := &b.helper.face.Load().info.OSD
		if osdInfo.HasTemplate {
			b.helper.commit(b.slot, osdInfo.Template, &b.out)
		}
		if osdInfo.HasNew && b.out.Cause == shared.CauseNone {
			asked.Go(func() { b.out = b.helper.ask(ctx, id, b.slot, wire.CallKind_CALL_KIND_NEW, deadline) })
		}
	}
	asked.Wait()
}

// ask has the helper make the data of a slot, or end it.
func (hp *helper) ask(ctx context.Context, id uint64, slot *osd.Slot, kind wire.CallKind, deadline time.Time) hhook.Outcome {
	o := osd.NewObject(id, "", nil, nil, nil)
	t := &remote{helper: hp}
	inv := hhook.Invocation{Object: o, Slot: slot, Deadline: deadline}
	return t.call(ctx, &inv, kind, cmp.Or(hp.face.Load().spec.Timeout, shared.DefaultTimeout))
}

// unbear undoes the making of an object that failed.
func (h *Host) unbear(ctx context.Context, id uint64, births []birth) {
	for i := range births {
		b := &births[i]
		if b.out.Cause == shared.CauseNone {
			h.free(ctx, id, b.helper, b.slot)
		}
	}
	h.disclaim(births, func(*birth) bool { return true })
}

// free tells a helper that wants to know that a slot ends.
func (h *Host) free(ctx context.Context, id uint64, hp *helper, slot *osd.Slot) {
	if !hp.face.Load().info.OSD.HasFree {
		return
	}
	if in := hp.inst.Load(); in == nil || in.dead() != nil {
		hp.freesSkipped.Add(1)
		return
	}
	out := hp.ask(ctx, id, slot, wire.CallKind_CALL_KIND_FREE, time.Now().Add(shared.DefaultBudget))
	if out.Cause != shared.CauseNone {
		hp.freesSkipped.Add(1)
		hp.log.Warn("Free failed", "object", id, "cause", out.Cause, "error", out.Err)
	}
}

// destroy is what an object's Destroy does.
func (h *Host) destroy(ctx context.Context, o *osd.Object) error {
	h.objects.Remove(o)
	deadline := time.Now().Add(shared.DefaultBudget)
	var errs []error
	if o.Lock(ctx, deadline) {
		o.Unlock()
	} else {
		errs = append(errs, shared.ErrTimeout.Errorf("object %d: a run was still under way", o.ID()))
	}
	byID := h.helpersByID()
	o.EachSlot(func(slot *osd.Slot) {
		if err := drainSlot(ctx, byID[slot.Helper()], slot, deadline); err != nil {
			errs = append(errs, shared.ErrTimeout.Errorf("object %d: %w", o.ID(), err))
		}
	})
	for _, slot := range o.Slots() {
		if hp := byID[slot.Helper()]; hp != nil {
			h.free(ctx, o.ID(), hp, slot)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, slot := range o.Slots() {
		if hp := byID[slot.Helper()]; hp != nil {
			hp.bytes.Add(-int64(slot.End()))
			hp.dropObjectLocked()
		}
	}
	return errors.Join(errs...)
}

func (h *Host) helpersByID() map[shared.HelperID]*helper {
	h.mu.Lock()
	defer h.mu.Unlock()
	byID := make(map[shared.HelperID]*helper, len(h.helpers))
	for _, hp := range h.helpers {
		byID[hp.id] = hp
	}
	return byID
}

// drainSlot waits until the calls queued for a slot have ended.
func drainSlot(ctx context.Context, hp *helper, slot *osd.Slot, deadline time.Time) error {
	s, ok := slot.Serial().(*serial)
	if !ok || hp == nil {
		return nil
	}
	if !s.lock(ctx, deadline) {
		return errors.New("queued calls did not end in time")
	}
	advance(hp, slot)
	return nil
}
