package host

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/shared"
)

// Restart starts another process for a helper, which takes over object by object between calls if the old one is healthy; references,
// hooks, configuration and committed data stay, and what the old one added or held at run time ends with it. If the new one cannot take
// over, the old one stays as it was and the error says why.
//
// Errors: those of Load; ErrNotExist if no such helper is loaded; ErrBusy for a builtin, and while another operation is under way;
// ErrIncompatible if objects hold data of another version than the new process keeps.
func (h *Host) Restart(ctx context.Context, name string) error {
	ctx, done, err := h.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	hp, err := h.loaded(name)
	if err != nil {
		return err
	}
	return h.replace(ctx, hp, func(*face) {})
}

// replace puts another process in the place of a helper's, with what change makes of its face.
func (h *Host) replace(ctx context.Context, hp *helper, change func(*face)) error {
	if err := h.beginReplace(hp); err != nil {
		return err
	}
	old, in, err := h.succeed(ctx, hp, change)
	h.endReplace(hp)
	if err != nil {
		return err
	}
	hp.log.Info("replaced", "version", in.face.info.Version, "incarnation", in.number, "pid", in.end.PID(), "sha256", in.end.SHA256())
	if old != nil {
		h.retire(ctx, old)
	}
	return nil
}

func (h *Host) endReplace(hp *helper) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if hp.state == shared.StateRestarting { // else it is still active, unless it has died in the meantime
		hp.state = shared.StateFailed
	}
	hp.endLocked()
}

func (h *Host) beginReplace(hp *helper) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case !slices.Contains(h.helpers, hp):
		return h.notLoadedLocked(hp.name)
	case hp.builtin != nil:
		return shared.ErrBusy.Errorf("%s is builtin and has no process", hp.name)
	case hp.op != nil:
		return shared.ErrBusy.Errorf("%s is %s", hp.name, hp.doingLocked())
	case hp.state == shared.StateFailed:
		hp.state = shared.StateRestarting
	case hp.state != shared.StateActive:
		return shared.ErrBusy.Errorf("%s is %s", hp.name, hp.state)
	}
	hp.beginLocked(0)
	return nil
}

// succeed starts, describes and initialises the process that is to take over, and has it do so. What it requires in addition is loaded and
// held. If it cannot, nothing stays behind.
func (h *Host) succeed(ctx context.Context, hp *helper, change func(*face)) (old, in *instance, err error) {
	in, err = h.successor(ctx, hp, change)
	if err != nil {
		return nil, nil, err
	}
	undo := h.requirements(hp)
	l := &loading{} // not forced, though the helper may have been: only a forced load brings back a builtin that is disabled
	if err = h.initialise(ctx, in, l); err != nil {
		err = in.giveUp(err)
	} else if old, err = h.takeOver(hp, in); err != nil {
		err = in.turnDown(ctx, err)
	}
	if err != nil {
		undo()
		h.rollBack(ctx, l.brought, hp)
		return nil, nil, err
	}
	return old, in, nil
}

// successor starts and describes the process that is to take over.
func (h *Host) successor(ctx context.Context, hp *helper, change func(*face)) (*instance, error) {
	next := *hp.face.Load()
	change(&next)
	start, cancel := context.WithTimeout(ctx, h.cfg.StartTimeout)
	defer cancel()
	in, info, err := h.introduce(start, hp, &next, nil, hp.inst.Load().number+1)
	if err != nil {
		return nil, err
	}
	if info.Name != hp.name {
		return nil, in.giveUp(misnamed(hp.name, info.Name))
	}
	if in.face, err = next.described(info); err != nil {
		return nil, in.giveUp(err)
	}
	h.mu.Lock()
	err = h.compatibleLocked(hp, info) // here too, so that nothing is begun in vain
	h.mu.Unlock()
	if err != nil {
		return nil, in.giveUp(err)
	}
	return in, nil
}

// requirements notes whom a helper requires now, and returns what gives up all that it comes to require from then on.
func (h *Host) requirements(hp *helper) (undo func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	held := slices.Clone(hp.requires)
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, r := range slices.Clone(hp.requires) {
			if !slices.Contains(held, r) {
				hp.unlinkLocked(r)
			}
		}
	}
}

// compatibleLocked refuses a process that would not understand the data that objects hold, or is of a version that others cannot work
// with, those included that are being loaded.
func (h *Host) compatibleLocked(hp *helper, info *shared.Modinfo) error {
	have := hp.face.Load().info
	for _, d := range hp.dependants {
		requires := d.face.Load().requires
		if d.op != nil && d.op.face != nil {
			requires = slices.Concat(requires, d.op.face.requires)
		}
		for _, r := range requires {
			if r.Name != hp.name {
				continue
			}
			if err := meets(hp.name, info.Version, r.Constraint); err != nil {
				return fmt.Errorf("%s requires it: %w", d.name, err)
			}
		}
	}
	switch {
	case hp.objects == 0 || !have.NeedsOSD:
		return nil
	case !info.NeedsOSD:
		return shared.ErrIncompatible.Errorf("%s data of %s, and %s keeps none", hp.objectsLocked(), hp.name, info.Version)
	case have.OSD.DataVersion != info.OSD.DataVersion:
		return shared.ErrIncompatible.Errorf("%s data of version %d of %s, and %s has version %d",
			hp.objectsLocked(), have.OSD.DataVersion, hp.name, info.Version, info.OSD.DataVersion)
	}
	return nil
}

func (hp *helper) objectsLocked() string {
	if hp.objects == 1 {
		return "1 object holds"
	}
	return fmt.Sprintf("%d objects hold", hp.objects)
}

// takeOver makes a process the helper's and returns the one before, which is to be ended. From here on each object's next call goes to the
// new one; what is under way ends where it is. Whether the two are compatible is decided here, for what it depends on may have changed
// while the new one initialised itself.
func (h *Host) takeOver(hp *helper, in *instance) (old *instance, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, errClosed()
	}
	if in.dead() != nil {
		return nil, shared.ErrHelperGone.Errorf("the new process of %s has died before it took over: %w", hp.name, in.dead())
	}
	if err := h.compatibleLocked(hp, &in.face.info); err != nil {
		return nil, err
	}
	old = hp.inst.Load()
	before := hp.face.Load()
	hp.face.Store(in.face)
	hp.inst.Store(in)
	if err := h.rebindLocked(hp); err != nil {
		hp.face.Store(before)
		hp.inst.Store(old)
		return nil, err
	}
	hp.dropRequirementsLocked()
	hp.resizeLocked()
	hp.state, hp.lastErr = shared.StateActive, ""
	hp.restarts++
	h.generation++
	h.publish(Event{Type: EventReplaced, Helper: hp.name, Incarnation: in.number, Message: "version " + in.face.info.Version})
	return old, nil
}

// dropRequirementsLocked gives up whom the helper's face does not require any more.
func (hp *helper) dropRequirementsLocked() {
	names := hp.face.Load().requireNames()
	for _, r := range slices.Clone(hp.requires) {
		if !slices.Contains(names, r.name) {
			hp.unlinkLocked(r)
		}
	}
}

// rebindLocked puts the hooks that helpers have now in the place of those that they had, on all heads or none. They go on counting where
// those had got to.
func (h *Host) rebindLocked(helpers ...*helper) error {
	var done []rebinding
	var failed error
	next := map[*helper][]binding{}
	h.eachHeadLocked(func(head *hhook.Head) {
		r := rebinding{head: head}
		for _, hp := range helpers {
			old := hp.hooksOn(head)
			hooks := hp.successorsLocked(head, old)
			r.old, r.new = append(r.old, old...), append(r.new, hooks...)
			for _, hook := range hooks {
				next[hp] = append(next[hp], binding{head, hook})
			}
		}
		if failed != nil || len(r.old)+len(r.new) == 0 {
			return
		}
		if err := head.Replace(r.old, r.new); err == nil {
			done = append(done, r)
		} else if !errors.Is(err, shared.ErrClosed) { // a head that is closing takes its bindings with it
			failed = err
		}
	})
	for _, hp := range helpers {
		if failed == nil {
			failed = hp.missingLocked(next[hp])
		}
	}
	if failed != nil {
		for _, r := range done {
			_ = r.head.Replace(r.new, r.old) // they stood there a moment ago
		}
		return failed
	}
	for _, hp := range helpers {
		hp.succeededLocked(next[hp])
	}
	return nil
}

// rebinding is what changes on one head.
type rebinding struct {
	head     *hhook.Head
	old, new []*hhook.Hook
}

// succeededLocked makes other bindings the helper's. The counts of hooks that have no successor are kept.
func (hp *helper) succeededLocked(next []binding) {
	for _, b := range hp.bindings {
		if !slices.ContainsFunc(next, func(n binding) bool { return n.hook.Stats() == b.hook.Stats() }) {
			hp.gone = append(hp.gone, b.hook)
		}
	}
	hp.sumUp()
	hp.bindings, hp.bound = next, true
}

func (hp *helper) hooksOn(head *hhook.Head) []*hhook.Hook {
	var hooks []*hhook.Hook
	for _, b := range hp.bindings {
		if b.head == head {
			hooks = append(hooks, b.hook)
		}
	}
	return hooks
}

// successorsLocked returns the hooks that the helper has for a head now, each going on from the one that was the same function.
func (hp *helper) successorsLocked(head *hhook.Head, old []*hhook.Hook) []*hhook.Hook {
	return successors(hp.newHooksLocked(head), old)
}

// successors returns hooks, each going on from the one of old that is the same function.
func successors(hooks, old []*hhook.Hook) []*hhook.Hook {
	var used []*hhook.Hook
	for i, hook := range hooks {
		j := slices.IndexFunc(old, func(x *hhook.Hook) bool {
			return string(x.UData) == string(hook.UData) && !slices.Contains(used, x)
		})
		if j >= 0 {
			used = append(used, old[j])
			hooks[i] = old[j].Successor(hook.HookConfig)
		}
	}
	return hooks
}

// retire ends a process whose place another has taken: it answers what it was asked, and goes.
func (h *Host) retire(ctx context.Context, old *instance) {
	ctx, cancel := context.WithTimeout(ctx, h.cfg.DrainTimeout+2*h.cfg.StopTimeout)
	defer cancel()
	old.sending.Lock()
	old.retired = true
	old.sending.Unlock()
	h.mu.Lock()
	h.endHoldsLocked(old)
	h.mu.Unlock()
	if old.dead() == nil {
		drain, cancel := context.WithTimeout(ctx, h.cfg.DrainTimeout)
		defer cancel()
		if err := old.lane.Drain(drain); err != nil {
			old.log.Warn("calls under way in the process that is replaced are cut", "error", err)
		}
		_, _ = old.finish(ctx, h.cfg.StopTimeout, true) // it goes whatever it says
	}
	if err := old.stop(ctx, h.cfg.StopTimeout); err != nil {
		old.log.Error("the process that was replaced does not go away", "error", err)
	}
}
