package host_test

import (
	"slices"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/shared"
)

func (m *model) prime(name string) error {
	switch h := m.find(name); {
	case h != nil && h.state == shared.StateDisabled:
		return shared.ErrPermission
	case h != nil:
		return shared.ErrExist
	}
	h := m.newcomer(m.asked(name))
	if err := m.describe(h, ""); err != nil {
		m.remove(h)
		return err
	}
	h.state = shared.StatePrimed
	if !h.builtin {
		h.source = shared.SourceBoot
	}
	m.event(host.EventPrimed, name)
	return nil
}

// primed returns the primed helpers of a class, all for "".
func (m *model) primed(class shared.Class) (builtins, others []*modelHelper) {
	for _, h := range m.helpers {
		switch {
		case h.state != shared.StatePrimed || class != "" && h.class != class:
		case h.builtin:
			builtins = append(builtins, h)
		default:
			others = append(others, h)
		}
	}
	return builtins, others
}

func (m *model) initClass(class shared.Class) map[string]error {
	failed := map[string]error{}
	builtins, others := m.primed(class)
	for _, h := range slices.Concat(builtins, others) {
		if h.state != shared.StatePrimed || m.find(h.name) != h {
			continue // initialised for one that required it
		}
		if err := m.operatorLoads(h.name, how{}); err != nil {
			failed[h.name] = err
		}
	}
	return failed
}

func (m *model) endBoot() {
	builtins, others := m.primed("")
	for _, h := range slices.Concat(builtins, others) {
		_ = m.leave(h, false) // nobody can hold it
	}
}
