package config

import (
	"errors"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/khelp/khelp/shared"
)

// placed is a hook that asks for a place, with where it does.
type placed struct {
	shared.Ordered
	at hcl.Range
}

// contradictingOrders finds orders that contradict each other on one point. Only hooks that ask for a place matter: one that does not has
// nothing before it but hooks that come early and nothing behind it but hooks that come late, so no circle goes through it. What helpers
// say of themselves adds such hooks only.
func (c *Config) contradictingOrders() hcl.Diagnostics {
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

// contradictions reports each contradiction at the hook that is the last of it to be written, and goes on without that hook; after so
// many that nobody will look at more, it stops.
func contradictions(point shared.HookPoint, hooks []placed) hcl.Diagnostics {
	var diags hcl.Diagnostics
	for len(diags) < maxWritten {
		_, err := shared.SortHooks(ordered(hooks))
		contradiction := (*shared.OrderError)(nil)
		if !errors.As(err, &contradiction) {
			break
		}
		out := map[int]bool{}
		for _, circle := range contradiction.Circles {
			if slices.ContainsFunc(circle, func(i int) bool { return out[i] }) {
				continue // it may be none any more
			}
			out[circle[0]] = true
			diags = append(diags, contradicts(point, hooks, circle))
		}
		var rest []placed
		for i, h := range hooks {
			if !out[i] {
				rest = append(rest, h)
			}
		}
		hooks = rest
	}
	return diags
}

// contradicts reports one circle at its first hook, which is the last to be written.
func contradicts(point shared.HookPoint, hooks []placed, circle []int) *hcl.Diagnostic {
	var others []placed
	for _, i := range circle[1:] {
		others = append(others, hooks[i])
	}
	culprit := hooks[circle[0]]
	detail := "A hook cannot stand before or after itself."
	if others != nil {
		detail = "It contradicts " + otherPlaces(others) + "."
	}
	_, err := shared.SortHooks(ordered(append(others, culprit)))
	return problem(culprit.at, "Contradicting orders", "On %s, %v. %s", point, err, detail)
}

func ordered(hooks []placed) []shared.Ordered {
	out := make([]shared.Ordered, len(hooks))
	for i, h := range hooks {
		out[i] = h.Ordered
	}
	return out
}

func otherPlaces(hooks []placed) string {
	words := make([]string, len(hooks))
	for i, h := range hooks {
		words[i] = h.Helper + "'s order at " + place(h.at)
	}
	return strings.Join(words, " and ")
}

// checkOrders warns of orders that have no effect, and of those that defeat a requirement. Neither is an error: the other helper may be
// loaded later, and what the operator wrote wins over what a helper requires.
func (s *survey) checkOrders() hcl.Diagnostics {
	var diags hcl.Diagnostics
	for _, n := range s.nodes {
		for _, hook := range n.spec.Hooks {
			if d := s.idleOrder(hook); d != nil {
				at := n.block.orders[hook.Point]
				d.Subject = &at
				diags = append(diags, d)
			}
		}
	}
	heads := map[shared.HookPoint]*head{}
	var points []shared.HookPoint
	for i, n := range s.nodes {
		for _, hook := range n.hooks() {
			h := heads[hook.Point]
			if h == nil {
				h = &head{at: map[int]int{}}
				heads[hook.Point] = h
				points = append(points, hook.Point)
			}
			h.add(i, n, hook)
		}
	}
	for _, p := range points {
		if heads[p].ordered {
			diags = append(diags, s.defeated(p, heads[p])...)
		}
	}
	return diags
}

// idleOrder returns a warning, without a place, if the order of a hook names a helper that is not there or does not hook the point.
func (s *survey) idleOrder(hook shared.HookSpec) *hcl.Diagnostic {
	name := hook.Order.Helper
	if name == "" {
		return nil
	}
	switch i, seen := s.byName[name]; {
	case seen && i >= 0:
		other := s.nodes[i]
		if !other.known || slices.ContainsFunc(other.info.Hooks, func(h shared.HookInfo) bool { return h.Point == hook.Point }) {
			return nil
		}
		return warning(hcl.Range{}, "No effect", "%s has no hook on %s, so this order has no effect.", name, hook.Point)
	case s.builtins[name]:
		return nil
	default:
		return warning(hcl.Range{}, "Unknown helper", "No helper %q is configured; until one is loaded, this order has no effect%s",
			name, stop(s.suggest(name)))
	}
}

// head is the hooks that are known to be on one point.
type head struct {
	hooks   []shared.Ordered
	nodes   []int       // whose they are
	at      map[int]int // of nodes: the indices of their hooks
	ordered bool        // a hook asks for a place
}

func (h *head) add(i int, n *node, hook shared.HookSpec) {
	if _, twice := h.at[i]; twice {
		return // hooks of one helper on one point all have one order
	}
	o := shared.Ordered{Helper: n.spec.Name, Order: hook.Order}
	for _, r := range n.needs {
		o.Requires = append(o.Requires, r.Name)
	}
	h.at[i] = len(h.hooks)
	h.hooks, h.nodes = append(h.hooks, o), append(h.nodes, i)
	h.ordered = h.ordered || hook.Order.Place != shared.Anywhere
}

// hooks returns what is said of each hook that a helper has or, if it is not known, that its block names.
func (n *node) hooks() []shared.HookSpec {
	if !n.known {
		return n.spec.Hooks
	}
	hooks := make([]shared.HookSpec, len(n.info.Hooks))
	for i, h := range n.info.Hooks {
		hooks[i] = n.spec.Hook(h.Point)
	}
	return hooks
}

// defeated warns of hooks that run before those of helpers which theirs requires.
func (s *survey) defeated(point shared.HookPoint, h *head) hcl.Diagnostics {
	position := positions(h.hooks)
	if position == nil {
		return nil
	}
	var diags hcl.Diagnostics
	for i, at := range h.nodes {
		n := s.nodes[at]
		seen := map[int]bool{}
		for _, r := range n.needs {
			j, hooked := h.at[r.node]
			if !hooked || seen[j] || position[i] >= position[j] {
				continue
			}
			seen[j] = true
			diags = append(diags, warning(s.orderPlace(point, n, s.nodes[r.node]), "Order against a requirement",
				"On %s, %s runs before %s, which it requires.", point, n.spec.Name, r.Name))
		}
	}
	return diags
}

// positions returns where each hook runs, or nil if their orders contradict each other, which is reported elsewhere.
func positions(hooks []shared.Ordered) []int {
	order, err := shared.SortHooks(hooks)
	if err != nil {
		return nil
	}
	out := make([]int, len(order))
	for at, i := range order {
		out[i] = at
	}
	return out
}

// orderPlace returns where one of two helpers asks for a place on a point, or else the first one's own place.
func (s *survey) orderPlace(point shared.HookPoint, n, other *node) hcl.Range {
	for _, x := range []*node{n, other} {
		if x.block != nil {
			if at, ok := x.block.orders[point]; ok {
				return at
			}
		}
	}
	return n.at
}
