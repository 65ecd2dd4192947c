package config

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/hashicorp/go-version"
	"github.com/hashicorp/hcl/v2"

	"github.com/khelp/khelp/shared"
)

// checkRequirements holds what helpers require against each other: circles, limits and versions.
func (s *survey) checkRequirements() hcl.Diagnostics {
	diags := s.checkVersions()
	for _, n := range s.nodes {
		diags = append(diags, n.checkCount()...)
	}
	helpers := make([]shared.Requiring, len(s.nodes))
	for i, n := range s.nodes {
		helpers[i].Helper = n.spec.Name
		for _, r := range n.needs {
			helpers[i].Requires = append(helpers[i].Requires, r.Requirement)
		}
	}
	order, err := shared.SortRequires(helpers)
	var circles *shared.CircleError
	if !errors.As(err, &circles) {
		return append(diags, s.checkDepth(order)...)
	}
	for _, circle := range circles.Circles {
		diags = append(diags, s.circular(circle))
	}
	return diags
}

// circular reports a circle at the requirement that closes it, and says where each of its requirements stands.
func (s *survey) circular(circle []int) *hcl.Diagnostic {
	var closing need
	var names, steps []string
	for i, at := range circle {
		n, next := s.nodes[at], s.nodes[circle[(i+1)%len(circle)]].spec.Name
		closing = n.need(next)
		names = append(names, n.spec.Name)
		steps = append(steps, fmt.Sprintf("%s requires %s %s", n.spec.Name, next, closing.source()))
	}
	return problem(closing.at, "Circular requirement: EDEADLK", "The requirements go in a circle: %s → %s. %s.",
		strings.Join(names, " → "), names[0], listOfWords(steps, "and"))
}

// need returns the first requirement of a name.
func (n *node) need(name string) need {
	return n.needs[slices.IndexFunc(n.needs, func(r need) bool { return r.Name == name })]
}

// source says where a requirement comes from.
func (r *need) source() string {
	if r.own {
		return "by itself"
	}
	return "at " + place(r.at)
}

// checkCount finds a helper with too many requirements.
func (n *node) checkCount() hcl.Diagnostics {
	if len(n.needs) <= shared.MaxRequires {
		return nil
	}
	seen := map[string]bool{}
	own, at := 0, n.at
	for _, r := range n.needs {
		switch {
		case seen[r.Name]:
			continue
		case r.own:
			own++
		default:
			at = r.at
		}
		seen[r.Name] = true
	}
	if len(seen) <= shared.MaxRequires {
		return nil
	}
	itself := ""
	if own > 0 {
		itself = fmt.Sprintf(", %d of them by itself", own)
	}
	return hcl.Diagnostics{problem(at, "Too many requirements: EINVAL", "%s requires %d helpers%s; the limit is %d.",
		n.spec.Name, len(seen), itself, shared.MaxRequires)}
}

// checkDepth finds helpers that require too many others in a row, of those that do so the ones that require the fewest. The order has
// each helper behind those it requires.
func (s *survey) checkDepth(order []int) hcl.Diagnostics {
	height := make([]int, len(s.nodes)) // requirements in a row
	below := make([]need, len(s.nodes)) // the first of them
	var diags hcl.Diagnostics
	for _, i := range order {
		for _, r := range s.nodes[i].needs {
			if r.node >= 0 && height[r.node] >= height[i] {
				height[i], below[i] = height[r.node]+1, r
			}
		}
		if height[i] != shared.MaxDepth+1 {
			continue
		}
		words := []string{s.nodes[i].spec.Name}
		for j := i; height[j] > 0; j = below[j].node {
			words = append(words, below[j].Name)
		}
		diags = append(diags, problem(below[i].at, "Requirements too deep: EMLINK", "%s requires %d helpers in a row: %s. The limit is %d.",
			words[0], height[i], strings.Join(words, " → "), shared.MaxDepth))
	}
	return diags
}

// checkUnmet finds requirements on helpers that cannot be had.
func (s *survey) checkUnmet(n *node) hcl.Diagnostics {
	var diags hcl.Diagnostics
	for _, r := range n.needs {
		who := n.spec.Name + " requires"
		if r.own {
			who = n.spec.Name + " requires by itself"
		}
		switch {
		case r.node < 0:
			diags = append(diags, n.severe(s.unmet(who, r)))
		case s.builtin(n) && !s.builtin(s.nodes[r.node]):
			diags = append(diags, problem(r.at, "Unknown requirement: ENOENT",
				"%s %q, but %s is built in and may require only what is.", who, r.Name, n.spec.Name))
		}
	}
	return diags
}

// builtin reports whether a helper is the one in the program.
func (s *survey) builtin(n *node) bool { return s.builtins[n.spec.Name] && len(n.spec.Command) == 0 }

func (s *survey) unmet(who string, r need) *hcl.Diagnostic {
	switch path := s.cfg.Khelpd.HelperPath; {
	case s.file(r.Name): // so it may not be loaded
		return problem(r.at, "Requirement not permitted: EPERM",
			"%s %q, which is on the helper path but not configured and may not be autoloaded: write a helper block for it, "+
				"or allow it with autoload in the khelpd block.", who, r.Name)
	case len(path) == 0 || !s.mayLoad(r.Name):
		return problem(r.at, "Unknown requirement: ENOENT", "%s %q, which is neither configured nor built in%s", who, r.Name, stop(s.suggest(r.Name)))
	default:
		return problem(r.at, "Unknown requirement: ENOENT", "%s %q, which is neither configured nor built in nor on the helper path (%s)%s",
			who, r.Name, strings.Join(path, ", "), stop(s.suggest(r.Name)))
	}
}

// want is a constraint on a helper's version.
type want struct {
	need
	by     *node // who requires it; nil: it is the helper's own block that says so
	parsed version.Constraints
}

func (w *want) String() string {
	switch {
	case w.by == nil:
		return fmt.Sprintf("%q is asked for", w.Constraint)
	case w.own:
		return fmt.Sprintf("%s requires %s %s by itself", w.by.spec.Name, w.Name, w.Constraint)
	default:
		return fmt.Sprintf("%s requires %s %s", w.by.spec.Name, w.Name, w.Constraint)
	}
}

// checkVersions holds the constraints on each helper against its version, or against each other if that is not known.
func (s *survey) checkVersions() hcl.Diagnostics {
	wants := make([][]want, len(s.nodes))
	var diags hcl.Diagnostics
	add := func(w want) {
		if w.node < 0 || w.Constraint == "" {
			return
		}
		var err error
		if w.parsed, err = s.constraints.parse(w.Constraint); err != nil { // only a helper's own: those that are written have been checked
			diags = append(diags, problem(w.at, "Bad version constraint: EINVAL", "%s, but %s.", &w, err))
			return
		}
		wants[w.node] = append(wants[w.node], w)
	}
	for i, n := range s.nodes {
		if n.spec.Version != "" {
			add(want{need: need{Requirement: shared.Requirement{Constraint: n.spec.Version}, at: n.block.version, node: i}})
		}
	}
	for _, n := range s.nodes {
		for _, r := range n.needs {
			add(want{need: r, by: n})
		}
	}
	for i, n := range s.nodes {
		if n.known {
			diags = append(diags, n.unmetVersions(wants[i])...)
		} else if d := n.contradiction(wants[i]); d != nil {
			diags = append(diags, d)
		}
	}
	return diags
}

// unmetVersions reports the constraints that a helper's version does not meet.
func (n *node) unmetVersions(wants []want) hcl.Diagnostics {
	if len(wants) == 0 {
		return nil
	}
	const summary = "Version not met: EPROGMISMATCH"
	var diags hcl.Diagnostics
	have, err := version.NewVersion(n.info.Version)
	for i := range wants {
		w := &wants[i]
		switch {
		case err != nil:
			diags = append(diags, problem(w.at, summary, "%s has version %q, which cannot be held against a constraint, but %s.",
				n.spec.Name, n.info.Version, w))
		case !w.parsed.Check(have):
			diags = append(diags, problem(w.at, summary, "%s has version %s, but %s.", n.spec.Name, have.Original(), w))
		}
	}
	return diags
}

// contradiction reports the first constraint that no version meets together with those before it.
func (n *node) contradiction(wants []want) *hcl.Diagnostic {
	seen := map[string]bool{}
	wants = slices.DeleteFunc(wants, func(w want) bool {
		twice := seen[w.Constraint]
		seen[w.Constraint] = true
		return twice
	})
	if len(wants) == 0 || together(wants) {
		return nil
	}
	last := sort.Search(len(wants), func(i int) bool { return !together(wants[:i+1]) })
	w := &wants[last]
	if last == 0 {
		return problem(w.at, "Version not met: EPROGMISMATCH", "%s, which no version meets.", w)
	}
	// Ranges that cannot all be met have two that cannot, but for holes in them.
	other := &wants[max(0, slices.IndexFunc(wants[:last], func(o want) bool { return !together([]want{o, *w}) }))]
	return problem(w.at, "Version not met: EPROGMISMATCH", "%s, but %s at %s: no version of %s meets both.", w, other, place(other.at), n.spec.Name)
}

// together reports whether a version meets all constraints.
func together(wants []want) bool {
	var all version.Constraints
	for i := range wants {
		all = append(all, wants[i].parsed...)
	}
	return satisfiable(all)
}
