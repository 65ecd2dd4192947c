package host

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/osd"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// statTimeout bounds the question to a helper for its own figures.
const statTimeout = time.Second

// Stat returns the helpers in load order, or the one with a name: modctl(MODCTL_STAT). For one helper its own figures are asked for,
// which takes up to a second if it is busy; for all of them nobody is asked. No such helper is ErrNotExist.
func (h *Host) Stat(ctx context.Context, name string) (Stat, error) {
	h.mu.Lock()
	st := Stat{Generation: h.generation, Helpers: []HelperStat{}}
	var asked *helper
	for _, hp := range h.helpers {
		if name == "" || hp.name == name {
			st.Helpers = append(st.Helpers, hp.statLocked())
			asked = hp
		}
	}
	var err error
	if name != "" && asked == nil {
		err = h.notLoadedLocked(name)
	}
	h.mu.Unlock()
	if err != nil {
		return Stat{}, err
	}
	if name == "" {
		return st, nil
	}
	st.Helpers[0].Values = asked.figures(ctx)
	return st, nil
}

// figures asks a helper for its own figures. One that does not answer has none.
func (hp *helper) figures(ctx context.Context) map[string]float64 {
	hp.host.mu.Lock()
	in, initialised := hp.inst.Load(), hp.bound
	hp.host.mu.Unlock()
	switch {
	case !initialised:
		return nil
	case hp.builtin != nil && hp.builtin.Stat != nil:
		return shown(hp.builtin.Stat())
	case in == nil || in.dead() != nil:
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, statTimeout)
	defer cancel()
	answer, err := in.session.Request(ctx, &wire.ControlToHelper{Body: &wire.ControlToHelper_Stat{Stat: &wire.StatRequest{}}})
	if err != nil {
		return nil
	}
	return shown(answer.GetStat().GetValues())
}

// maxFigures is how many of a helper's own figures are shown.
const maxFigures = 256

// shown returns figures under names that can be shown: the first ones by name if they are too many.
func shown(values map[string]float64) map[string]float64 {
	if len(values) == 0 {
		return nil
	}
	names := slices.Sorted(maps.Keys(values))
	names = names[:min(len(names), maxFigures)]
	out := make(map[string]float64, len(names))
	for _, name := range names {
		out[shared.Printable(name, shared.MaxName)] = values[name]
	}
	return out
}

func (hp *helper) statLocked() HelperStat {
	sum := hhook.Counts{}
	addCounts(&sum, hp.past)
	for _, hook := range hp.gone {
		addCounts(&sum, hook.Stats().Read())
	}
	for _, b := range hp.bindings {
		addCounts(&sum, b.hook.Stats().Read())
	}
	f, in := hp.face.Load(), hp.inst.Load()
	if in == nil && hp.rising != nil {
		in, f = hp.rising, hp.rising.face
	}
	st := HelperStat{
		Name: hp.name, Version: f.info.Version, ID: hp.id, State: hp.state, Classes: f.classes, Source: hp.source,
		Refs: hp.refsLocked(), Flags: hp.flags(f), Restarts: hp.restarts,
		Objects: hp.objects, ObjectBytes: hp.bytes.Load(), FreesSkipped: hp.freesSkipped.Load(),
		Calls: sum.Calls, Committed: sum.Committed, Missed: sum.Missed, Skipped: sum.Skipped,
		Autoloaded: hp.autoloaded, AutounloadAt: hp.unloadAtLocked(), LastError: hp.lastErr,
	}
	if hp.state == shared.StateDisabled {
		st.Refs = -1
	}
	for _, r := range hp.requires {
		st.Requires = append(st.Requires, r.name)
	}
	hooks := hp.hooksLocked()
	if hp.inst.Load() == nil && in != nil {
		hooks = in.hooks
	}
	for _, hook := range hooks {
		st.Hooks = append(st.Hooks, hook.Point)
	}
	if hp.builtin != nil {
		st.Lane = "direct"
		return st
	}
	if in != nil {
		st.Incarnation, st.SHA256, st.Lane = in.number, in.end.SHA256(), "stream"
		counts := in.lane.Counts()
		st.LateReplies, st.StrayReplies = counts.Late, counts.Stray
		if in.dead() == nil {
			st.PID = in.end.PID()
		}
	}
	return st
}

// flags are what modstat would show beside a helper.
func (hp *helper) flags(f *face) []string {
	var flags []string
	for _, flag := range []struct {
		set  bool
		name string
	}{
		{f.info.NeedsOSD, "osd"},
		{slices.ContainsFunc(f.info.Hooks, func(hook shared.HookInfo) bool { return hook.MaySleep }), "may_sleep"},
		{hp.autoloaded, "auto"},
		{f.force, "force"},
	} {
		if flag.set {
			flags = append(flags, flag.name)
		}
	}
	return flags
}

// Hooks returns the heads, by vnet and point, with their hooks in the order in which they run.
func (h *Host) Hooks() []HeadStat {
	h.mu.Lock()
	var heads []*hhook.Head
	h.eachHeadLocked(func(head *hhook.Head) { heads = append(heads, head) })
	h.mu.Unlock()
	out := []HeadStat{}
	for _, head := range heads {
		opts := head.Options()
		st := HeadStat{
			Point: head.Point(), Vnet: head.Vnet(), Kind: opts.Kind.String(), Async: opts.Async, Mutable: opts.Mutable,
			Context: opts.Context, Refs: head.Refs(),
		}
		// The hooks' counters are read before the subsystem's, which is ahead of them or equal.
		for _, hook := range head.Hooks() {
			c := hook.Stats().Read()
			st.Hooks = append(st.Hooks, HookStat{
				Helper: hook.Helper, Order: hook.Order.String(), Calls: c.Calls, Committed: c.Committed, Missed: c.Missed,
				Skipped: c.Skipped, P50: c.P50, P99: c.P99,
			})
		}
		if opts.Forwarded != nil {
			st.Forwarded = opts.Forwarded()
		}
		out = append(out, st)
	}
	return out
}

// ObjectFilter chooses objects. The zero value chooses all.
type ObjectFilter struct {
	Helper string // only objects on which this helper keeps data, and only its slots
}

// Objects returns the objects alive now, by id, with what the helpers keep on them. A filter for a helper that is not loaded is
// ErrNotExist.
func (h *Host) Objects(filter ObjectFilter) ([]ObjectStat, error) {
	var only shared.HelperID
	if filter.Helper != "" {
		id, err := h.ID(filter.Helper)
		if err != nil {
			return nil, err
		}
		only = id
	}
	byID := h.helpersByID()
	out := []ObjectStat{}
	for _, o := range h.objects.All() {
		if only != 0 && o.Slot(only) == nil {
			continue
		}
		out = append(out, objectStat(o, only, byID))
	}
	return out, nil
}

func objectStat(o *osd.Object, only shared.HelperID, byID map[shared.HelperID]*helper) ObjectStat {
	st := ObjectStat{ID: o.ID(), Classes: o.Classes(), Vnet: o.Vnet(), Name: o.Name()}
	for _, slot := range o.Slots() {
		hp := byID[slot.Helper()]
		if hp == nil || only != 0 && only != slot.Helper() {
			continue
		}
		data, info := slot.Bytes(), &hp.face.Load().info
		st.Slots = append(st.Slots, SlotStat{
			Helper: hp.name, Version: info.Version, Bytes: len(data), Values: info.OSD.Schema.Values(data),
		})
	}
	st.Forwarded = o.Forwarded()
	return st
}
