package shared

import (
	"container/heap"
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
// helpers ahead of those that require them, then the order given (load order). The kernel has load order only. If the order
// contradicts itself the error is an *OrderError. Names that are not among the hooks do not matter.
func SortHooks(hooks []Ordered) ([]int, error) {
	s := sorter{hooks: hooks, byName: map[string][]int{}, before: make([][]int, len(hooks))}
	for i, h := range hooks {
		s.byName[h.Helper] = append(s.byName[h.Helper], i)
	}
	s.explicitEdges()
	if _, circles := depthFirst(s.before); len(circles) > 0 {
		return nil, s.contradiction(circles)
	}
	s.requirementEdges()
	return s.sort(), nil
}

// OrderError says which hooks contradict each other in what they ask for. It wraps ErrInvalid, and its text prints one circle.
type OrderError struct {
	// Circles has the hooks of each contradiction that was met, by their indices: each must run behind the next and the last behind the
	// first, which has the highest index among them. There are maxCircles at most.
	Circles [][]int

	text string
}

func (e *OrderError) Error() string { return "the order of hooks contradicts itself: " + e.text }

// Unwrap returns ErrInvalid.
func (e *OrderError) Unwrap() error { return ErrInvalid }

func (s *sorter) contradiction(circles [][]int) error {
	e := &OrderError{Circles: make([][]int, len(circles))}
	for i, circle := range circles {
		e.Circles[i] = shortest(s.before, circle)
	}
	e.text = strings.Join(s.describe(e.Circles[0]), ", ")
	return e
}

// shortest returns the shortest circle, among the nodes of one, through that with the highest index, which is its first.
func shortest(edges [][]int, circle []int) []int {
	start := slices.Max(circle)
	came := make(map[int]int, len(circle)) // from where
	for _, i := range circle {
		came[i] = -1
	}
	for queue := []int{start}; len(queue) > 0; queue = queue[1:] {
		i := queue[0]
		for _, j := range edges[i] {
			if j == start {
				return track(came, start, i)
			}
			if from, on := came[j]; on && from < 0 {
				came[j] = i
				queue = append(queue, j)
			}
		}
	}
	return circle // not reached: it is a circle itself
}

// track returns the way from start to end.
func track(came map[int]int, start, end int) []int {
	way := []int{end}
	for way[len(way)-1] != start {
		way = append(way, came[way[len(way)-1]])
	}
	slices.Reverse(way)
	return way
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

// sort is Kahn's algorithm that always takes the earliest-loaded hook that is free.
func (s *sorter) sort() []int {
	waits := make([]int, len(s.hooks)) // for how many others
	behind := make([][]int, len(s.hooks))
	free := make(lowest, 0, len(s.hooks))
	for i, before := range s.before {
		waits[i] = len(before)
		for _, j := range before {
			behind[j] = append(behind[j], i)
		}
		if len(before) == 0 {
			free = append(free, i) // ascending, so it is a heap
		}
	}
	out := make([]int, 0, len(s.hooks))
	for len(free) > 0 {
		i := heap.Pop(&free).(int)
		out = append(out, i)
		for _, j := range behind[i] {
			if waits[j]--; waits[j] == 0 {
				heap.Push(&free, j)
			}
		}
	}
	return out
}

// lowest is a heap of indices.
type lowest []int

func (h lowest) Len() int           { return len(h) }
func (h lowest) Less(i, j int) bool { return h[i] < h[j] }
func (h lowest) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *lowest) Push(x any)        { *h = append(*h, x.(int)) }

func (h *lowest) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
