package shared_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/khelp/khelp/shared"
)

func TestH7_ParseOrder(t *testing.T) {
	for text, want := range map[string]shared.Order{
		"":               {},
		"first":          {Place: shared.First},
		" last ":         {Place: shared.Last},
		"before vegas":   {Place: shared.Before, Helper: "vegas"},
		"after   ertt-2": {Place: shared.After, Helper: "ertt-2"},
	} {
		got, err := shared.ParseOrder(text)
		if err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
		if err := got.Validate(); err != nil {
			t.Errorf("%q does not validate: %v", text, err)
		}
		if again, err := shared.ParseOrder(got.String()); err != nil || again != got {
			t.Errorf("%q: its text %q reads as %v, %v", text, got, again, err)
		}
	}
	for text, word := range map[string]string{
		"frist": "first, last, before NAME or after NAME", "First": "first, last", "  ": "first, last", "5": "first, last",
		"first ertt": "takes no name", "last x": "takes no name",
		"before": "is empty", "after ": "is empty", "before a b": "must match", "after Vegas": "must match",
	} {
		if _, err := shared.ParseOrder(text); !errors.Is(err, shared.ErrInvalid) || !strings.Contains(err.Error(), word) {
			t.Errorf("%q: %v, want ErrInvalid with %q", text, err, word)
		}
	}
	if _, err := shared.ParseOrder("after " + strings.Repeat("a", 64)); !errors.Is(err, shared.ErrNameTooLong) {
		t.Errorf("a name of 64 bytes: %v", err)
	}
}

func TestOrderValidate(t *testing.T) {
	for _, o := range []shared.Order{
		{Place: shared.Before}, {Place: shared.After, Helper: "A"}, {Place: shared.First, Helper: "ertt"},
		{Helper: "ertt"}, {Place: shared.After + 1},
	} {
		if err := o.Validate(); !errors.Is(err, shared.ErrInvalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// hooks reads "name:order:requirement,requirement" lines in load order.
func hooks(t *testing.T, lines ...string) []shared.Ordered {
	t.Helper()
	var list []shared.Ordered
	for _, line := range lines {
		part := strings.SplitN(line+"::", ":", 4)
		order, err := shared.ParseOrder(part[1])
		if err != nil {
			t.Fatal(err)
		}
		h := shared.Ordered{Helper: part[0], Order: order}
		if part[2] != "" {
			h.Requires = strings.Split(part[2], ",")
		}
		list = append(list, h)
	}
	return list
}

func TestH7_SortHooks(t *testing.T) {
	for _, tc := range []struct {
		name  string
		hooks []string
		want  string
	}{
		{"none", nil, ""},
		{"load order", []string{"a", "b", "c"}, "a b c"},
		{"first and last", []string{"a:last", "b", "c:first"}, "c b a"},
		{"several first keep load order", []string{"x", "b:first", "a:first"}, "b a x"},
		{"several last keep load order", []string{"b:last", "a:last", "x"}, "x b a"},
		{"before", []string{"a", "b", "c:before a"}, "b c a"},
		{"after", []string{"a:after c", "b", "c"}, "b c a"},
		{"before the first by name", []string{"a:first", "b:before a"}, "b a"},
		{"after the last by name", []string{"a:after b", "b:last", "c"}, "c b a"},
		{"after the first", []string{"a:after b", "b:first"}, "b a"},
		{"before the last", []string{"a:last", "b:before a", "c"}, "b c a"},
		{"a name that is not there", []string{"a:after nobody", "b:before nobody"}, "a b"},
		{"requirement ahead of who requires it", []string{"vegas::ertt", "ertt"}, "ertt vegas"},
		{"requirement that is not there", []string{"vegas::ertt"}, "vegas"},
		{"the operator wins over a requirement", []string{"vegas:first:ertt", "ertt"}, "vegas ertt"},
		{"the operator wins, indirectly", []string{"ertt:after log", "log:after vegas", "vegas::ertt"}, "vegas log ertt"},
		{"requirements in a circle", []string{"a::b", "b::a"}, "b a"},
		// The operator wants the second a behind every b, the second b requires every a ahead of it: only the first a can be.
		{"two hooks of one helper", []string{"a", "b", "a:after b", "b::a"}, "a b b a"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			list := hooks(t, tc.hooks...)
			order, err := shared.SortHooks(list)
			var got []string
			for _, i := range order {
				got = append(got, list[i].Helper)
			}
			if err != nil || strings.Join(got, " ") != tc.want {
				t.Errorf("%v, %v; want %q", got, err, tc.want)
			}
		})
	}
}

func TestH7_ContradictionsPrintTheCircle(t *testing.T) {
	for _, tc := range []struct {
		name  string
		hooks []string
		parts []string
	}{
		{"itself", []string{"a:before a"}, []string{"a is before a"}},
		{"two", []string{"a:before b", "b:before a"}, []string{"a is before b", "b is before a"}},
		{"three", []string{"a:after b", "x", "b:after c", "c:after a"}, []string{"a is after b", "b is after c", "c is after a"}},
		{"first and before", []string{"a:first", "b:before c", "c:before a"}, []string{"a is first", "b is before c", "c is before a"}},
		{"last and after", []string{"a:last", "b:after c", "c:after a"}, []string{"a is last", "b is after c", "c is after a"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := shared.SortHooks(hooks(t, tc.hooks...))
			if !errors.Is(err, shared.ErrInvalid) {
				t.Fatalf("%v", err)
			}
			_, circle, _ := strings.Cut(err.Error(), ": ")
			words := strings.Split(circle, ", ")
			for _, w := range words {
				if !slices.Contains(tc.parts, w) {
					t.Errorf("%q is not of the circle: %v", w, err)
				}
			}
			if tc.name == "two" && len(words) != 2 || tc.name == "three" && len(words) != 3 {
				t.Errorf("not the whole circle: %v", err)
			}
		})
	}
}

// asked reports whether the operator's orders want a ahead of b.
func asked(a, b shared.Ordered) bool {
	switch {
	case a.Order == shared.Order{Place: shared.Before, Helper: b.Helper}, b.Order == shared.Order{Place: shared.After, Helper: a.Helper}:
		return true
	case a.Order.Place == shared.First && b.Order.Place != shared.First:
		return b.Order != shared.Order{Place: shared.Before, Helper: a.Helper}
	case b.Order.Place == shared.Last && a.Order.Place != shared.Last:
		return a.Order != shared.Order{Place: shared.After, Helper: b.Helper}
	default:
		return false
	}
}

// smallest returns the first order of n things, by the alphabet of their numbers, in which nothing stands behind what ahead wants it
// ahead of; nil if there is none.
func smallest(n int, ahead func(i, j int) bool) []int {
	var order []int
	var place func() bool
	place = func() bool {
		if len(order) == n {
			return true
		}
		for i := range n {
			if slices.Contains(order, i) || ahead(i, i) || slices.ContainsFunc(order, func(j int) bool { return ahead(i, j) }) {
				continue
			}
			order = append(order, i)
			if place() {
				return true
			}
			order = order[:len(order)-1]
		}
		return false
	}
	if !place() {
		return nil
	}
	return order
}

// The model tries every order. Invariants: an answer is a permutation; it satisfies what the operator asked, and there is no answer
// only if nothing does, and then circles of what was asked; where the requirements can be had as well, all are, and the answer is the one nearest to load order.
func TestH7_SortHooksModel(t *testing.T) {
	names := []string{"a", "b", "c", "d", "e"}
	rapid.Check(t, func(t *rapid.T) {
		list := make([]shared.Ordered, rapid.IntRange(1, 6).Draw(t, "n"))
		for i := range list {
			h := shared.Ordered{Helper: rapid.SampledFrom(names).Draw(t, "helper")}
			h.Order.Place = shared.Place(rapid.SampledFrom([]int{0, 0, 0, 1, 2, 3, 4}).Draw(t, "place"))
			if h.Order.Place >= shared.Before {
				h.Order.Helper = rapid.SampledFrom(names).Draw(t, "other")
			}
			h.Requires = rapid.SliceOfNDistinct(rapid.SampledFrom(names), 0, 2, rapid.ID[string]).Draw(t, "requires")
			list[i] = h
		}
		wanted := func(i, j int) bool { return asked(list[i], list[j]) }
		strict := func(i, j int) bool {
			return wanted(i, j) || i != j && slices.Contains(list[j].Requires, list[i].Helper)
		}
		got, err := shared.SortHooks(list)
		if smallest(len(list), wanted) == nil {
			contradiction := (*shared.OrderError)(nil)
			if !errors.Is(err, shared.ErrInvalid) || !errors.As(err, &contradiction) {
				t.Fatalf("a contradiction came out as %v, %v", got, err)
			}
			for _, circle := range contradiction.Circles {
				for at, i := range circle {
					if next := circle[(at+1)%len(circle)]; !wanted(next, i) || i > circle[0] {
						t.Fatalf("%v is no circle that begins with its highest: nothing wants %d ahead of %d", circle, next, i)
					}
				}
			}
			return
		}
		if err != nil {
			t.Fatalf("no contradiction, yet %v", err)
		}
		if sorted := slices.Sorted(slices.Values(got)); !slices.Equal(sorted, identity(len(list))) {
			t.Fatalf("%v is no permutation", got)
		}
		for at, i := range got {
			for _, j := range got[:at] {
				if wanted(i, j) {
					t.Fatalf("%v: %d must run before %d", got, i, j)
				}
			}
		}
		if best := smallest(len(list), strict); best != nil && !slices.Equal(got, best) {
			t.Fatalf("%v, but %v satisfies all and is nearest to load order", got, best)
		}
		if again, err := shared.SortHooks(list); err != nil || !slices.Equal(again, got) {
			t.Fatalf("%v the first time, %v, %v the second", got, again, err)
		}
	})
}

// TestH7_DenseContradictions: there may be more circles than fit into memory.
func TestH7_DenseContradictions(t *testing.T) {
	var list []shared.Ordered
	for i := range 300 {
		list = append(list,
			shared.Ordered{Helper: fmt.Sprint("f", i), Order: shared.Order{Place: shared.First}},
			shared.Ordered{Helper: fmt.Sprint("y", i), Order: shared.Order{Place: shared.Before, Helper: fmt.Sprint("f", i)}})
	}
	_, err := shared.SortHooks(list)
	contradiction := (*shared.OrderError)(nil)
	if !errors.As(err, &contradiction) || len(contradiction.Circles) == 0 || len(contradiction.Circles) > 100 {
		t.Fatalf("%v", err)
	}
	for _, circle := range contradiction.Circles {
		if len(circle) != 4 {
			t.Errorf("%v is not the shortest circle", circle)
		}
	}
}

func identity(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

func BenchmarkSortHooks(b *testing.B) {
	var list []shared.Ordered
	for i := range 16 {
		h := shared.Ordered{Helper: fmt.Sprint("h", i)}
		if i%3 == 0 {
			h.Requires = []string{fmt.Sprint("h", (i+5)%16)}
		}
		list = append(list, h)
	}
	for b.Loop() {
		if _, err := shared.SortHooks(list); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSortHooks1000 sorts a thousand hooks, each of which wants to be behind the next and requires ten others.
func BenchmarkSortHooks1000(b *testing.B) {
	list := make([]shared.Ordered, 1000)
	for i := range list {
		list[i].Helper = fmt.Sprint("h", i)
		for j := range 10 {
			list[i].Requires = append(list[i].Requires, fmt.Sprint("h", i+j+1))
		}
		if i+1 < len(list) {
			list[i].Order = shared.Order{Place: shared.After, Helper: fmt.Sprint("h", i+1)}
		}
	}
	for b.Loop() {
		if _, err := shared.SortHooks(list); err != nil {
			b.Fatal(err)
		}
	}
}
