package host

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/khelp/khelp/shared"
)

// Reconfigure makes another set of helpers the configured one and brings what is loaded in line with it: who is configured no more leaves,
// a helper whose process must be another is replaced object by object, others change under their hooks, and what is to be there from the
// start is loaded. Each step is made as a whole or not at all, and the result tells which; one that was not made is planned again the
// next time. An invalid spec is an error, and nothing has changed. It is ErrBusy while another Reconfigure or a Configure is under way.
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
	return changesOf(steps), nil
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
	h.setCatalogueLocked(next)
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

// take makes the steps and notes in each what became of it. What is under way on a helper is waited for: it may be what the step is about.
func (h *Host) take(ctx context.Context, steps []step) {
	var changes, loads []*step
	absent := func() { loads = append(loads, h.change(ctx, changes)...); changes = nil }
	for i := range steps {
		s := &steps[i]
		switch {
		case s.Action == ChangeUnload:
			absent()
			s.Err = h.depart(ctx, s)
		case s.Action == ChangeLoad:
			loads = append(loads, s)
		case s.spec.Name != "":
			changes = append(changes, s)
		}
	}
	absent()
	h.loadAbsent(ctx, loads)
}

// depart unloads a helper that is configured no more. A builtin is then offered as before.
func (h *Host) depart(ctx context.Context, s *step) error {
	for {
		hp, err := h.settled(ctx, s.Helper)
		if err != nil || hp == nil {
			return err
		}
		err = h.unload(ctx, hp, unloading{disable: true, forget: true})
		if !h.overtaken(hp, s.Helper, err) {
			return err
		}
	}
}

// change makes steps on helpers that are loaded: first what takes another process, then the rest together. It returns those on helpers that
// are not, and are to be there.
func (h *Host) change(ctx context.Context, steps []*step) (absent []*step) {
	for len(steps) > 0 {
		var updates []*step
		for _, s := range steps {
			var action ChangeAction
			switch action, s.Err = h.lookAgain(ctx, s); action {
			case "":
			case ChangeLoad:
				absent = append(absent, s)
			case ChangeRestart:
				s.Err = h.renew(ctx, s)
			default:
				updates = append(updates, s)
			}
		}
		h.update(updates)
		steps = slices.DeleteFunc(slices.Clone(steps), func(s *step) bool { return !h.overtaken(s.helper, s.Helper, s.Err) })
	}
	return absent
}

// lookAgain waits for what is under way on a helper, and says what it then takes for it to be what the step's spec says.
func (h *Host) lookAgain(ctx context.Context, s *step) (ChangeAction, error) {
	hp, err := h.settled(ctx, s.Helper)
	if err != nil {
		return "", err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	before := s.helper
	s.helper = hp
	switch {
	case hp == nil && loadWhen(&s.spec) == shared.LoadBoot:
		return ChangeLoad, nil
	case hp == nil:
		return "", nil
	case hp == before && s.Action != ChangeLoad:
		return s.Action, nil
	}
	s.program = nil // that was another process's
	if action, _ := h.presentStepLocked(s); action != "" {
		return action, nil
	}
	return ChangeUpdate, nil // it stays from now on, if it is to
}

// renew has another process take over, or a builtin initialise itself again.
func (h *Host) renew(ctx context.Context, s *step) error {
	if s.helper.builtin != nil {
		return h.reinit(ctx, s)
	}
	err := h.replace(ctx, s.helper, func(f *face) { f.spec = s.spec })
	if err == nil {
		h.stays(s)
	}
	return err
}

// loadAbsent loads helpers. Somebody else may be faster, or have been: then they are changed to what they are to be.
func (h *Host) loadAbsent(ctx context.Context, steps []*step) {
	for len(steps) > 0 {
		steps = h.change(ctx, steps)
		specs := make([]shared.HelperSpec, len(steps))
		for i, s := range steps {
			specs[i] = s.spec
		}
		for _, failed := range h.LoadAll(ctx, specs) {
			i := slices.IndexFunc(steps, func(s *step) bool { return s.Helper == failed.Helper })
			steps[i].Err = failed.Err
		}
		steps = slices.DeleteFunc(steps, func(s *step) bool { return !errors.Is(s.Err, shared.ErrExist) || !h.onItsWay(s.Helper) })
	}
}

// settled returns the helper of a name, nil if there is none, when nothing is under way on it.
func (h *Host) settled(ctx context.Context, name string) (*helper, error) {
	for {
		hp, _, busy := h.look(name)
		if !busy {
			return hp, nil
		}
		if _, err := h.await(ctx, nil, hp); err != nil {
			return nil, err
		}
	}
}

// overtaken reports whether a step on a helper was not made because something else has begun on it, or has ended it, perhaps for another of
// its name.
func (h *Host) overtaken(hp *helper, name string, err error) bool {
	now, _, busy := h.look(name)
	return errors.Is(err, shared.ErrBusy) && busy || errors.Is(err, shared.ErrNotExist) && now != hp
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
		s.helper.resizeLocked()
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
