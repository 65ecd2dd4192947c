package host_test

import (
	"cmp"
	"slices"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/shared"
)

func (m *model) hold(name string) error {
	h := m.find(name)
	switch {
	case h == nil || h.state == shared.StateDisabled:
		return shared.ErrNotExist
	case h.state == shared.StatePrimed:
		return shared.ErrBusy
	}
	h.holds++
	return nil
}

func (m *model) rele(name string) error {
	h := m.find(name)
	switch {
	case h == nil:
		return shared.ErrNotExist
	case h.holds == 0:
		return shared.ErrInvalid
	}
	h.holds--
	return nil
}

// present is what whoever comes to listen hears first.
func (m *model) present() (events []string) {
	for _, h := range m.helpers {
		switch h.state {
		case shared.StateFailed:
			events = append(events, "loaded "+h.name, "failed "+h.name)
		case shared.StateActive:
			events = append(events, "loaded "+h.name)
		default: // primed or disabled
			events = append(events, string(h.state)+" "+h.name)
		}
	}
	return events
}

// crash is the death of a process.
func (m *model) crash(h *modelHelper) {
	h.dead = true
	if h.state == shared.StateActive {
		h.state = shared.StateFailed
		m.event(host.EventFailed, h.name)
	}
}

// newObject returns those who follow an object.
func (m *model) newObject(class shared.Class) (on []*modelHelper) {
	for _, h := range m.helpers {
		if (h.state == shared.StateActive || h.state == shared.StateFailed) && h.osd && h.class == class {
			h.objects++
			on = append(on, h)
		}
	}
	return on
}

func (m *model) restart(h *modelHelper, change func(*modelHelper)) error {
	switch {
	case h == nil || !slices.Contains(m.helpers, h):
		return shared.ErrNotExist
	case h.builtin, h.state != shared.StateActive && h.state != shared.StateFailed:
		return shared.ErrBusy
	}
	was := *h
	was.needs = slices.Clone(h.needs)
	change(h)
	brought, crashed, err := m.succeed(h)
	if err != nil {
		*h = was
		m.rollBack(brought)
		if crashed && !h.dead { // the fixture's crash ends both processes
			m.crash(h)
			m.unordered = true
		}
		return err
	}
	m.replaced(h)
	return nil
}

// replaced is the end of a restart: what it requires no more is let go of.
func (m *model) replaced(h *modelHelper) {
	h.needs = slices.DeleteFunc(h.needs, func(n *modelHelper) bool {
		return !slices.ContainsFunc(h.wants(), func(r shared.Requirement) bool { return r.Name == n.name })
	})
	h.state, h.dead = shared.StateActive, false
	h.restarts++
	m.generation++
	m.event(host.EventReplaced, h.name)
}

// succeed takes another process for a helper as far as its Init.
func (m *model) succeed(h *modelHelper) (brought []arrived, crashed bool, err error) {
	if h.state == shared.StateFailed {
		h.state = shared.StateRestarting
	}
	kept, runs := h.osd, h.version
	if err := m.describe(h, ""); err != nil {
		return nil, false, err
	}
	if h.objects > 0 && kept && !h.osd {
		return nil, false, shared.ErrIncompatible
	}
	for _, d := range m.dependants(h) {
		for _, r := range d.wants() {
			if r.Name == h.name && !suits(h.version, r.Constraint) {
				return nil, false, shared.ErrIncompatible
			}
		}
	}
	h.runs = runs
	brought, err = m.requireAll(h, h.wants(), how{})
	h.runs = ""
	switch {
	case err != nil:
		return brought, false, err
	case h.init == crashes:
		return brought, true, shared.ErrHelperGone
	case h.init == refuses:
		return brought, false, shared.ErrInvalid
	}
	return brought, false, nil
}

// sweep is a pass of autounloading so late that everybody has been idle for long.
func (m *model) sweep(pressed bool) {
	m.unordered = true
	tried := map[*modelHelper]bool{}
	var try func(h *modelHelper)
	try = func(h *modelHelper) {
		if tried[h] {
			return
		}
		tried[h] = true
		for _, d := range m.dependants(h) {
			try(d)
		}
		policy := cmp.Or(h.spec.Autounload, shared.AutounloadIdle)
		once := policy == shared.AutounloadOnce
		switch {
		case h.builtin || h.state != shared.StateActive || policy == shared.AutounloadNever:
		case m.refs(h) > 0 && !once:
		case !h.auto && !(pressed && m.unreferenced):
		case !pressed && once && h.tried:
		default:
			if h.tried = true; !h.stays {
				_ = m.leave(h, false) // who is held, or refuses, stays
			}
		}
	}
	for _, h := range slices.Clone(m.helpers) {
		try(h)
	}
}
