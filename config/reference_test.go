package config

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/points/tcpv1"
)

// row is a word in a table of REFERENCE.md.
type row struct{ word, kind, otherwise, meaning string }

var (
	tableRow = regexp.MustCompile("(?m)^\\| `([a-z0-9_]+)` \\| (.*) \\| ?(.*) \\| (.*) \\|$")
	quoted   = regexp.MustCompile("`([^`]+)`")
)

// sections takes REFERENCE.md apart by its headings.
func sections(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("REFERENCE.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, part := range regexp.MustCompile(`(?m)^#+ `).Split(string(text), -1) {
		heading, body, _ := strings.Cut(part, "\n")
		out[strings.ReplaceAll(heading, "The top level", topLevel)] = body
	}
	return out
}

// reference returns the rows of each kind of block.
func reference(t *testing.T) map[string][]row {
	t.Helper()
	out := map[string][]row{}
	for heading, body := range sections(t) {
		if _, ok := language[heading]; !ok {
			continue
		}
		out[heading] = nil
		for _, m := range tableRow.FindAllStringSubmatch(body, -1) {
			out[heading] = append(out[heading], row{m[1], m[2], m[3], m[4]})
		}
	}
	return out
}

// TestReference_Words: each supported word stands on the page, in the table of its block, and nothing else does.
func TestReference_Words(t *testing.T) {
	page := reference(t)
	for kind, rule := range language {
		rows, ok := page[kind]
		if !ok {
			t.Errorf("there is no section for %q", kind)
		}
		var attrs, blocks []string
		for _, r := range rows {
			if r.kind == "block" {
				blocks = append(blocks, r.word)
			} else {
				attrs = append(attrs, r.word)
			}
		}
		slices.Sort(attrs)
		slices.Sort(blocks)
		if diff := cmp.Diff(rule.attrs.known(), attrs); diff != "" {
			t.Errorf("attributes of %q differ (-language +page):\n%s", kind, diff)
		}
		if diff := cmp.Diff(rule.blocks.known(), blocks); diff != "" {
			t.Errorf("blocks of %q differ (-language +page):\n%s", kind, diff)
		}
	}
}

// TestReference_NotSupported: each word of a later version stands in the last section.
func TestReference_NotSupported(t *testing.T) {
	var want, got []string
	for _, rule := range language {
		for _, w := range []words{rule.attrs, rule.blocks} {
			for name := range w {
				if w[name] == later {
					want = append(want, name)
				}
			}
		}
	}
	for _, m := range quoted.FindAllStringSubmatch(sections(t)["Not supported yet"], -1) {
		got = append(got, m[1])
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("words of later versions differ (-language +page):\n%s", diff)
	}
}

// TestReference_Defaults holds the defaults against the constants, and the rest against what may stand there.
func TestReference_Defaults(t *testing.T) {
	duration := func(d fmt.Stringer) string { return fmt.Sprintf("`%q`", d) }
	text := func(s string) string { return fmt.Sprintf("`%q`", s) }
	want := map[string]string{
		"khelpd.control_socket":     text(DefaultControlSocket),
		"khelpd.log_level":          text(DefaultLogLevel),
		"khelpd.log_format":         text(DefaultLogFormat),
		"khelpd.autoload":           text("configured"),
		"autounload.after":          duration(shared.DefaultAutounloadAfter),
		"autounload.memory_floor":   text(fmt.Sprintf("%g%%", shared.DefaultMemoryFloor*100)),
		"autounload.under_pressure": text("autoloaded"),
		"helper.command":            "the label",
		"helper.classes":            "all it follows",
		"helper.load":               text(string(parsed(t, "x.hcl", "helper \"a\" {\n}\n").Helpers[0].Spec.Load)),
		"helper.timeout":            duration(shared.DefaultTimeout),
		"helper.on_failure":         "by the point",
		"helper.hook.order":         "by requirement, then by load",
		"helper.hook.timeout":       "the helper's",
		"helper.hook.on_failure":    "the helper's",
		"helper.hook.on_cause":      "the helper's",
		"helper.hook.required":      "`false`",
		"helper.autounload.policy":  text(string(shared.AutounloadIdle)),
		"helper.autounload.after":   "as at the top level",
		"tcp.vnet":                  text(""),
		"tcp.async":                 fmt.Sprintf("`%t`", parsed(t, "x.hcl", "tcp \"a\" {\n  listen = \":0\"\n  upstream = \"b:1\"\n}\n").TCP[0].Async),
	}
	for kind, rows := range reference(t) {
		for _, r := range rows {
			at := kind + "." + r.word
			def, special := want[at]
			delete(want, at)
			switch {
			case r.kind == "block":
				def = ""
			case special:
			case mustHave(kind, r.word):
				def = "required"
			default:
				def = "none"
			}
			if r.otherwise != def {
				t.Errorf("the default of %s is %q, want %q", at, r.otherwise, def)
			}
		}
	}
	for at := range want {
		t.Errorf("%s is not on the page", at)
	}
}

// mustHave reports whether a block without an attribute is an error that names it.
func mustHave(kind, word string) bool {
	_, diags := Parse("x.hcl", []byte(within(kind, "")))
	return slices.ContainsFunc(diags.Errs(), func(err error) bool { return strings.Contains(err.Error(), fmt.Sprintf("attribute %q", word)) })
}

// within writes a line into a block of a kind.
func within(kind, line string) string {
	before, after := "", ""
	path := ""
	for part := range strings.SplitSeq(kind, ".") {
		path = strings.TrimPrefix(path+"."+part, ".")
		label := ""
		if language[path].label != "" {
			label = ` "a"`
		}
		if path == "helper.hook" {
			label = ` "tcp.est_in"`
		}
		before += part + label + " {\n"
		after += "}\n"
	}
	return before + line + "\n" + after
}

// TestReference_Choices tries each word that the page offers for an attribute, and one that it does not.
func TestReference_Choices(t *testing.T) {
	tried := 0
	for kind, rows := range reference(t) {
		for _, r := range rows {
			var choices []string
			for _, m := range quoted.FindAllStringSubmatch(r.kind, -1) {
				if strings.HasPrefix(m[1], `"`) && m[1] != `""` {
					choices = append(choices, strings.ReplaceAll(m[1], "NAME", "b"))
				}
			}
			if choices == nil {
				continue
			}
			tried++
			for _, value := range choices {
				if _, diags := Parse("x.hcl", []byte(within(kind, r.word+" = "+value))); len(diags) > 0 {
					t.Errorf("%s.%s = %s: %v", kind, r.word, value, diags)
				}
			}
			if _, diags := Parse("x.hcl", []byte(within(kind, r.word+" = \"khelp\""))); !diags.HasErrors() {
				t.Errorf("%s.%s takes any word, not only %v", kind, r.word, choices)
			}
		}
	}
	if tried == 0 {
		t.Error("the page offers no choices")
	}
}

// TestReference_Lists holds the words of lists and maps, and numbers in the text, against where they come from.
func TestReference_Lists(t *testing.T) {
	page := sections(t)
	var actions, causes, points []string
	for _, p := range shared.Privileges {
		actions = append(actions, fmt.Sprintf("`%q`", string(p)))
		if !strings.Contains(page["access.allow"], fmt.Sprintf("\n| `%s` | ", string(p))) {
			t.Errorf("the page does not say what %s allows", p)
		}
	}
	for _, c := range shared.Causes {
		causes = append(causes, fmt.Sprintf("`%s`", c))
	}
	for _, p := range tcpv1.Points {
		points = append(points, fmt.Sprintf("`%s`", p))
	}
	flat := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	for _, want := range []struct{ section, text string }{
		{"access.allow", "some of " + strings.Join(actions, ", ") + " |"},
		{"helper", "by cause: " + strings.Join(causes, ", ") + " |"},
		{"tcp", "passes the hook points " + listOfWords(points, "and") + " on its way"},
		{"helper", fmt.Sprintf("A helper may require %d others, and %d may require one another in a row.", shared.MaxRequires, shared.MaxDepth)},
		{"What values look like", fmt.Sprintf("%d bytes at most", shared.MaxName)},
		{"khelpd", fmt.Sprintf("%d bytes at most", maxSocketPath)},
	} {
		if !strings.Contains(flat(page[want.section]), want.text) {
			t.Errorf("section %q does not say %q", want.section, want.text)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(evalContext(".").Functions)) {
		if !strings.Contains(page["What values look like"], "`"+name+"(") {
			t.Errorf("the function %s is not on the page", name)
		}
	}
}

// TestReference_Examples: what the page shows is a configuration in the canonical layout and has nothing wrong with it. Together the
// examples use every supported word.
func TestReference_Examples(t *testing.T) {
	text, err := os.ReadFile("REFERENCE.md")
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	// Users and groups differ from one machine to the next.
	local := strings.NewReplacer(`"adm"`, `"4000000001"`, `"operator"`, `"4000000002"`)
	for _, m := range regexp.MustCompile("(?s)\n```hcl\n(.*?)```\n").FindAllStringSubmatch(string(text), -1) {
		if got := string(Format([]byte(m[1]))); got != m[1] {
			t.Errorf("not in the canonical layout (-want +page):\n%s", cmp.Diff(got, m[1]))
		}
		cfg := parsed(t, "REFERENCE.md", local.Replace(m[1]))
		if diags := cfg.Check(nil, nil); len(diags) > 0 {
			t.Error(render(t, cfg, diags))
		}
		for _, word := range regexp.MustCompile(`(?m)^ *([a-z0-9_]+) `).FindAllStringSubmatch(m[1], -1) {
			used[word[1]] = true
		}
	}
	for kind, rule := range language {
		for _, word := range slices.Concat(rule.attrs.known(), rule.blocks.known()) {
			if !used[word] {
				t.Errorf("no example uses %s of %q", word, kind)
			}
		}
	}
}
