package shared

import (
	"slices"
	"strings"
)

// ParseRequirement reads a helper's name and an optional version constraint, as in "ertt" or "ertt ~> 1.2". The error is ErrInvalid or
// ErrNameTooLong if the name is none. What a constraint means, and whether it is one, is for whoever holds versions against it.
func ParseRequirement(text string) (Requirement, error) {
	text = strings.TrimSpace(text)
	end := strings.IndexAny(text, " \t<>=!~")
	if end < 0 {
		end = len(text)
	}
	r := Requirement{Name: text[:end], Constraint: strings.TrimSpace(text[end:])}
	return r, ValidateName("required helper's name", r.Name)
}

// Requiring is one helper to be sorted: its name, and whom it requires.
type Requiring struct {
	Helper   string
	Requires []Requirement
}

// SortRequires returns the indices of helpers in the order in which they load: each behind those it requires, else in the order given.
// It is the order in which NetBSD's module_do_load works through mi_required. Constraints do not matter here, nor do names that are not
// among the helpers; of two helpers with one name the first is required. If requirements go in a circle the error is a *CircleError.
func SortRequires(helpers []Requiring) ([]int, error) {
	byName := make(map[string]int, len(helpers))
	for i, h := range helpers {
		if _, twice := byName[h.Helper]; !twice {
			byName[h.Helper] = i
		}
	}
	edges := make([][]int, len(helpers))
	for i, h := range helpers {
		for _, r := range h.Requires {
			if j, there := byName[r.Name]; there {
				edges[i] = append(edges[i], j)
			}
		}
	}
	order, circles := depthFirst(edges)
	if len(circles) == 0 {
		return order, nil
	}
	e := &CircleError{Circles: circles}
	for _, circle := range circles {
		var words []string
		for _, i := range circle {
			words = append(words, helpers[i].Helper)
		}
		e.paths = append(e.paths, strings.Join(append(words, words[0]), " → "))
	}
	return nil, e
}

// CircleError says which requirements go in a circle. It wraps ErrDeadlock, and its text prints the circles.
type CircleError struct {
	// Circles has the helpers of each circle that was met, by their indices: each requires the next and the last the first. Taking away
	// the last requirement of each leaves none, unless there are maxCircles, which is as many as are looked for.
	Circles [][]int

	paths []string // the same as "a → b → a"
}

func (e *CircleError) Error() string {
	return "the requirements go in a circle: " + strings.Join(e.paths, ", ")
}

// Unwrap returns ErrDeadlock.
func (e *CircleError) Unwrap() error { return ErrDeadlock }

// maxCircles is how many circles are told apart. Dense graphs have more than fit into memory.
const maxCircles = 100

// depthFirst walks a graph in which edges[i] are the nodes that come before node i. It returns all nodes, each behind those before it,
// and the circles that stand against that, maxCircles at most: each by the nodes on it, the one last entered at its end.
func depthFirst(edges [][]int) (order []int, circles [][]int) {
	const (
		unseen = iota
		open   // on the path
		done
	)
	state := make([]int, len(edges))
	var path []int
	var visit func(int)
	visit = func(i int) {
		state[i] = open
		path = append(path, i)
		for _, j := range edges[i] {
			switch state[j] {
			case unseen:
				visit(j)
			case open:
				if len(circles) < maxCircles {
					circles = append(circles, slices.Clone(path[slices.Index(path, j):]))
				}
			}
		}
		path = path[:len(path)-1]
		state[i] = done
		order = append(order, i)
	}
	for i := range edges {
		if state[i] == unseen {
			visit(i)
		}
	}
	return order, circles
}
