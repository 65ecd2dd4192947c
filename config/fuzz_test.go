package config

import (
	"testing"

	"github.com/hashicorp/hcl/v2"

	"github.com/khelp/khelp/shared"
)

// FuzzParse: whatever the text, Parse does not panic, nor does Check; every diagnostic has words and a place inside the file and can be
// written; without errors every spec is valid; and text without syntax errors has none after Format either.
func FuzzParse(f *testing.F) {
	f.Add([]byte(tidy))
	f.Add([]byte(diagnoseText))
	f.Add([]byte(manyHelpers(4)))
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 1<<16 {
			t.Skip("longer inputs only take longer")
		}
		cfg, diags := Parse("fuzz.hcl", text)
		if !diags.HasErrors() {
			diags = append(diags, cfg.Check(fuzzKnown, []string{"clock"})...)
		}
		checkRanges(t, cfg, diags)
		for _, d := range diags {
			if d.Subject == nil {
				t.Errorf("a diagnostic without a place: %s: %s", d.Summary, d.Detail)
			}
		}
		if out := render(t, cfg, diags); !harmless(out) {
			t.Errorf("not fit for a terminal: %q", out)
		}
		render(t, cfg, cfg.Diagnose("ertt", hcl.Diagnostics{{Severity: hcl.DiagError, Summary: "x"}}))
		if _, diags := Parse("fuzz.hcl", text); !diags.HasErrors() {
			for i := range cfg.Helpers {
				if err := cfg.Helpers[i].Spec.Validate(); err != nil {
					t.Errorf("no diagnostic says so, but %v", err)
				}
			}
		}
		if _, syntax := parseFile(source{"fuzz.hcl", text}); !syntax.HasErrors() {
			if _, again := parseFile(source{"fuzz.hcl", Format(text)}); again.HasErrors() {
				t.Errorf("formatting breaks it: %v", again)
			}
		}
	})
}

// fuzzKnown says of every other helper something that does not fit everywhere.
func fuzzKnown(spec shared.HelperSpec) (shared.Modinfo, bool) {
	n := uint32(len(spec.Name))
	return shared.Modinfo{
		Name: spec.Name, Version: "1.0.0", API: n % 3,
		Requires:   []shared.Requirement{{Name: "ertt", Constraint: "~> 1.1"}, {Name: "clock", Constraint: "?"}},
		Classes:    []shared.Class{"tcp"},
		Hooks:      []shared.HookInfo{{Point: "tcp.est_in"}, {Point: "tcp.est_in", Index: 1}},
		Properties: []shared.Property{{Name: "smoothing", Type: shared.PropertyInt, Required: true}},
	}, n%2 == 0
}
