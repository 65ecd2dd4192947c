package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/khelp/khelp/shared"
)

const diagnoseText = `helper "ertt" {
  config {
    smoothing = "five"
    colour    = 1
  }
}

helper "bare" {
}
`

func TestDiagnose(t *testing.T) {
	cfg := parsed(t, "khelpd.hcl", diagnoseText)
	schema := []shared.Property{
		{Name: "smoothing", Type: shared.PropertyInt},
		{Name: "window", Type: shared.PropertyInt, Required: true},
	}
	_, bad := shared.CheckProperties(schema, cfg.Helper("ertt").Spec.Config)
	_, missing := shared.CheckProperties(schema, nil)
	for _, tc := range []struct {
		name   string
		helper string
		err    error
		want   []string // "line: what the text has", in this order; line 0: no place
	}{
		{"nothing", "ertt", nil, nil},
		{"properties", "ertt", bad, []string{
			`3: EINVAL|property "smoothing": must be of type int, not string.`,
			`2: EINVAL|property "window": is required (int).`,
			`4: EINVAL|property "colour": is unknown.`,
		}},
		{"wrapped", "ertt", fmt.Errorf("load ertt: %w", shared.ErrInvalid.Errorf("config: %w", bad)), []string{
			`3: EINVAL|property "smoothing"`, `2: EINVAL|property "window"`, `4: EINVAL|property "colour"`,
		}},
		{"with others", "ertt", errors.Join(errors.New("no such class"), bad), []string{
			`1: |no such class.`, `3: EINVAL|"smoothing"`, `2: EINVAL|"window"`, `4: EINVAL|"colour"`,
		}},
		{"without config", "bare", missing, []string{`8: EINVAL|property "window": is required`}},
		{"load", "bare", fmt.Errorf("start: %w", shared.ErrNoExec.Errorf("/bin/x is not a helper")), []string{
			`8: ENOEXEC|start: /bin/x is not a helper.`,
		}},
		{"load joined", "bare", errors.Join(errors.New("one"), errors.New("two")), []string{"8: |one\ntwo."}},
		{"sentinel", "bare", shared.ErrBusy, []string{`8: EBUSY|EBUSY: busy.`}},
		{"not configured", "nobody", shared.ErrNotExist.Errorf("no such helper"), []string{`0: ENOENT|no such helper.`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			diags := cfg.Diagnose(tc.helper, tc.err)
			checkRanges(t, cfg, diags)
			if len(diags) != len(tc.want) {
				t.Fatalf("%d diagnostics, want %d:\n%s", len(diags), len(tc.want), render(t, cfg, diags))
			}
			for i, d := range diags {
				line := 0
				if d.Subject != nil {
					line = d.Subject.Start.Line
				}
				place, text, _ := strings.Cut(tc.want[i], "|")
				summary := fmt.Sprintf("Cannot load helper %q", tc.helper)
				if word := strings.TrimSpace(place[strings.Index(place, ":")+1:]); word != "" {
					summary += ": " + word
				}
				if !strings.HasPrefix(place, fmt.Sprint(line)+":") || d.Summary != summary || !strings.Contains(d.Detail, text) {
					t.Errorf("diagnostic %d is at line %d: %s: %s; want %s", i, line, d.Summary, d.Detail, tc.want[i])
				}
			}
		})
	}
}

// TestDiagnosePrintsTheLine: what a helper found wrong looks like any other diagnostic.
func TestDiagnosePrintsTheLine(t *testing.T) {
	cfg := parsed(t, "khelpd.hcl", diagnoseText)
	_, err := shared.CheckProperties([]shared.Property{{Name: "smoothing", Type: shared.PropertyInt}, {Name: "color", Type: shared.PropertyInt}},
		cfg.Helper("ertt").Spec.Config)
	const want = `Error: Cannot load helper "ertt": EINVAL

  on khelpd.hcl line 3, in helper "ertt":
   3:     smoothing = "five"

property "smoothing": must be of type int, not string.

Error: Cannot load helper "ertt": EINVAL

  on khelpd.hcl line 4, in helper "ertt":
   4:     colour    = 1

property "colour": is unknown; did you mean "color"?

`
	if got := render(t, cfg, cfg.Diagnose("ertt", err)); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestColor(t *testing.T) {
	cfg, diags := Parse("khelpd.hcl", []byte("nonsense {\n}\n"))
	var out strings.Builder
	if err := cfg.WriteDiagnostics(&out, diags, 40, true); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "\x1b[31mError\x1b[0m") {
		t.Errorf("no colour in %q", out.String())
	}
	if strings.Contains(render(t, cfg, diags), "\x1b") {
		t.Error("colour where none was asked for")
	}
}
