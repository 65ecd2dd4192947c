package config

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"pgregory.net/rapid"

	"github.com/khelp/khelp/shared"
)

// manyHelpers writes n helpers, most of which require ten others, in rows of seven, and want to be behind the one before them.
func manyHelpers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "helper \"h%d\" {\n  timeout = \"5ms\"\n", i)
		var requires []string
		for _, j := range requiredBy(i) {
			requires = append(requires, fmt.Sprintf("%q", fmt.Sprintf("h%d%s", j, []string{"", " ~> 1.0", " >= 1.0, < 2.0"}[j%3])))
		}
		if requires != nil {
			fmt.Fprintf(&b, "  requires = [%s]\n", strings.Join(requires, ", "))
		}
		order := "first"
		if i > 1 {
			order = fmt.Sprintf("after h%d", i-1)
		}
		fmt.Fprintf(&b, "  hook \"tcp.est_in\" {\n    order = %q\n  }\n  config {\n    size = %d\n  }\n}\n\n", order, i)
	}
	return b.String()
}

// requiredBy returns the ten helpers in the row before that of helper i, or none if i is in the first of seven rows.
func requiredBy(i int) []int {
	row := i % 70 / 10
	if row == 0 {
		return nil
	}
	first := i/70*70 + (row-1)*10
	out := make([]int, shared.MaxRequires)
	for j := range out {
		out[j] = first + j
	}
	return out
}

// manyKnown says what the helpers of manyHelpers are. They name themselves some of those whom they require.
func manyKnown(spec shared.HelperSpec) (shared.Modinfo, bool) {
	var i int
	if _, err := fmt.Sscanf(spec.Name, "h%d", &i); err != nil {
		return shared.Modinfo{}, false
	}
	info := shared.Modinfo{
		Name: spec.Name, Version: "1.2.3", API: shared.APIGeneration,
		Hooks:      []shared.HookInfo{{Point: "tcp.est_in"}, {Point: "tcp.est_out", Index: 1}},
		Properties: []shared.Property{{Name: "size", Type: shared.PropertyInt, Required: true}, {Name: "name", Type: shared.PropertyString}},
	}
	for _, j := range requiredBy(i) {
		if j%2 == 0 {
			info.Requires = append(info.Requires, shared.Requirement{Name: fmt.Sprintf("h%d", j), Constraint: ">= 1.1"})
		}
	}
	return info, true
}

// TestH7_ContradictionsModel holds what is reported for random orders against the sorter:
//   - nothing is reported exactly if the hooks can be sorted;
//   - without the hooks at which something is reported, they can be;
//   - each report is at a hook of its own.
func TestH7_ContradictionsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hooks := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) shared.Ordered {
			name := func(label string) string { return string(rune('a' + rapid.IntRange(0, 7).Draw(t, label))) }
			place := rapid.SampledFrom([]shared.Place{shared.First, shared.Last, shared.Before, shared.After}).Draw(t, "place")
			h := shared.Ordered{Helper: name("helper"), Order: shared.Order{Place: place}}
			if place == shared.Before || place == shared.After {
				h.Order.Helper = name("other")
			}
			return h
		}), 0, 12).Draw(t, "hooks")
		all := make([]placed, len(hooks))
		for i, h := range hooks {
			all[i] = placed{h, hcl.Range{Filename: "x", Start: hcl.Pos{Line: i + 1, Byte: i}, End: hcl.Pos{Line: i + 1, Byte: i + 1}}}
		}
		diags := contradictions("tcp.est_in", all)
		_, err := shared.SortHooks(hooks)
		if (err != nil) != diags.HasErrors() {
			t.Fatalf("the sorter says %v, the check %v", err, diags)
		}
		reported := map[int]bool{}
		for _, d := range diags {
			if reported[d.Subject.Start.Byte] {
				t.Fatalf("two reports at one hook: %v", diags)
			}
			reported[d.Subject.Start.Byte] = true
		}
		var rest []shared.Ordered
		for i, h := range hooks {
			if !reported[i] {
				rest = append(rest, h)
			}
		}
		if _, err := shared.SortHooks(rest); err != nil {
			t.Fatalf("without the reported hooks there is still a contradiction: %v", err)
		}
	})
}

// TestH7_UnplacedHooksMakeNoCircle backs what contradictingOrders leaves out: hooks that ask for no place never matter for a contradiction.
func TestH7_UnplacedHooksMakeNoCircle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all, asking []shared.Ordered
		for i := range rapid.IntRange(0, 8).Draw(t, "hooks") {
			name := func(label string) string { return string(rune('a' + rapid.IntRange(0, 8).Draw(t, label))) }
			h := shared.Ordered{Helper: string(rune('a' + i))}
			h.Order.Place = rapid.SampledFrom([]shared.Place{
				shared.Anywhere, shared.First, shared.Last, shared.Before, shared.After,
			}).Draw(t, "place")
			if h.Order.Place == shared.Before || h.Order.Place == shared.After {
				h.Order.Helper = name("other")
			}
			all = append(all, h)
			if h.Order.Place != shared.Anywhere {
				asking = append(asking, h)
			}
		}
		_, errAll := shared.SortHooks(all)
		_, errAsking := shared.SortHooks(asking)
		if (errAll != nil) != (errAsking != nil) {
			t.Fatalf("with all hooks: %v; with those that ask for a place: %v", errAll, errAsking)
		}
	})
}

// TestCheckWithoutKnowledge: where nothing is known of any helper, those on the path can be had all the same.
func TestCheckWithoutKnowledge(t *testing.T) {
	dir := t.TempDir()
	name := "clock"
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	writeFile(t, filepath.Join(dir, "bin", name), nil)
	cfg := parsed(t, filepath.Join(dir, "khelpd.hcl"), `
khelpd {
  helper_path = ["nowhere", "bin"]
  autoload    = "path"
}
helper "ertt" {
  requires = ["clock"]
}
`)
	if diags := cfg.Check(nil, nil); len(diags) > 0 {
		t.Error(render(t, cfg, diags))
	}
}

// TestManyMistakes: what is wrong in a thousand places takes no longer than what is right, and what would take longer is cut.
func TestManyMistakes(t *testing.T) {
	var pairs, unknown, versions strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&pairs, "helper \"h%d\" {\n  hook \"tcp.est_in\" {\n    order = \"before h%d\"\n  }\n}\n", i, i^1)
		fmt.Fprintf(&unknown, "helper \"helper-%d\" {\n  requires = [\"hepler-%d\"]\n}\n", i, i)
	}
	for i := range 2000 {
		fmt.Fprintf(&versions, "helper \"h%d\" {\n  requires = [\"h%d %s 1.%d\"]\n}\n", i, max(2000, i+1), []string{">=", "<="}[i/1999], i)
	}
	versions.WriteString("helper \"h2000\" {\n}\n")
	_, diags := Parse("khelpd.hcl", []byte(versions.String()))
	if len(diags) != 0 {
		t.Errorf("constraints that can be met: %v", diags)
	}
	_, diags = Parse("khelpd.hcl", []byte(strings.Replace(versions.String(), "<= 1.1999", "<= 1.500", 1)))
	if len(diags) != 1 || !strings.Contains(diags[0].Detail, "h1999 requires h2000 <= 1.500, but h501 requires h2000 >= 1.501 at khelpd.hcl:1505") {
		t.Errorf("constraints that cannot be met: %v", diags)
	}
	_, diags = Parse("khelpd.hcl", []byte(pairs.String()))
	if len(diags) != maxWritten {
		t.Errorf("500 contradictions on one point are told in %d diagnostics, want %d", len(diags), maxWritten)
	}
	diags = parsed(t, "khelpd.hcl", unknown.String()).Check(nil, nil)
	if len(diags) != 1000 {
		t.Errorf("1000 requirements on nothing are told in %d diagnostics", len(diags))
	}
	hints := 0
	for _, d := range diags {
		hints += strings.Count(d.Detail, "did you mean")
	}
	if hints != maxWritten {
		t.Errorf("%d suggestions, want %d", hints, maxWritten)
	}
}
