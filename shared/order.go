package shared

import (
	"slices"
	"strings"
)

// Place is where a hook wants to stand among the hooks of its head.
type Place uint8

// The places. Anywhere is the zero value: requirement order, then load order.
const (
	Anywhere Place = iota
	First
	Last
	Before
	After
)

// Order is a hook's position as a value: first, last, before or after another helper's hook. It is written "first", "last",
// "before NAME", "after NAME".
type Order struct {
	Place  Place
	Helper string // for Before and After
}

// ParseOrder reads the text form. The error is ErrInvalid and says what would be right.
func ParseOrder(text string) (Order, error) {
	word, name, _ := strings.Cut(strings.TrimSpace(text), " ")
	name = strings.TrimSpace(name)
	places := map[string]Place{"first": First, "last": Last, "before": Before, "after": After}
	place, ok := places[word]
	switch {
	case text == "":
		return Order{}, nil
	case !ok:
		return Order{}, ErrInvalid.Errorf("order %q must be first, last, before NAME or after NAME", text)
	case place == First || place == Last:
		if name != "" {
			return Order{}, ErrInvalid.Errorf("order %q: %s takes no name", text, word)
		}
		return Order{Place: place}, nil
	default:
		if err := ValidateName("helper name in order", name); err != nil {
			return Order{}, err
		}
		return Order{Place: place, Helper: name}, nil
	}
}

// Validate returns ErrInvalid or ErrNameTooLong for a place that does not exist and for a name where none belongs, or none where one
// does.
func (o Order) Validate() error {
	switch o.Place {
	case Before, After:
		return ValidateName("helper name in order", o.Helper)
	case Anywhere, First, Last:
		if o.Helper != "" {
			return ErrInvalid.Errorf("order names %q but is neither before nor after it", o.Helper)
		}
		return nil
	default:
		return ErrInvalid.Errorf("order has the unknown place %d", o.Place)
	}
}

// String returns the text form; the empty string for Anywhere.
func (o Order) String() string {
	switch o.Place {
	case First:
		return "first"
	case Last:
		return "last"
	case Before:
		return "before " + o.Helper
	case After:
		return "after " + o.Helper
	default:
		return ""
	}
}

// Ordered is one hook to be sorted: whose it is, where it wants to stand, what its helper requires.
type Ordered struct {
	Helper   string
	Order    Order
	Requires []string
}

// SortHooks returns the indices of hooks in the order in which they run: first, last, before and after as asked, then required
// helpers ahead of those that require them, then the order given (load order). The kernel has load order only. An order that
// contradicts itself is ErrInvalid and the message prints the circle. Names that are not among the hooks do not matter.
func SortHooks(hooks []Ordered) ([]int, error) {
	s := sorter{hooks: hooks, byName: map[string][]int{}, before: make([][]int, len(hooks))}
	for i, h := range hooks {
		s.byName[h.Helper] = append(s.byName[h.Helper], i)
	}
	s.explicitEdges()
	if _, circles := depthFirst(s.before); len(circles) > 0 {
		return nil, ErrInvalid.Errorf("the order of hooks contradicts itself: %s", strings.Join(s.describe(circles[0]), ", "))
	}
	s.requirementEdges()
	return s.sort(), nil
}

// sorter holds, for each hook, which others must run before it.
type sorter struct {
	hooks  []Ordered
	byName map[string][]int
	before [][]int
}

func (s *sorter) explicitEdges() {
	for i, h := range s.hooks {
		switch h.Order.Place {
		case Before:
			for _, j := range s.byName[h.Order.Helper] {
				s.before[j] = append(s.before[j], i)
			}
		case After:
			s.before[i] = append(s.before[i], s.byName[h.Order.Helper]...)
		}
	}
	for i, h := range s.hooks {
		if h.Order.Place != First && h.Order.Place != Last {
			continue
		}
		for j, other := range s.hooks {
			if h.Order.Place == other.Order.Place {
				continue
			}
			// "first" stands ahead of everything that did not ask to be before it by name, "last" behind likewise.
			if h.Order.Place == First && !(other.Order.Place == Before && other.Order.Helper == h.Helper) {
				s.before[j] = append(s.before[j], i)
			}
			if h.Order.Place == Last && other.Order.Place != First && !(other.Order.Place == After && other.Order.Helper == h.Helper) {
				s.before[i] = append(s.before[i], j)
			}
		}
	}
}

// requirementEdges adds what helpers require. What the operator wrote wins: an edge is added only where it closes no circle with those
// before it.
func (s *sorter) requirementEdges() {
	all := make([][]int, len(s.hooks))
	for i, h := range s.hooks {
		all[i] = slices.Clone(s.before[i])
		for _, req := range h.Requires {
			all[i] = append(all[i], s.byName[req]...)
		}
	}
	if _, circles := depthFirst(all); len(circles) == 0 { // then no edge closes one: no need to look at each
		s.before = all
		return
	}
	for i, h := range s.hooks {
		for _, req := range h.Requires {
			for _, j := range s.byName[req] {
				if !s.reaches(i, j) {
					s.before[i] = append(s.before[i], j)
				}
			}
		}
	}
}

// reaches reports whether "from runs before to" already follows from the edges.
func (s *sorter) reaches(from, to int) bool {
	seen := make([]bool, len(s.hooks))
	var visit func(int) bool
	visit = func(i int) bool {
		if i == from {
			return true
		}
		if seen[i] {
			return false
		}
		seen[i] = true
		return slices.ContainsFunc(s.before[i], visit)
	}
	return visit(to)
}

func (s *sorter) describe(circle []int) []string {
	var words []string
	for _, i := range circle {
		h := s.hooks[i]
		if o := h.Order.String(); o != "" {
			words = append(words, h.Helper+" is "+o)
		} else {
			words = append(words, h.Helper)
		}
	}
	return words
}

// sort is Kahn's algorithm that always takes the earliest-loaded hook that is free; the hook counts are small.
func (s *sorter) sort() []int {
	out := make([]int, 0, len(s.hooks))
	placed := make([]bool, len(s.hooks))
	for len(out) < len(s.hooks) {
		for i := range s.hooks {
			if placed[i] || slices.ContainsFunc(s.before[i], func(j int) bool { return !placed[j] }) {
				continue
			}
			placed[i] = true
			out = append(out, i)
			break
		}
	}
	return out
}
