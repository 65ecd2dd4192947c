package host

import (
	"cmp"
	"slices"
	"strings"

	"github.com/hashicorp/go-version"

	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/shared"
)

// face is what a helper is taken for: what the operator asked of it, and what it says of itself. It is replaced as a whole, when another
// process or another configuration takes over, and does not change.
type face struct {
	spec      shared.HelperSpec
	overrides map[string]any // properties that were given at load time
	force     bool           // another API generation is put up with

	// The following are empty until the helper has described itself.
	info     shared.Modinfo
	classes  []shared.Class // declared, narrowed by the spec and at load time
	requires []shared.Requirement
	narrowed []shared.Class // at load time
}

// described returns the face that a helper gets by what it says of itself, once that is held against what was asked for.
func (f *face) described(info *shared.Modinfo) (*face, error) {
	out := *f
	out.info = *info
	if info.API != shared.APIGeneration && !f.force {
		return nil, shared.ErrIncompatible.Errorf("%s was built for API generation %d, this host has %d", info.Name, info.API, shared.APIGeneration)
	}
	if err := meets(info.Name, info.Version, f.spec.Version); err != nil {
		return nil, err
	}
	if err := checkHooks(&f.spec, info); err != nil {
		return nil, err
	}
	var err error
	if out.classes, err = narrow(info, f.spec.Classes, f.narrowed); err != nil {
		return nil, err
	}
	// Both are kept where both name a helper: its version must meet each.
	out.requires = slices.Concat(info.Requires, f.spec.Requires)
	return &out, nil
}

// properties returns the values that Init gets, held against the helper's schema.
func (f *face) properties() (map[string]any, error) {
	values := map[string]any{}
	for _, from := range []map[string]any{f.spec.Config, f.overrides} {
		for k, v := range from {
			values[k] = v
		}
	}
	return shared.CheckProperties(f.info.Properties, values)
}

// requireNames returns whom the helper requires.
func (f *face) requireNames() []string {
	var names []string
	for _, r := range f.requires {
		if !slices.Contains(names, r.Name) {
			names = append(names, r.Name)
		}
	}
	return names
}

// follows reports whether the helper wants a slot on objects of the given classes.
func (f *face) follows(classes []shared.Class) bool {
	return f.info.NeedsOSD && slices.ContainsFunc(f.classes, func(c shared.Class) bool { return slices.Contains(classes, c) })
}

// hookConfig returns how a hook is to stand on a head, without what belongs to the helper itself.
func (f *face) hookConfig(head *hhook.Head, info shared.HookInfo) hhook.HookConfig {
	spec := f.spec.Hook(info.Point)
	limit := shared.DefaultTimeout
	if head.Options().Async {
		limit = head.Options().Budget // nobody waits for the answer, and a busy machine may take its time
	}
	return hhook.HookConfig{
		Helper: f.spec.Name, Index: info.Index, UData: info.UData,
		NeedsOSD: f.info.NeedsOSD,
		Timeout:  cmp.Or(spec.Timeout, f.spec.Timeout, limit),
		Order:    spec.Order, Requires: f.requireNames(),
		Policy: f.policy(spec),
	}
}

// policy merges what the operator said of a hook over what was said of the helper.
func (f *face) policy(spec shared.HookSpec) hhook.Policy {
	p := hhook.Policy{OnFailure: f.spec.OnFailure, OnCause: map[shared.Cause]shared.Action{}}
	for c, a := range f.spec.OnCause {
		p.OnCause[c] = a
	}
	if spec.OnFailure != shared.ActionDefault {
		p = hhook.Policy{OnFailure: spec.OnFailure, OnCause: map[shared.Cause]shared.Action{}}
	}
	for c, a := range spec.OnCause {
		p.OnCause[c] = a
	}
	return p
}

// checkHooks holds the spec's words on hooks against the hooks that there are.
func checkHooks(spec *shared.HelperSpec, info *shared.Modinfo) error {
	var points []string
	for _, hook := range info.Hooks {
		points = append(points, string(hook.Point))
	}
	for _, hook := range spec.Hooks {
		if !slices.Contains(points, string(hook.Point)) {
			return shared.ErrInvalid.Errorf("%s has no hook on %s; it hooks %s", info.Name, hook.Point, strings.Join(points, ", "))
		}
	}
	return nil
}

// meets checks a version against a constraint, if there is one.
func meets(name, have, constraint string) error {
	if constraint == "" {
		return nil
	}
	want, err := version.NewConstraint(constraint)
	if err != nil {
		return shared.ErrInvalid.Errorf("version constraint %q: %w", constraint, err)
	}
	v, err := version.NewVersion(have)
	if err != nil {
		return shared.ErrIncompatible.Errorf("%s has version %q, which cannot be held against %q: %w", name, have, constraint, err)
	}
	if !want.Check(v) {
		return shared.ErrIncompatible.Errorf("%s has version %s, %q is asked for", name, have, constraint)
	}
	return nil
}

// narrow returns the classes the helper shall follow, narrowed step by step. One asked for that is not there is ErrNotExist.
func narrow(info *shared.Modinfo, asked ...[]shared.Class) ([]shared.Class, error) {
	classes := info.Classes
	for _, want := range asked {
		if len(want) == 0 {
			continue
		}
		for _, c := range want {
			if !slices.Contains(classes, c) {
				return nil, shared.ErrNotExist.Errorf("%s does not follow class %q, only %v", info.Name, string(c), classes)
			}
		}
		classes = want
	}
	return classes, nil
}
