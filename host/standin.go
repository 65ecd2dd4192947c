package host

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/shared"
)

// standIn stands on a head for a hook of a helper that is loaded by being called.
type standIn struct {
	demand *demand
	head   *hhook.Head
	hook   shared.HookInfo
	era    int
}

// Call loads the helper, as far as the head's budget allows, and calls its hook.
func (t *standIn) Call(ctx context.Context, inv *hhook.Invocation) {
	if hook := t.summon(ctx, inv); hook != nil && inv.Redirect(hook) {
		hook.Target.Call(ctx, inv)
	}
}

// Queue loads the helper and queues a call of its hook. The one who makes the first call of all waits, so that none is lost.
func (t *standIn) Queue(ctx context.Context, inv *hhook.Invocation) {
	if hook := t.summon(ctx, inv); hook != nil && inv.Redirect(hook) {
		hook.Target.Queue(ctx, inv)
		return
	}
	inv.Done(inv.Out, 0)
}

// summon returns the hook that it stands for. If there is none that is a failure of the invocation, unless there is not to be one.
func (t *standIn) summon(ctx context.Context, inv *hhook.Invocation) *hhook.Hook {
	hp, cause, err := t.demand.load(ctx, deadlineOf(inv), t.era)
	switch {
	case errors.Is(err, errDelisted), err != nil && t.demand.host.life.Err() != nil:
		inv.Skip()
		return nil
	case err != nil:
		inv.Out = hhook.Failed(cause, err)
		return nil
	}
	hook := t.hookOf(hp)
	if hook == nil { // its program is another by now
		inv.Skip()
	}
	return hook
}

// hookOf returns the helper's hook that it stands for. Another program may have another number for the same function.
func (t *standIn) hookOf(hp *helper) *hhook.Hook {
	hp.host.mu.Lock()
	defer hp.host.mu.Unlock()
	var alike *hhook.Hook
	for _, b := range hp.bindings {
		if b.head != t.head || string(b.hook.UData) != string(t.hook.UData) {
			continue
		}
		if b.hook.Index == t.hook.Index {
			return b.hook
		}
		alike = cmp.Or(alike, b.hook)
	}
	return alike
}

// standInsLocked returns new stand-ins for a head, not yet added to it, which go on counting where those hooks have got to that are the
// same functions.
func (d *demand) standInsLocked(head *hhook.Head, old []*hhook.Hook) []*hhook.Hook {
	if d.face.info.NeedsOSD {
		return nil
	}
	var hooks []*hhook.Hook
	for _, info := range d.face.info.Hooks {
		if info.Point == head.Point() {
			cfg := d.face.hookConfig(head, info)
			cfg.ID = standInID
			cfg.Target = &standIn{demand: d, head: head, hook: info, era: d.era}
			hooks = append(hooks, hhook.NewHook(cfg))
		}
	}
	return successors(hooks, old)
}

// standInID puts stand-ins where the helper will stand when it is loaded: behind those that are.
const standInID = ^shared.HelperID(0)

// standInsLocked returns the stand-ins of a helper that are on heads now.
func (h *Host) standInsLocked(name string) hooksByHead {
	if d := h.demands[name]; d != nil && d.armed {
		return d.hooks
	}
	return nil
}

// hooksByHead are hooks by where they stand, or are to stand.
type hooksByHead map[*hhook.Head][]*hhook.Hook

func hooksOf(bindings []binding) hooksByHead {
	hooks := hooksByHead{}
	for _, b := range bindings {
		hooks[b.head] = append(hooks[b.head], b.hook)
	}
	return hooks
}

// stepAsideLocked puts stand-ins into the places of the hooks of a helper that begins to leave and is loaded on demand, so that from then
// on runs wait until it has left, and have it loaded again. It reports false if they are to be passed over instead.
func (hp *helper) stepAsideLocked() bool {
	d := hp.host.demands[hp.name]
	if d == nil || !hp.bound || hp.builtin != nil || hp.host.closed {
		return false
	}
	standIns := hp.host.armLocked(hp)
	own := hooksOf(hp.bindings)
	for head, hooks := range own {
		if len(standIns[head]) == 0 || head.Replace(hooks, standIns[head]) != nil {
			delete(standIns, head)
			head.Suspend(hooks...) // what it has added at run time, or needs data for, nobody can stand in for
		}
	}
	for head, hooks := range standIns {
		if len(own[head]) == 0 && head.Add(hooks...) != nil {
			delete(standIns, head)
		}
	}
	hp.bound, hp.aside = false, d.era
	hp.noteDrainsLocked()
	return true
}

// stepInLocked ends what stepAsideLocked began: the helper stays.
func (hp *helper) stepInLocked() {
	standIns := hp.host.standInsLocked(hp.name)
	var next []binding
	hp.host.eachHeadLocked(func(head *hhook.Head) {
		old := slices.Concat(standIns[head], hp.hooksOn(head))
		hooks := hp.successorsLocked(head, old)
		if err := head.Replace(old, hooks); err != nil {
			if !errors.Is(err, shared.ErrClosed) {
				hp.host.sayLocked(func() {
					hp.log.Error("the hooks of a helper that stays do not fit in any more", "point", string(head.Point()), "error", err)
				})
			}
			return
		}
		head.Resume(hooks...)
		for _, hook := range hooks {
			next = append(next, binding{head, hook})
		}
	})
	hp.succeededLocked(next)
	hp.aside = 0
	hp.host.disarmLocked(hp.name)
	hp.host.arrivedLocked(hp)
}

// armLocked has a helper that is about to leave demanded again from then on, and returns the stand-ins to be put into its place.
func (h *Host) armLocked(hp *helper) hooksByHead {
	d := h.demands[hp.name]
	if d == nil || h.closed || d.armed {
		return nil
	}
	base := face{spec: d.face.spec}
	if f, err := base.described(&hp.face.Load().info); err == nil { // else what was loaded by force is not what would be
		d.face = f
	}
	return d.renewLocked(hooksOf(hp.bindings))
}

// renewLocked arms a demand, and returns its stand-ins for the heads there are, which succeed what has stood there for the helper.
func (d *demand) renewLocked(old hooksByHead) hooksByHead {
	d.hooks, d.armed, d.era = hooksByHead{}, true, d.era+1
	d.host.eachHeadLocked(func(head *hhook.Head) {
		if hooks := d.standInsLocked(head, old[head]); len(hooks) > 0 {
			d.hooks[head] = hooks
		}
	})
	return d.hooks
}

// addStandInsLocked puts stand-ins onto a head that has just been made. One whose order fits in nowhere has none there: the helper itself
// will not either, and its load will say so.
func (h *Host) addStandInsLocked(head *hhook.Head) {
	byPlace := func(a, b *demand) int { return cmp.Compare(a.place, b.place) }
	for _, d := range slices.SortedFunc(maps.Values(h.demands), byPlace) {
		if !d.armed {
			continue
		}
		hooks := d.standInsLocked(head, nil)
		if len(hooks) == 0 {
			continue
		}
		if err := head.Add(hooks...); err != nil {
			h.sayLocked(func() {
				h.log.Warn("no stand-in for a helper that loads on demand", "helper", d.name, "point", string(head.Point()), "error", err)
			})
			continue
		}
		d.hooks[head] = hooks
	}
}
