package host

import (
	"maps"
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
	return changesOf(h.steps(specs, next)), nil
}

func changesOf(steps []step) []Change {
	changes := make([]Change, len(steps))
	for i := range steps {
		changes[i] = steps[i].Change
	}
	return changes
}

// step is a change with what it takes to make it.
type step struct {
	Change
	helper  *helper           // when it was last looked at; nil: not loaded
	spec    shared.HelperSpec // its name is empty for who is configured no more
	program *program          // of the spec; nil: the helper's own, or none
}

// requires reports whether the helper will require another when the step has been made, as far as that is known.
func (s *step) requires(name string) bool {
	info := &s.helper.face.Load().info
	if s.program != nil && s.program.info != nil {
		info = s.program.info
	}
	return slices.ContainsFunc(slices.Concat(info.Requires, s.spec.Requires), func(r shared.Requirement) bool { return r.Name == name })
}

// steps compares what is configured and loaded with another configuration. They come in the order in which they are made: whoever can leave
// at once, so that it stands in nobody's way; what changes, in the order of the new configuration; whoever is held until then; and what
// is loaded.
func (h *Host) steps(specs []shared.HelperSpec, next map[string]shared.HelperSpec) []step {
	programs := h.otherPrograms(specs)
	h.mu.Lock()
	defer h.mu.Unlock()
	var changes, loads []step
	for _, spec := range specs {
		s := step{helper: h.findLocked(spec.Name), spec: spec, program: programs[spec.Name]}
		s.Helper = spec.Name
		if s.helper == nil {
			s.Action, s.Reason = h.absentLocked(&spec)
		} else {
			s.Action, s.Reason = h.presentStepLocked(&s)
		}
		switch s.Action {
		case "":
		case ChangeLoad:
			loads = append(loads, s)
		default:
			changes = append(changes, s)
		}
	}
	early, late := h.departuresLocked(next, changes)
	return slices.Concat(early, changes, late, loads)
}

// absentLocked says what it takes for a helper that is not loaded to be what a spec says.
func (h *Host) absentLocked(spec *shared.HelperSpec) (ChangeAction, string) {
	old, was := h.catalogue[spec.Name]
	switch {
	case loadWhen(spec) == shared.LoadBoot && !was:
		return ChangeLoad, "it is new"
	case loadWhen(spec) == shared.LoadBoot:
		return ChangeLoad, "it is not loaded"
	case !was:
		return ChangeUpdate, "it is new, and not loaded at the start"
	}
	action, reason := difference(&old, spec)
	if action != "" {
		action = ChangeUpdate // of the configuration only
	}
	return action, reason
}

// presentStepLocked says what it takes for a helper that is loaded to be what the step's spec says.
func (h *Host) presentStepLocked(s *step) (ChangeAction, string) {
	old, was := h.catalogue[s.Helper]
	have := s.helper.face.Load().spec
	if was {
		have.Load = old.Load // it may have been loaded by hand since
	}
	action, reason := difference(&have, &s.spec)
	switch {
	case s.helper.state == shared.StateDisabled && !was && action == "":
		return ChangeUpdate, "it is new, and disabled"
	case s.helper.state == shared.StateDisabled && action != "":
		return ChangeUpdate, reason // it comes back only when an operator insists
	case s.helper.state == shared.StateDisabled, action == ChangeRestart:
	case s.program != nil:
		return ChangeRestart, "its program is another"
	case s.helper.state == shared.StateFailed && s.helper.op == nil:
		return ChangeRestart, "it has failed"
	}
	return action, reason
}

// departuresLocked returns the steps for helpers that are configured no more, dependants first: early for those whom nobody but the early
// holds, and late for the others.
func (h *Host) departuresLocked(next map[string]shared.HelperSpec, changes []step) (early, late []step) {
	leaves := map[string]bool{}
	for name := range h.catalogue {
		_, stays := next[name]
		leaves[name] = !stays
	}
	for _, hp := range h.dependantsFirstLocked() {
		if !leaves[hp.name] || hp.state == shared.StateDisabled {
			continue
		}
		leaves[hp.name] = false // told
		s := step{Change: Change{Helper: hp.name, Action: ChangeUnload, Reason: "it is not configured any more"}, helper: hp}
		if s.BlockedBy = hp.blockersLocked(early); len(s.BlockedBy) == 0 {
			early = append(early, s)
			continue
		}
		s.BlockedBy = hp.blockersLocked(slices.Concat(early, changes, late))
		late = append(late, s)
	}
	for _, name := range slices.Sorted(maps.Keys(leaves)) {
		if leaves[name] {
			reason := "it is not configured any more, and not loaded"
			if h.findLocked(name) != nil {
				reason = "it is not configured any more, and disabled"
			}
			late = append(late, step{Change: Change{Helper: name, Action: ChangeUpdate, Reason: reason}})
		}
	}
	return early, late
}

// blockersLocked returns who holds a helper, but for those who let go of it in one of the steps before.
func (hp *helper) blockersLocked(before []step) []string {
	return slices.DeleteFunc(hp.holdersLocked(), func(who string) bool {
		return slices.ContainsFunc(before, func(s step) bool {
			switch s.Action {
			case ChangeUnload:
				return len(s.BlockedBy) == 0 && (who == s.Helper || strings.HasSuffix(who, " of "+s.Helper))
			case ChangeRestart:
				return who == s.Helper && !s.requires(hp.name)
			}
			return false
		})
	})
}

// program is one that is to run in the place of another.
type program struct {
	info *shared.Modinfo // what it says of itself; nil: that is not known
}

// otherPrograms returns, by name, where specs name another program now than the one that runs, as far as that can be asked.
func (h *Host) otherPrograms(specs []shared.HelperSpec) map[string]*program {
	out := map[string]*program{}
	for i := range specs {
		h.mu.Lock()
		hp := h.findLocked(specs[i].Name)
		h.mu.Unlock()
		if hp == nil {
			continue
		}
		in := hp.inst.Load()
		if in == nil || in.end.SHA256() == "" {
			continue
		}
		command, err := h.command(&specs[i])
		if err != nil {
			continue
		}
		if sum, err := launch.Sum(command[0]); err == nil && sum != in.end.SHA256() {
			out[specs[i].Name] = &program{}
			if info, ok := h.known(specs[i], true); ok {
				out[specs[i].Name].info = &info
			}
		}
	}
	return out
}
