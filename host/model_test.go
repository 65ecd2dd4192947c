package host_test

import (
	"cmp"
	"slices"
	"strings"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/shared"
)

// The model is the loader without processes, locks and time: what an operator should see of the registry after each thing that is done to
// it, one after another. Its invariants:
//
//   - A helper is in the registry at most once, and its id is never another's.
//   - Whoever is active has each of its requirements in the registry, in a version that it can work with.
//   - refs = objects + holds + helpers that require it, or -1 of one that is disabled.
//   - What does not succeed leaves the registry as it was: helpers, references, generation apart, but for boot helpers that were
//     initialised on the way, and helpers that refuse to finish.
//   - The generation counts what became active, and what left.
//   - Nobody who is held leaves.
//   - Neither a builtin nor who is to be there from the start is autoloaded.
//   - Who comes to listen hears first how everybody came to be as they are.

// behaviour is how a function of a helper ends.
type behaviour int

const (
	fine behaviour = iota
	refuses
	crashes
)

// definition is a helper as it would be found on the path, or offered as a builtin.
type definition struct {
	version    string
	requires   []shared.Requirement
	class      shared.Class
	osd        bool
	init, fini behaviour
	stays      bool // it objects to autounload
}

type modelHelper struct {
	definition
	name                       string
	spec                       shared.HelperSpec
	builtin, auto, tried, dead bool // a builtin is dead that could not be initialised again
	state                      shared.State
	runs                       string // the version that others see while another takes over; "": its own
	source                     shared.Source
	holds, objects, restarts   int
	incarnation                int
	needs                      []*modelHelper
}

type model struct {
	path, builtins     map[string]definition
	catalogue          map[string]shared.HelperSpec
	helpers            []*modelHelper
	generation         uint64
	events             []string
	unordered          bool // what order the events of this step come in is not said
	maxDepth, maxNeeds int
	unreferenced       bool // under pressure
}

func (m *model) find(name string) *modelHelper {
	if i := slices.IndexFunc(m.helpers, func(h *modelHelper) bool { return h.name == name }); i >= 0 {
		return m.helpers[i]
	}
	return nil
}

func (m *model) event(what host.EventType, name string) {
	m.events = append(m.events, string(what)+" "+name)
}

func (m *model) dependants(h *modelHelper) (on []*modelHelper) {
	for _, d := range m.helpers {
		if slices.Contains(d.needs, h) {
			on = append(on, d)
		}
	}
	return on
}

func (m *model) refs(h *modelHelper) int { return h.objects + h.holds + len(m.dependants(h)) }

// reaches reports whether a helper requires another, or one that does.
func reaches(from, to *modelHelper) bool {
	return from == to || slices.ContainsFunc(from.needs, func(h *modelHelper) bool { return reaches(h, to) })
}

func suits(version, constraint string) bool {
	return constraint == "" || strings.HasPrefix(version, "1.")
}

// asked returns the spec by which a helper is loaded.
func (m *model) asked(name string) shared.HelperSpec {
	if spec, ok := m.catalogue[name]; ok {
		return spec
	}
	return shared.HelperSpec{Name: name}
}

func (m *model) remove(h *modelHelper) {
	h.needs = nil
	m.helpers = slices.DeleteFunc(m.helpers, func(x *modelHelper) bool { return x == h })
}

// newcomer puts a helper into the registry.
func (m *model) newcomer(spec shared.HelperSpec) *modelHelper {
	h := &modelHelper{name: spec.Name, spec: spec, state: shared.StateStarting, source: shared.SourceFilesys}
	if spec.Load == shared.LoadBoot {
		h.source = shared.SourceBoot
	}
	if _, h.builtin = m.builtins[spec.Name]; h.builtin {
		h.source = shared.SourceBuiltin
	}
	m.helpers = append(m.helpers, h)
	return h
}

// arrived is a helper that was loaded for another, and what it was before.
type arrived struct {
	*modelHelper
	was shared.State
}

// how a load came about. Alone: nobody may be autoloaded for it.
type how struct {
	force, alone, auto bool
	depth              int
}

func (m *model) operatorLoads(name string, how how) error {
	_, _, err := m.load(m.asked(name), how)
	if err != nil {
		m.event(host.EventLoadFailed, name)
	}
	return err
}

func (m *model) load(spec shared.HelperSpec, how how) (arrived, []arrived, error) {
	h, was := m.find(spec.Name), shared.State("")
	switch {
	case h == nil:
		h = m.newcomer(spec)
	case h.state == shared.StatePrimed, h.state == shared.StateDisabled && how.force:
		was, h.state = h.state, shared.StateStarting
	case h.state == shared.StateDisabled:
		return arrived{}, nil, shared.ErrPermission
	default:
		return arrived{}, nil, shared.ErrExist
	}
	brought, err := m.bringUp(h, was, how)
	if err == nil {
		h.state, h.tried, h.auto = shared.StateActive, false, how.auto && h.source == shared.SourceFilesys
		m.generation++
		m.event(host.EventLoaded, h.name)
		return arrived{h, was}, brought, nil
	}
	h.needs = nil
	if was == shared.StateDisabled {
		h.state = was
	} else {
		m.remove(h)
	}
	m.rollBack(brought)
	return arrived{}, nil, err
}

// bringUp takes a helper as far as its Init.
func (m *model) bringUp(h *modelHelper, was shared.State, how how) (brought []arrived, err error) {
	if err := m.describe(h, was); err != nil {
		return nil, err
	}
	if brought, err = m.requireAll(h, h.wants(), how); err != nil {
		return brought, err
	}
	switch {
	case h.init == crashes:
		return brought, shared.ErrHelperGone
	case h.init == refuses:
		return brought, shared.ErrInvalid
	}
	return brought, nil
}

// describe finds out what a helper is now.
func (m *model) describe(h *modelHelper, was shared.State) error {
	switch def, ok := m.path[h.name]; {
	case h.builtin:
		h.definition = m.builtins[h.name]
		return nil
	case was == shared.StatePrimed && !h.dead:
		return nil
	case !ok:
		return shared.ErrNotExist
	default:
		h.definition, h.dead = def, false
		h.incarnation++
		return nil
	}
}

func (h *modelHelper) wants() []shared.Requirement { return slices.Concat(h.requires, h.spec.Requires) }

func (m *model) requireAll(h *modelHelper, wants []shared.Requirement, how how) (brought []arrived, err error) {
	names := map[string]bool{}
	for _, r := range wants {
		names[r.Name] = true
	}
	if len(names) > m.maxNeeds {
		return nil, shared.ErrInvalid
	}
	for _, r := range wants {
		more, err := m.require(h, r, how)
		if brought = append(brought, more...); err != nil {
			return brought, err
		}
	}
	return brought, nil
}

func (m *model) require(h *modelHelper, r shared.Requirement, how how) (brought []arrived, err error) {
	_, offered := m.builtins[r.Name]
	other := m.find(r.Name)
	if other == nil || other.state == shared.StatePrimed || other.state == shared.StateDisabled {
		_, configured := m.catalogue[r.Name]
		_, onPath := m.path[r.Name]
		switch {
		case h.builtin && !offered:
			return nil, shared.ErrNotExist
		case how.depth >= m.maxDepth:
			return nil, shared.ErrTooManyLinks
		case how.alone, other == nil && !configured && !offered && onPath:
			m.event(host.EventRefused, h.name)
			return nil, shared.ErrPermission
		case other == nil && !configured && !offered:
			return nil, shared.ErrNotExist
		}
		deeper := how
		deeper.auto, deeper.depth = true, how.depth+1
		child, more, err := m.load(m.asked(r.Name), deeper)
		if err != nil {
			return nil, err
		}
		other, brought = child.modelHelper, slices.Concat(more, []arrived{child})
	}
	switch {
	case h.builtin && !other.builtin:
		return brought, shared.ErrNotExist
	case other.state == shared.StateFailed:
		return brought, shared.ErrNotExist
	case other.state != shared.StateActive, reaches(other, h):
		return brought, shared.ErrDeadlock
	case !suits(cmp.Or(other.runs, other.version), r.Constraint):
		return brought, shared.ErrIncompatible
	case how.depth+1+other.height() > m.maxDepth:
		return brought, shared.ErrTooManyLinks
	case !slices.Contains(h.needs, other):
		h.needs = append(h.needs, other)
	}
	return brought, nil
}

// height returns how deep the needs of a helper go.
func (h *modelHelper) height() int {
	n := 0
	for _, other := range h.needs {
		n = max(n, 1+other.height())
	}
	return n
}

func (m *model) rollBack(brought []arrived) {
	for _, a := range slices.Backward(brought) {
		if a.source != shared.SourceBoot && a.was != shared.StatePrimed {
			_ = m.leave(a.modelHelper, a.was == shared.StateDisabled) // who is held, or refuses, stays
		}
	}
}

// leave is an unload that is permitted.
func (m *model) leave(h *modelHelper, disable bool) error {
	if m.refs(h) > 0 {
		return shared.ErrBusy
	}
	if h.state != shared.StatePrimed && !h.dead && m.finishing(h) == refuses {
		return shared.ErrBusy
	}
	m.generation++
	if h.builtin && disable {
		h.state, h.needs, h.dead = shared.StateDisabled, nil, false
		m.event(host.EventDisabled, h.name)
		return nil
	}
	m.remove(h)
	m.event(host.EventUnloaded, h.name)
	return nil
}

func (m *model) finishing(h *modelHelper) behaviour {
	if h.builtin {
		return m.builtins[h.name].fini
	}
	return h.fini
}

func (m *model) unload(h *modelHelper, disable bool) error {
	switch {
	case h == nil || !slices.Contains(m.helpers, h):
		return shared.ErrNotExist
	case h.builtin && (!disable || h.state == shared.StateDisabled):
		return shared.ErrBusy
	}
	return m.leave(h, disable)
}
