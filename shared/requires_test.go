package shared_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/khelp/khelp/shared"
)

func TestParseRequirement(t *testing.T) {
	for text, want := range map[string]shared.Requirement{
		"ertt":             {Name: "ertt"},
		" ertt\t":          {Name: "ertt"},
		"ertt ~> 1.2":      {Name: "ertt", Constraint: "~> 1.2"},
		"ertt~>1.2":        {Name: "ertt", Constraint: "~>1.2"},
		"a-b_2 >= 1, < 2":  {Name: "a-b_2", Constraint: ">= 1, < 2"},
		"ertt\t!= 1.3":     {Name: "ertt", Constraint: "!= 1.3"},
		"ertt 1.4":         {Name: "ertt", Constraint: "1.4"},
		"ertt no version ": {Name: "ertt", Constraint: "no version"},
	} {
		if got, err := shared.ParseRequirement(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, want)
		}
	}
	for text, want := range map[string]error{
		"": shared.ErrInvalid, "  ": shared.ErrInvalid, "~> 1.2": shared.ErrInvalid, "Ertt": shared.ErrInvalid, "er.tt 1": shared.ErrInvalid,
		strings.Repeat("x", 64) + " 1.0": shared.ErrNameTooLong,
	} {
		if got, err := shared.ParseRequirement(text); !errors.Is(err, want) || !strings.Contains(err.Error(), "required helper's name") {
			t.Errorf("%q: %+v, %v; want %v", text, got, err, want)
		}
	}
}

// requiring reads "name:requirement,requirement".
func requiring(lines ...string) []shared.Requiring {
	var list []shared.Requiring
	for _, line := range lines {
		name, requires, _ := strings.Cut(line, ":")
		h := shared.Requiring{Helper: name}
		for _, r := range strings.FieldsFunc(requires, func(c rune) bool { return c == ',' }) {
			h.Requires = append(h.Requires, shared.Requirement{Name: r, Constraint: "> 99"})
		}
		list = append(list, h)
	}
	return list
}

func TestL6_SortRequires(t *testing.T) {
	for _, tc := range []struct {
		name    string
		helpers []string
		want    string
	}{
		{"none", nil, ""},
		{"as given", []string{"c", "a", "b"}, "c a b"},
		{"required first", []string{"vegas:ertt,clock", "x", "clock", "ertt:clock"}, "clock ertt vegas x"},
		{"not among them", []string{"vegas:ertt"}, "vegas"},
		{"one twice, the first counts", []string{"b:a", "a", "a"}, "a b a"},
		{"required twice", []string{"b:a,a", "a"}, "a b"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			list := requiring(tc.helpers...)
			order, err := shared.SortRequires(list)
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

func TestL7_RequirementCirclesArePrinted(t *testing.T) {
	for _, tc := range []struct {
		helpers []string
		circles [][]int
		text    string
	}{
		{[]string{"a:a"}, [][]int{{0}}, "a → a"},
		{[]string{"a:b", "b:a"}, [][]int{{0, 1}}, "a → b → a"},
		{[]string{"x:b", "a:b", "b:c", "c:a,x"}, [][]int{{2, 3, 1}, {0, 2, 3}}, "b → c → a → b, x → b → c → x"},
		{[]string{"a:b", "b", "c:d", "d:c"}, [][]int{{2, 3}}, "c → d → c"},
	} {
		order, err := shared.SortRequires(requiring(tc.helpers...))
		var circle *shared.CircleError
		if order != nil || !errors.As(err, &circle) || !errors.Is(err, shared.ErrDeadlock) || !errors.Is(err, syscall.EDEADLK) {
			t.Errorf("%v: %v, %v", tc.helpers, order, err)
			continue
		}
		if diff := cmp.Diff(tc.circles, circle.Circles); diff != "" {
			t.Errorf("%v: circles (-want +got):\n%s", tc.helpers, diff)
		}
		if want := "the requirements go in a circle: " + tc.text; err.Error() != want || shared.ErrWord(err) != "EDEADLK" {
			t.Errorf("%v: %s: %q, want %q", tc.helpers, shared.ErrWord(err), err, want)
		}
	}
}

// Either the order holds every helper once and behind all it requires, or each circle is one.
func TestL7_SortRequiresOrCircles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 8).Draw(t, "helpers")
		name := func(i int) string { return fmt.Sprintf("h%d", i) }
		list := make([]shared.Requiring, n)
		requires := func(i, j int) bool {
			return slices.ContainsFunc(list[i].Requires, func(r shared.Requirement) bool { return r.Name == name(j) })
		}
		for i := range list {
			list[i].Helper = name(i)
			for _, j := range rapid.SliceOfN(rapid.IntRange(0, 9), 0, 3).Draw(t, "requires") { // some that are not there
				list[i].Requires = append(list[i].Requires, shared.Requirement{Name: name(j)})
			}
		}
		order, err := shared.SortRequires(list)
		if err == nil {
			if sorted := slices.Sorted(slices.Values(order)); len(sorted) != n || n > 0 && sorted[n-1] != n-1 {
				t.Fatalf("%v is not %d helpers", order, n)
			}
			for at, i := range order {
				for _, j := range order[at:] {
					if requires(i, j) {
						t.Fatalf("%s stands before %s, which it requires: %v", name(i), name(j), order)
					}
				}
			}
			return
		}
		var circle *shared.CircleError
		if !errors.As(err, &circle) {
			t.Fatal(err)
		}
		for _, c := range circle.Circles {
			for k, i := range c {
				if next := c[(k+1)%len(c)]; !requires(i, next) {
					t.Fatalf("%s does not require %s: %v", name(i), name(next), c)
				}
			}
		}
	})
}

// TestL7_DenseCircles: there may be more circles than fit into memory.
func TestL7_DenseCircles(t *testing.T) {
	list := make([]shared.Requiring, 300)
	for i := range list {
		list[i].Helper = fmt.Sprint("h", i)
		for j := range list {
			list[i].Requires = append(list[i].Requires, shared.Requirement{Name: fmt.Sprint("h", j)})
		}
	}
	_, err := shared.SortRequires(list)
	circle := (*shared.CircleError)(nil)
	if !errors.As(err, &circle) {
		t.Fatal(err)
	}
	if len(circle.Circles) != 100 {
		t.Errorf("%d circles, want 100", len(circle.Circles))
	}
}
