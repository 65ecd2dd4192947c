package host

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/khelp/khelp/host/internal/launch"
	"github.com/khelp/khelp/shared"
)

// ChangeAction is what a reload does to one helper.
type ChangeAction string

// The actions.
const (
	ChangeLoad    ChangeAction = "load"    // it is configured and was not
	ChangeUnload  ChangeAction = "unload"  // it is configured no more
	ChangeRestart ChangeAction = "restart" // another process takes over, object by object
	ChangeReorder ChangeAction = "reorder" // its hooks get other places
	ChangeUpdate  ChangeAction = "update"  // limits of time, failure policies and the like change under it
)

// Change is one step from the configuration that a host has to another.
type Change struct {
	Helper    string
	Action    ChangeAction
	Reason    string   // what is different
	BlockedBy []string // who holds the helper, so that the step cannot be made now: "12 objects", "vegas", "1 hold"
	Err       error    // of Reconfigure: why the step was not made
}

// Plan says what Reconfigure would do, and does nothing. The errors are Configure's for specs that are wrong.
func (h *Host) Plan(specs []shared.HelperSpec) ([]Change, error) {
	next, err := catalogueOf(specs)
	if err != nil {
		return nil, err
	}
	steps := h.steps(specs, next)
	changes := make([]Change, len(steps))
	for i := range steps {
		changes[i] = steps[i].Change
	}
	return changes, nil
}

// Reconfigure makes another set of helpers the configured one and brings what is loaded in line with it: who is configured no more leaves,
// a helper whose process must be another is replaced object by object, others change under their hooks, and what is to be there from the
// start is loaded. Each step is made as a whole or not at all, and the result tells which; one that was not made is planned again the
// next time. An invalid spec is an error, and nothing has changed. It is ErrBusy while another Reconfigure is under way.
func (h *Host) Reconfigure(ctx context.Context, specs []shared.HelperSpec) ([]Change, error) {
	next, err := catalogueOf(specs)
	if err != nil {
		return nil, err
	}
	ctx, done, err := h.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := h.beginChange(); err != nil {
		return nil, err
	}
	defer h.endChange()
	steps := h.steps(specs, next)
	faces, failed := h.demandFaces(ctx, specs)
	// Who is about to be loaded is stood in for until it is there, and so is who could not be asked what it is now.
	before := h.setCatalogue(next, specs, faces, func(name string) bool {
		return slices.ContainsFunc(steps, func(s step) bool { return s.Helper == name && s.Action == ChangeLoad }) ||
			slices.ContainsFunc(failed, func(f *BootError) bool { return f.Helper == name })
	})
	h.take(ctx, steps)
	for _, f := range failed {
		steps = blame(steps, f)
	}
	h.keepOld(before, steps)
	changes := make([]Change, len(steps))
	for i := range steps {
		changes[i] = steps[i].Change
	}
	return changes, nil
}

func (h *Host) beginChange() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.changing {
		return shared.ErrBusy.Errorf("another change of the configuration is under way")
	}
	h.changing = true
	return nil
}

func (h *Host) endChange() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.changing = false
}

// setCatalogue makes specs the configured ones and returns those before.
func (h *Host) setCatalogue(
	next map[string]shared.HelperSpec, specs []shared.HelperSpec, faces []*face, kept func(name string) bool,
) map[string]shared.HelperSpec {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.catalogue
	h.catalogue = next
	h.setDemandsLocked(specs, faces, kept)
	return before
}

// blame enters the failure of a helper that loads on demand and could not be described.
func blame(steps []step, f *BootError) []step {
	for i := range steps {
		if steps[i].Helper == f.Helper {
			steps[i].Err = errors.Join(steps[i].Err, f.Err)
			return steps
		}
	}
	return append(steps, step{Change: Change{Helper: f.Helper, Action: ChangeUpdate, Reason: "it loads on demand", Err: f.Err}})
}

// keepOld has the old spec stand for what was not changed, so that the next plan shows it again.
func (h *Host) keepOld(before map[string]shared.HelperSpec, steps []step) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range steps {
		if s := &steps[i]; s.Err != nil {
			h.catalogue = maps.Clone(h.catalogue)
			if old, was := before[s.Helper]; was {
				h.catalogue[s.Helper] = old
			} else {
				delete(h.catalogue, s.Helper)
			}
		} else if s.Action == ChangeLoad {
			h.delistLocked(s.Helper)
		}
	}
}

// step is a change with what it takes to make it.
type step struct {
	Change
	helper *helper // nil: not loaded
	spec   shared.HelperSpec
}

// steps compares what is configured and loaded with another configuration. They come in the order in which they are made: whoever leaves,
// dependants first, then what changes, in the order of the new configuration.
func (h *Host) steps(specs []shared.HelperSpec, next map[string]shared.HelperSpec) []step {
	sums := h.sums(specs)
	h.mu.Lock()
	defer h.mu.Unlock()
	steps := h.departuresLocked(next)
	for _, spec := range specs {
		old, was := h.catalogue[spec.Name]
		hp := h.findLocked(spec.Name)
		c := Change{Helper: spec.Name}
		switch {
		case hp == nil && spec.Load != shared.LoadManual && spec.Load != shared.LoadDemand:
			c.Action, c.Reason = ChangeLoad, "it is not loaded"
			if !was {
				c.Reason = "it is new"
			}
		case hp == nil && !was:
			c.Action, c.Reason = ChangeUpdate, "it is new, and not loaded at the start"
		case hp == nil:
			c.Action, c.Reason = difference(&old, &spec)
			if c.Action != "" {
				c.Action = ChangeUpdate // of the configuration only
			}
		default:
			have := hp.face.Load().spec
			if was {
				have.Load = old.Load // it may have been loaded by hand since
			}
			c.Action, c.Reason = difference(&have, &spec)
			if in := hp.inst.Load(); c.Action != ChangeRestart && in != nil && sums[spec.Name] != "" && in.end.SHA256() != "" && in.end.SHA256() != sums[spec.Name] {
				c.Action, c.Reason = ChangeRestart, "its program is another"
			}
		}
		if c.Action != "" {
			steps = append(steps, step{Change: c, helper: hp, spec: spec})
		}
	}
	return steps
}

// departuresLocked returns the steps for helpers that are configured no more.
func (h *Host) departuresLocked(next map[string]shared.HelperSpec) []step {
	var steps []step
	leaves := map[string]bool{}
	for name := range h.catalogue {
		_, stays := next[name]
		leaves[name] = !stays
	}
	for _, hp := range h.dependantsFirstLocked() {
		if !leaves[hp.name] {
			continue
		}
		leaves[hp.name] = false // told
		c := Change{Helper: hp.name, Action: ChangeUnload, Reason: "it is not configured any more", BlockedBy: hp.holdersLocked()}
		c.BlockedBy = slices.DeleteFunc(c.BlockedBy, func(who string) bool { // they leave before
			return slices.ContainsFunc(steps, func(s step) bool { return s.Helper == who && len(s.BlockedBy) == 0 })
		})
		if hp.builtin != nil {
			c.Reason = "it is not configured any more; a builtin is disabled"
		}
		steps = append(steps, step{Change: c, helper: hp})
	}
	for _, name := range slices.Sorted(maps.Keys(leaves)) {
		if leaves[name] {
			steps = append(steps, step{Change: Change{Helper: name, Action: ChangeUpdate, Reason: "it is not configured any more, and not loaded"}})
		}
	}
	return steps
}

// sums returns the sums of the programs that specs name now, where a process runs of which that can be asked.
func (h *Host) sums(specs []shared.HelperSpec) map[string]string {
	out := map[string]string{}
	for i := range specs {
		h.mu.Lock()
		hp := h.findLocked(specs[i].Name)
		runs := hp != nil && hp.inst.Load() != nil
		h.mu.Unlock()
		if !runs {
			continue
		}
		if command, err := h.command(&specs[i]); err == nil {
			if sum, err := launch.Sum(command[0]); err == nil {
				out[specs[i].Name] = sum
			}
		}
	}
	return out
}

// difference says what the change of a spec takes, and why: the most that any part of it takes.
func difference(old, spec *shared.HelperSpec) (ChangeAction, string) {
	for _, part := range []struct {
		action ChangeAction
		name   string
		same   bool
	}{
		{ChangeRestart, "command", slices.Equal(old.Command, spec.Command)},
		{ChangeRestart, "sha256", strings.EqualFold(old.SHA256, spec.SHA256)},
		{ChangeRestart, "version", old.Version == spec.Version},
		{ChangeRestart, "env", maps.Equal(old.Env, spec.Env)},
		{ChangeRestart, "config", reflect.DeepEqual(nonEmpty(old.Config), nonEmpty(spec.Config))},
		{ChangeRestart, "classes", slices.Equal(old.Classes, spec.Classes)},
		{ChangeRestart, "requires", slices.Equal(old.Requires, spec.Requires)},
		{ChangeRestart, "limits", old.Limits == spec.Limits},
		{ChangeReorder, "order", sameOrders(old, spec)},
		{ChangeUpdate, "timeout", old.Timeout == spec.Timeout},
		{ChangeUpdate, "on_failure", old.OnFailure == spec.OnFailure && maps.Equal(old.OnCause, spec.OnCause)},
		{ChangeUpdate, "hook", sameHooks(old.Hooks, spec.Hooks)},
		{ChangeUpdate, "load", loadWhen(old) == loadWhen(spec)},
		{ChangeUpdate, "autounload", old.Autounload == spec.Autounload && old.AutounloadAfter == spec.AutounloadAfter},
	} {
		if !part.same {
			return part.action, part.name + " has changed"
		}
	}
	return "", ""
}

func nonEmpty(m map[string]any) map[string]any {
	if len(m) == 0 {
		return nil
	}
	return m
}

// loadWhen takes a helper that was loaded by hand for one that is to be.
func loadWhen(spec *shared.HelperSpec) shared.LoadWhen { return cmp.Or(spec.Load, shared.LoadBoot) }

func sameOrders(old, spec *shared.HelperSpec) bool {
	for _, hooks := range [][]shared.HookSpec{old.Hooks, spec.Hooks} {
		for _, hook := range hooks {
			if old.Hook(hook.Point).Order != spec.Hook(hook.Point).Order {
				return false
			}
		}
	}
	return true
}

func sameHooks(old, hooks []shared.HookSpec) bool {
	return slices.EqualFunc(old, hooks, func(a, b shared.HookSpec) bool {
		return a.Point == b.Point && a.Timeout == b.Timeout && a.OnFailure == b.OnFailure && a.Required == b.Required && maps.Equal(a.OnCause, b.OnCause)
	})
}

// take makes the steps and notes in each what became of it.
func (h *Host) take(ctx context.Context, steps []step) {
	var loads, updates []*step
	for i := range steps {
		s := &steps[i]
		switch {
		case s.Action == ChangeLoad:
			loads = append(loads, s)
		case s.helper == nil:
		case s.Action == ChangeUnload:
			s.Err = h.unload(ctx, s.helper, unloading{disable: true})
		case s.Action == ChangeRestart && s.helper.builtin == nil:
			if s.Err = h.replace(ctx, s.helper, func(f *face) { f.spec = s.spec }); s.Err == nil {
				h.stays(s)
			}
		case s.Action == ChangeRestart:
			s.Err = h.reinit(ctx, s)
		default:
			updates = append(updates, s)
		}
	}
	h.update(updates)
	specs := make([]shared.HelperSpec, len(loads))
	for i, s := range loads {
		specs[i] = s.spec
	}
	for _, failed := range h.LoadAll(ctx, specs) {
		for _, s := range loads {
			// One of the steps before may have required it, and been faster.
			if s.Helper == failed.Helper && !h.isActive(s.Helper) {
				s.Err = failed.Err
			}
		}
	}
}

// update changes what can change under helpers that run: all at once, for one order may contradict another that is about to change too;
// and if they contradict each other even so, each by itself.
func (h *Host) update(steps []*step) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var ready []*step
	for _, s := range steps {
		if s.Err = h.updatableLocked(s); s.Err == nil {
			ready = append(ready, s)
		}
	}
	if h.updateLocked(ready) == nil {
		return
	}
	for _, s := range ready {
		s.Err = h.updateLocked([]*step{s})
	}
}

// updatableLocked returns why a helper cannot be changed now.
func (h *Host) updatableLocked(s *step) error {
	hp := s.helper
	switch {
	case !slices.Contains(h.helpers, hp):
		return h.notLoadedLocked(hp.name)
	case hp.op != nil:
		return shared.ErrBusy.Errorf("%s is %s", hp.name, hp.doingLocked())
	}
	return checkHooks(&s.spec, &hp.face.Load().info)
}

// updateLocked changes helpers together, or none of them.
func (h *Host) updateLocked(steps []*step) error {
	before := make([]*face, len(steps))
	var bound []*helper
	for i, s := range steps {
		before[i] = s.helper.face.Load()
		next := *before[i]
		next.spec = s.spec
		s.helper.face.Store(&next)
		if s.helper.bound {
			bound = append(bound, s.helper)
		}
	}
	if err := h.rebindLocked(bound...); err != nil {
		for i, s := range steps {
			s.helper.face.Store(before[i])
		}
		return err
	}
	for _, s := range steps {
		h.staysLocked(s)
	}
	return nil
}

// staysLocked has a helper stay as long as its spec says now.
func (h *Host) staysLocked(s *step) {
	s.helper.after = s.helper.stayLocked()
	if loadWhen(&s.spec) == shared.LoadBoot {
		s.helper.autoloaded = false // it is to be there from now on, whoever had it loaded
	}
	h.kick()
}

func (h *Host) stays(s *step) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.staysLocked(s)
}

// reinit gives a builtin other properties: it is taken out and brought back, for it has no process that could take over. One that is
// primed has yet to be initialised.
func (h *Host) reinit(ctx context.Context, s *step) error {
	if h.isPrimed(s.helper) {
		h.update([]*step{s})
		return s.Err
	}
	if err := h.unload(ctx, s.helper, unloading{disable: true, forget: true}); err != nil {
		return err
	}
	was := s.helper.face.Load()
	again := func(spec shared.HelperSpec) error {
		_, err := h.load(ctx, spec, &loading{classes: was.narrowed, properties: was.overrides})
		return err
	}
	if err := again(s.spec); err != nil {
		return errors.Join(err, again(was.spec))
	}
	return nil
}

func (h *Host) isPrimed(hp *helper) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return hp.state == shared.StatePrimed
}

func (h *Host) isActive(name string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	hp := h.findLocked(name)
	return hp != nil && hp.isActiveLocked()
}
