package host

import (
	"context"
	"errors"
	"slices"

	"github.com/khelp/khelp/shared"
)

// enter finds out who is meant by a spec and enters a load of it: from then on the name is taken. It waits for one that is just leaving.
// What it returns must go on with bring.
func (h *Host) enter(ctx context.Context, spec shared.HelperSpec, l *loading) (*helper, error) {
	f := l.face(spec)
	for {
		hp, leaving, err := h.tryEnter(f, l)
		switch {
		case leaving != nil:
			if _, err := h.await(ctx, l.parent, leaving); err != nil {
				return nil, err
			}
		case l.guessed && errors.Is(err, shared.ErrExist):
			// Somebody has the file's name, which may not be the helper's.
			info, wrong := h.Describe(ctx, spec)
			if wrong != nil {
				return nil, wrong
			}
			f.spec.Name, l.guessed = info.Name, false
		default:
			return hp, err
		}
	}
}

// face returns what a load takes a helper for.
func (l *loading) face(spec shared.HelperSpec) *face {
	f := &face{spec: spec, overrides: l.properties, force: l.force, narrowed: l.classes}
	l.guessed = spec.Name == ""
	f.spec.Name = nameOf(&spec)
	return f
}

// tryEnter is enter but for the waiting: it returns whom to wait for.
func (h *Host) tryEnter(f *face, l *loading) (hp, leaving *helper, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if other := h.leavingLocked(f.spec.Name); other != nil {
		return nil, other, nil
	}
	hp, err = h.enterLocked(f, l)
	return hp, nil, err
}

// leavingLocked returns the helper of a name if it is just about to leave.
func (h *Host) leavingLocked(name string) *helper {
	if hp := h.findLocked(name); hp != nil && hp.state == shared.StateDraining && hp.op != nil {
		return hp
	}
	return nil
}

// enterLocked is enter where nobody of that name is leaving.
func (h *Host) enterLocked(f *face, l *loading) (*helper, error) {
	if h.closed {
		return nil, errClosed()
	}
	hp := h.findLocked(f.spec.Name)
	switch {
	case hp == nil:
		hp = h.newcomerLocked(f, l)
	case hp.op != nil || !hp.claimableLocked(f, l):
		return nil, hp.occupiedLocked(f, l)
	default:
		if path := h.waits.pathLocked(hp, l.parent); path != nil { // it has asked for things before its Init
			return nil, circular(path)
		}
		l.claimed = hp.state
		hp.claimLocked(f)
	}
	hp.beginLocked(l.depth)
	hp.op.noAutoload = l.noAutoload
	return hp, h.dependLocked(l.parent, hp) // which is no circle: that was looked for, and who is new waits for nobody
}

// newcomerLocked puts a helper into the registry.
func (h *Host) newcomerLocked(f *face, l *loading) *helper {
	source := shared.SourceFilesys
	if f.spec.Load == shared.LoadBoot {
		source = shared.SourceBoot
	}
	b := h.offered[f.spec.Name]
	if b != nil && l.dial == nil && len(f.spec.Command) == 0 {
		source = shared.SourceBuiltin
	} else {
		b = nil
	}
	hp := h.newHelper(f, source)
	hp.builtin = b
	h.nextID++
	hp.id = h.nextID
	h.helpers = append(h.helpers, hp)
	return hp
}

// claimableLocked reports whether a load is of a primed helper, or of a disabled builtin, and not of something else by that name.
func (hp *helper) claimableLocked(f *face, l *loading) bool {
	command := f.spec.Command
	if l.dial != nil || l.guessed || len(command) > 0 && !slices.Equal(command, hp.face.Load().spec.Command) {
		return false
	}
	return hp.state == shared.StatePrimed && !l.priming || hp.state == shared.StateDisabled && l.force
}

// claimLocked makes a primed helper, or a disabled builtin, one that is being loaded. What the configuration says of a primed one stays.
func (hp *helper) claimLocked(f *face) {
	claimed := *hp.face.Load()
	claimed.force = claimed.force || f.force
	claimed.narrowed = f.narrowed
	if len(f.overrides) > 0 {
		claimed.overrides = f.overrides
	}
	hp.face.Store(&claimed)
	hp.state = shared.StateStarting
}

// occupiedLocked says why a name that is taken cannot be loaded.
func (hp *helper) occupiedLocked(f *face, l *loading) error {
	switch {
	case hp.op == nil && hp.state == shared.StatePrimed:
		return shared.ErrExist.Errorf("helper %q is primed already, from where it is configured to be", hp.name)
	case hp.state == shared.StateDisabled && (l.force || len(f.spec.Command) > 0):
		return shared.ErrExist.Errorf("there is a builtin %q, which is disabled", hp.name)
	case hp.state == shared.StateDisabled:
		return shared.ErrPermission.Errorf("builtin %q is disabled: only a forced load brings it back", hp.name)
	case hp.state == shared.StateFailed:
		return shared.ErrExist.Errorf("helper %q is loaded already, but it has failed: unload it first (%s)", hp.name, hp.lastErr)
	case hp.state == shared.StateStarting || hp.state == shared.StatePrimed:
		return shared.ErrExist.Errorf("helper %q is being loaded already", hp.name)
	default:
		return shared.ErrExist.Errorf("helper %q is loaded already", hp.name)
	}
}

// unenterLocked undoes enter.
func (h *Host) unenterLocked(hp *helper, l *loading) {
	if l.claimed != shared.StateDisabled {
		h.withdrawLocked(hp)
		return
	}
	hp.state = shared.StateDisabled
	hp.unrequireLocked()
}

// withdrawLocked takes a helper out of the registry, with all it held.
func (h *Host) withdrawLocked(hp *helper) {
	h.helpers = slices.DeleteFunc(h.helpers, func(x *helper) bool { return x == hp })
	hp.unrequireLocked()
	if in := hp.inst.Load(); in != nil {
		h.endHoldsLocked(in)
	}
}
