package config

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/points/tcpv1"
)

// check holds the blocks of all files against each other. With broken files, blocks may be missing that are there.
func (c *Config) check(broken bool) hcl.Diagnostics {
	diags := c.checkListeners()
	diags = append(diags, c.checkAsync()...)
	diags = append(diags, c.checkRequirements()...)
	diags = append(diags, c.checkOrders()...)
	if !broken {
		diags = append(diags, c.checkNames()...)
	}
	return diags
}

func (c *Config) checkListeners() hcl.Diagnostics {
	var diags hcl.Diagnostics
	seen := map[string]*TCP{}
	for i := range c.TCP {
		t := &c.TCP[i]
		key, ok := sameListener(t.Listen)
		if !ok {
			continue
		}
		if first := seen[key]; first != nil {
			diags = append(diags, problem(t.listen, "Address in use twice", "tcp %q listens on %s already, at %s.",
				first.Name, first.Listen, place(first.listen)))
			continue
		}
		seen[key] = t
	}
	return diags
}

// checkAsync finds tcp blocks that share a vnet, and so the points in it, but do not agree on whether those are async.
func (c *Config) checkAsync() hcl.Diagnostics {
	var diags hcl.Diagnostics
	firsts := map[string]*TCP{}
	for i := range c.TCP {
		t := &c.TCP[i]
		if t.wrong {
			continue
		}
		first := firsts[t.Vnet]
		if first == nil {
			firsts[t.Vnet] = t
			continue
		}
		if first.Async != t.Async {
			diags = append(diags, disagreement(first, t))
		}
	}
	return diags
}

// disagreement reports two blocks with different async at the second, or at the first if only that one says something.
func disagreement(first, second *TCP) *hcl.Diagnostic {
	at, other := second, first
	if second.async == nil {
		at, other = first, second
	}
	vnet, where := "the default vnet", other.Range
	if at.Vnet != "" {
		vnet = fmt.Sprintf("the vnet %q", at.Vnet)
	}
	how := "by default, at"
	if other.async != nil {
		where, how = *other.async, "written at"
	}
	return problem(*at.async, "Contradicting async", "The tcp blocks on %s share its hook points, but for tcp %q async is %t (%s %s).",
		vnet, other.Name, other.Async, how, place(where))
}

// checkRequirements finds circles among the helpers that are configured. What helpers require by themselves is known only when they
// have been described; the loader looks again.
func (c *Config) checkRequirements() hcl.Diagnostics {
	helpers := make([]shared.Requiring, len(c.Helpers))
	for i := range c.Helpers {
		helpers[i] = shared.Requiring{Helper: c.Helpers[i].Spec.Name, Requires: c.Helpers[i].Spec.Requires}
	}
	var circles *shared.CircleError
	if _, err := shared.SortRequires(helpers); !errors.As(err, &circles) {
		return nil
	}
	var diags hcl.Diagnostics
	for _, circle := range circles.Circles {
		diags = append(diags, c.circular(circle))
	}
	return diags
}

// circular reports a circle, written as "a (FILE:LINE) → b (FILE:LINE) → a", at the requirement that closes it.
func (c *Config) circular(circle []int) *hcl.Diagnostic {
	var words strings.Builder
	for _, i := range circle {
		h := &c.Helpers[i]
		words.WriteString(h.Spec.Name + " (" + place(h.Range) + ") → ")
	}
	first, last := &c.Helpers[circle[0]], &c.Helpers[circle[len(circle)-1]]
	words.WriteString(first.Spec.Name)
	closing := slices.IndexFunc(last.Spec.Requires, func(r shared.Requirement) bool { return r.Name == first.Spec.Name })
	return problem(last.requires[closing], "Circular requirement", "The requirements go in a circle: %s.", words.String())
}

// placed is a hook that asks for a place, with where it does.
type placed struct {
	shared.Ordered
	at hcl.Range
}

// checkOrders finds orders that contradict each other on one point. Only hooks that ask for a place matter: one that does not has
// nothing before it but hooks that come early and nothing behind it but hooks that come late, so no circle goes through it.
func (c *Config) checkOrders() hcl.Diagnostics {
	byPoint := map[shared.HookPoint][]placed{}
	var points []shared.HookPoint
	for _, h := range c.Helpers {
		for _, hook := range h.Spec.Hooks {
			if hook.Order.Place == shared.Anywhere {
				continue
			}
			if byPoint[hook.Point] == nil {
				points = append(points, hook.Point)
			}
			byPoint[hook.Point] = append(byPoint[hook.Point],
				placed{shared.Ordered{Helper: h.Spec.Name, Order: hook.Order}, h.orders[hook.Point]})
		}
	}
	var diags hcl.Diagnostics
	for _, p := range points {
		diags = append(diags, contradictions(p, byPoint[p])...)
	}
	return diags
}

// contradictions reports each contradiction at the hook that is the last of it to be written, and goes on without that hook.
func contradictions(point shared.HookPoint, hooks []placed) hcl.Diagnostics {
	var diags hcl.Diagnostics
	for last := firstBad(nil, hooks); last >= 0; last = firstBad(nil, hooks) {
		culprit := hooks[last]
		core := smallest(hooks[:last+1])
		detail := "A hook cannot stand before or after itself."
		if others := otherPlaces(core, culprit); others != "" {
			detail = "It contradicts " + others + "."
		}
		_, err := shared.SortHooks(ordered(core))
		diags = append(diags, problem(culprit.at, "Contradicting orders", "On %s, %v. %s", point, err, detail))
		hooks = slices.Delete(slices.Clone(hooks), last, last+1)
	}
	return diags
}

// firstBad returns the index of the first hook with which the ones up to it, together with those of base, contradict themselves, or
// -1. More hooks never take a contradiction away, so a binary search finds it.
func firstBad(base, hooks []placed) int {
	bad := func(n int) bool {
		_, err := shared.SortHooks(ordered(slices.Concat(base, hooks[:n])))
		return err != nil
	}
	if !bad(len(hooks)) {
		return -1
	}
	return sort.Search(len(hooks), func(i int) bool { return bad(i + 1) })
}

// smallest returns the hooks of one contradiction among hooks which do contradict themselves: none of them can be left out.
func smallest(hooks []placed) []placed {
	var core []placed
	for {
		i := firstBad(core, hooks)
		if i < 0 {
			return core
		}
		core = append(core, hooks[i])
		if _, err := shared.SortHooks(ordered(core)); err != nil {
			return core
		}
		hooks = hooks[:i]
	}
}

func ordered(hooks []placed) []shared.Ordered {
	out := make([]shared.Ordered, len(hooks))
	for i, h := range hooks {
		out[i] = h.Ordered
	}
	return out
}

func otherPlaces(core []placed, culprit placed) string {
	var words []string
	for _, h := range core {
		if h.at != culprit.at {
			words = append(words, h.Helper+"'s order at "+place(h.at))
		}
	}
	return strings.Join(words, " and ")
}

// checkNames warns of orders that name a helper which is not configured, and of requirements that look misspelt. Neither is an error:
// the helper may be built in, or loaded by hand.
func (c *Config) checkNames() hcl.Diagnostics {
	n := names{index: map[string]bool{}, near: map[string]string{}}
	for _, h := range c.Helpers {
		n.all = append(n.all, h.Spec.Name)
		n.index[h.Spec.Name] = true
	}
	var diags hcl.Diagnostics
	for _, h := range c.Helpers {
		for i, r := range h.Spec.Requires {
			if near := n.suggest(r.Name); near != "" && len(r.Name) > 3 {
				diags = append(diags, warning(h.requires[i], "Unknown helper", "No helper %q is configured%s", r.Name, near))
			}
		}
		for _, hook := range h.Spec.Hooks {
			name := hook.Order.Helper
			if name == "" || n.index[name] {
				continue
			}
			diags = append(diags, warning(h.orders[hook.Point], "Unknown helper",
				"No helper %q is configured; until one is loaded, this order has no effect%s", name, stop(n.suggest(name))))
		}
	}
	return diags
}

// names are those of the configured helpers.
type names struct {
	all   []string
	index map[string]bool
	near  map[string]string // what suggest has answered already
}

// suggest returns a hint if a name is not configured but one like it is.
func (n *names) suggest(name string) string {
	if n.index[name] {
		return ""
	}
	near, known := n.near[name]
	if !known {
		near = shared.DidYouMean(name, n.all)
		n.near[name] = near
	}
	return near
}

// misspeltPoint warns of a point that a subsystem known here does not have. Points of other subsystems are the embedder's.
func misspeltPoint(p shared.HookPoint, at hcl.Range) *hcl.Diagnostic {
	var points []string
	for _, known := range tcpv1.Points {
		if known == p {
			return nil
		}
		if known.Subsystem() == p.Subsystem() {
			points = append(points, string(known))
		}
	}
	if len(points) == 0 {
		return nil
	}
	near := shared.DidYouMean(string(p), points)
	if near == "" {
		near = "; there are " + listOfWords(points, "and") + "."
	}
	return warning(at, "Unknown hook point", "The subsystem %q has no point %q%s", p.Subsystem(), p.Name(), near)
}
