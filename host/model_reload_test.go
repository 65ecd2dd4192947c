package host_test

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/shared"
)

// change is what a reload did to one helper.
type change struct {
	action  host.ChangeAction
	blocked []string // sorted
	rank    int      // no step comes before one of a lower rank
	err     error
}

// modelStep is a change as it is made.
type modelStep struct {
	change
	name   string
	helper *modelHelper // when it was last looked at
	spec   shared.HelperSpec
}

func when(spec shared.HelperSpec) shared.LoadWhen { return cmp.Or(spec.Load, shared.LoadBoot) }

// action is what the change of a spec takes.
func action(old, spec shared.HelperSpec) host.ChangeAction {
	switch {
	case !slices.Equal(old.Requires, spec.Requires):
		return host.ChangeRestart
	case when(old) != when(spec) || old.Autounload != spec.Autounload || old.Limits != spec.Limits:
		return host.ChangeUpdate
	}
	return ""
}

// stepFor returns what it takes for a helper, which may be nil, to be what a spec says.
func (m *model) stepFor(h *modelHelper, spec shared.HelperSpec) host.ChangeAction {
	old, was := m.catalogue[spec.Name]
	switch {
	case h == nil && when(spec) == shared.LoadBoot:
		return host.ChangeLoad
	case h == nil && (!was || action(old, spec) != ""):
		return host.ChangeUpdate
	case h == nil:
		return ""
	}
	have := h.spec
	if was {
		have.Load = old.Load
	}
	takes := action(have, spec)
	switch {
	case h.state == shared.StateDisabled && (takes != "" || !was):
		return host.ChangeUpdate
	case h.state == shared.StateFailed:
		return host.ChangeRestart
	}
	return takes
}

func (m *model) reconfigure(specs []shared.HelperSpec) map[string]change {
	m.unordered = true
	next := map[string]shared.HelperSpec{}
	var changes, loads []*modelStep
	for i, spec := range specs {
		next[spec.Name] = spec
		s := &modelStep{name: spec.Name, helper: m.find(spec.Name), spec: spec}
		s.action, s.rank = m.stepFor(s.helper, spec), 1+i
		switch s.action {
		case "":
		case host.ChangeLoad:
			s.rank += 100
			loads = append(loads, s)
		default:
			changes = append(changes, s)
		}
	}
	early, late, notThere := m.departures(next, changes)
	before := m.catalogue
	m.catalogue = next
	m.depart(early)
	loads = append(loads, m.changeAll(changes)...) // whoever is absent now comes last
	m.depart(late)
	m.loadAbsent(loads)

	done := map[string]change{}
	for _, s := range slices.Concat(early, changes, late, notThere, loads) {
		done[s.name] = s.change
		if old, was := before[s.name]; s.err != nil && was {
			m.catalogue[s.name] = old
		} else if s.err != nil {
			delete(m.catalogue, s.name)
		}
	}
	return done
}

// departures returns the steps for who is configured no more: early for whom nobody but the early holds, late for the others, dependants
// first, and those on helpers that are not there, or disabled.
func (m *model) departures(next map[string]shared.HelperSpec, changes []*modelStep) (early, late, notThere []*modelStep) {
	done := map[string]bool{}
	var try func(h *modelHelper)
	try = func(h *modelHelper) {
		_, was := m.catalogue[h.name]
		_, stays := next[h.name]
		if done[h.name] || h.state == shared.StateDisabled {
			return
		}
		done[h.name] = true
		for _, d := range m.dependants(h) {
			try(d)
		}
		if !was || stays {
			return
		}
		s := &modelStep{change: change{action: host.ChangeUnload}, name: h.name, helper: h}
		if s.blocked = m.blockers(h, early); len(s.blocked) == 0 {
			early = append(early, s)
			return
		}
		s.blocked, s.rank = m.blockers(h, slices.Concat(early, changes, late)), 50
		late = append(late, s)
	}
	for _, h := range m.helpers {
		try(h)
	}
	for name := range m.catalogue {
		h := m.find(name)
		if _, stays := next[name]; !stays && (h == nil || h.state == shared.StateDisabled) {
			notThere = append(notThere, &modelStep{change: change{action: host.ChangeUpdate, rank: 51}, name: name})
		}
	}
	return early, late, notThere
}

// blockers returns who holds a helper, but for those who let go of it in one of the steps before.
func (m *model) blockers(h *modelHelper, before []*modelStep) (who []string) {
	count := func(n int, what string) {
		if n == 1 {
			who = append(who, "1 "+what)
		} else if n > 1 {
			who = append(who, fmt.Sprintf("%d %ss", n, what))
		}
	}
	count(h.objects, "object")
	count(h.holds, "hold")
	for _, d := range m.dependants(h) {
		letsGo := func(s *modelStep) bool {
			requires := slices.ContainsFunc(slices.Concat(d.requires, s.spec.Requires), func(r shared.Requirement) bool { return r.Name == h.name })
			return s.helper == d && (s.action == host.ChangeUnload && len(s.blocked) == 0 || s.action == host.ChangeRestart && !requires)
		}
		if !slices.ContainsFunc(before, letsGo) {
			who = append(who, d.name)
		}
	}
	slices.Sort(who)
	return who
}

// depart has helpers leave that are configured no more. A builtin is then offered as before.
func (m *model) depart(steps []*modelStep) {
	for _, s := range steps {
		if h := m.find(s.name); h != nil { // else it is gone already
			s.err = m.leave(h, false)
		}
	}
}

// changeAll makes steps on helpers that are there: restarts, then updates. It returns those on helpers that are to be there and are not.
func (m *model) changeAll(steps []*modelStep) (absent []*modelStep) {
	var updates []*modelStep
	for _, s := range steps {
		h := m.find(s.name)
		action := s.action
		if h != s.helper || action == host.ChangeLoad {
			action = cmp.Or(m.stepFor(h, s.spec), host.ChangeUpdate)
		}
		s.helper = h
		switch {
		case h == nil && when(s.spec) == shared.LoadBoot:
			absent = append(absent, s)
		case h == nil:
		case action == host.ChangeRestart:
			s.err = m.renew(h, s.spec)
		default:
			updates = append(updates, s)
		}
	}
	var left []*modelStep
	for _, s := range updates {
		if m.find(s.name) != s.helper { // a restart has claimed it while it was primed, in vain
			left = append(left, s)
			continue
		}
		s.helper.spec, s.helper.auto = s.spec, s.helper.auto && when(s.spec) != shared.LoadBoot
	}
	if len(left) > 0 {
		absent = append(absent, m.changeAll(left)...)
	}
	return absent
}

func (m *model) renew(h *modelHelper, spec shared.HelperSpec) error {
	if h.builtin {
		return m.reinit(h, spec)
	}
	err := m.restart(h, func(h *modelHelper) { h.spec = spec })
	h.auto = h.auto && (err != nil || when(spec) != shared.LoadBoot)
	return err
}

// loadAbsent loads helpers, but for those that a step before has brought: these are changed.
func (m *model) loadAbsent(steps []*modelStep) {
	for _, s := range m.changeAll(steps) {
		if _, _, s.err = m.load(s.spec, how{}); s.err != nil {
			m.event(host.EventLoadFailed, s.name)
		}
	}
}

// reinit gives a builtin another spec where it stands.
func (m *model) reinit(h *modelHelper, spec shared.HelperSpec) error {
	switch h.state {
	case shared.StatePrimed:
		h.spec = spec
		return nil
	case shared.StateActive:
	case shared.StateFailed:
		h.state = shared.StateRestarting
	default:
		return shared.ErrBusy
	}
	was := *h
	was.needs = slices.Clone(h.needs)
	if h.dead {
		was.state = shared.StateFailed
	}
	h.spec = spec
	brought, err := m.requireAll(h, h.wants(), how{})
	switch def := m.builtins[h.name]; {
	case err != nil:
	case !h.dead && def.fini == refuses:
		err = shared.ErrBusy
	case def.init != fine: // with the old spec either
		if err = shared.ErrInvalid; def.init == crashes {
			err = shared.ErrHelperGone
		}
		was.state, was.dead = shared.StateFailed, true
		m.event(host.EventFailed, h.name)
	}
	if err != nil {
		*h = was
		m.rollBack(brought)
		return err
	}
	m.replaced(h)
	return nil
}
