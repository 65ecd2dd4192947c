package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
)

// harmless reports whether a text is of graphic characters, tabs and ends of lines.
func harmless(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsGraphic(r) && r != '\n' && r != '\t' })
}

// snippets returns the lines of files that a rendering shows.
func snippets(out string) []string {
	var lines []string
	for line := range strings.Lines(out) {
		if number, rest, ok := strings.Cut(line, ": "); ok && strings.Trim(number, " 0123456789") == "" {
			lines = append(lines, strings.TrimSuffix(rest, "\n"))
		}
	}
	return lines
}

// TestManyErrorsInALongLine: what is written does not grow with the square of what is wrong.
func TestManyErrorsInALongLine(t *testing.T) {
	var text strings.Builder
	text.WriteString("helper \"ertt\" {\n  on_cause = { ")
	for i := range 2000 {
		fmt.Fprintf(&text, "wrong_%04d = \"closed\", ", i)
	}
	text.WriteString("}\n}\n")
	cfg, diags := Parse("khelpd.hcl", []byte(text.String()))
	if len(diags) < 2000 {
		t.Fatalf("%d diagnostics, want one for each key", len(diags))
	}
	out := render(t, cfg, diags)
	if limit := 100 << 10; len(out) > limit {
		t.Errorf("%d bytes, want %d at most", len(out), limit)
	}
	if want := fmt.Sprintf("Not shown: %d more errors.\n\n", len(diags)-maxWritten); !strings.HasSuffix(out, want) {
		t.Errorf("the end is %q, want %q", out[max(0, len(out)-80):], want)
	}
	lines := snippets(out)
	if len(lines) != maxWritten {
		t.Fatalf("%d lines of the file, want %d", len(lines), maxWritten)
	}
	for i, line := range lines {
		if n := utf8.RuneCountInString(line); n > maxColumns+2 || !strings.Contains(line, fmt.Sprintf("wrong_%04d", i)) {
			t.Errorf("error %d shows %d characters: %s", i, n, line)
		}
	}
	if last := lines[maxWritten-1]; !strings.HasPrefix(last, ellipsis) || !strings.HasSuffix(last, ellipsis) {
		t.Errorf("the cuts are not marked: %s", last)
	}
}

// TestDiagnosticsAreHarmless: no byte of a file, a file's name or an error reaches the terminal as it is, unless it is graphic.
func TestDiagnosticsAreHarmless(t *testing.T) {
	const bad = "\x1b[2J\a\u202e\xff\r"
	cfg, diags := Parse("x"+bad+".hcl", []byte("helper \"a"+bad+"\" {\n  timeout = \"soon"+bad+"\" # "+bad+"\n  nonsense = 1\n}\n"))
	diags = append(diags, cfg.Diagnose("a"+bad, errors.New("helper says "+bad+"\nand "+bad))...)
	for _, width := range []uint{0, 40} {
		var out strings.Builder
		if err := cfg.WriteDiagnostics(&out, diags, width, false); err != nil {
			t.Fatal(err)
		}
		if !harmless(out.String()) {
			t.Errorf("width %d: %q", width, out.String())
		}
		if !strings.Contains(out.String(), `\x1b[2J\x07\u202e\xff`) {
			t.Errorf("width %d: what was there cannot be seen: %s", width, out.String())
		}
	}
}

func TestWindow(t *testing.T) {
	digits := strings.Repeat("0123456789", 100)
	for _, tc := range []struct {
		name     string
		line     string
		place    int
		from, to int
	}{
		{"empty", "", 0, 0, 0},
		{"short", "timeout = 1", 10, 0, 11},
		{"just fits", digits[:maxColumns], maxColumns, 0, maxColumns},
		{"beginning", digits, 0, 0, maxColumns},
		{"near the beginning", digits, leadColumns, 0, maxColumns},
		{"middle", digits, 500, 500 - leadColumns, 500 - leadColumns + maxColumns},
		{"near the end", digits, 990, 1000 - maxColumns, 1000},
		{"end", digits, 1000, 1000 - maxColumns, 1000},
		{"wide characters", strings.Repeat("ö", 500), 500, 500 - 2*leadColumns, 500 - 2*leadColumns + 2*maxColumns},
		{"no characters", strings.Repeat("\xff", 500), 250, 250 - leadColumns, 250 - leadColumns + maxColumns},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if from, to := window([]byte(tc.line), tc.place); from != tc.from || to != tc.to {
				t.Errorf("%d to %d, want %d to %d", from, to, tc.from, tc.to)
			}
		})
	}
}

// at is a place in a text, for diagnostics that no parser makes.
func at(text string, start, end int) *hcl.Range {
	pos := func(i int) hcl.Pos { return hcl.Pos{Line: 1 + strings.Count(text[:i], "\n"), Column: 1, Byte: i} }
	return &hcl.Range{Filename: "f.hcl", Start: pos(start), End: pos(end)}
}

func TestSnippet(t *testing.T) {
	lines := "one\r\ntwo\nthree\n" + strings.Repeat("x\n", 50)
	files := map[string]*hcl.File{"f.hcl": {Bytes: []byte(lines)}}
	for _, tc := range []struct {
		name             string
		subject, context *hcl.Range
		want             string
	}{
		{"line", at(lines, 5, 8), nil, "   2: two\n"},
		{"carriage return", at(lines, 0, 3), nil, "   1: one\n"},
		{"lines", at(lines, 2, 12), nil, "   1: one\n   2: two\n   3: three\n"},
		{"context", at(lines, 9, 14), at(lines, 0, 14), "   1: one\n   2: two\n   3: three\n"},
		{"long context", at(lines, 9, 14), at(lines, 0, 80), "   3: three\n"},
		{"long subject", at(lines, 5, 80), nil, "   2: two\n   3: three\n" + numbered(4, 11) + "      …\n"},
		{"empty", at(lines, 5, 5), nil, "   2: two\n"},
		{"end of the file", at(lines, len(lines), len(lines)), nil, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out strings.Builder
			d := &hcl.Diagnostic{Severity: hcl.DiagError, Summary: "Bad", Subject: tc.subject, Context: tc.context}
			if err := WriteDiagnostics(&out, files, hcl.Diagnostics{d}, 0, false); err != nil {
				t.Fatal(err)
			}
			want := fmt.Sprintf("Error: Bad\n\n  on f.hcl line %d:\n%s\n", tc.subject.Start.Line, tc.want)
			if out.String() != want {
				t.Errorf("got:\n%swant:\n%s", out.String(), want)
			}
		})
	}
}

func numbered(from, to int) string {
	var b strings.Builder
	for n := from; n <= to; n++ {
		fmt.Fprintf(&b, "%4d: x\n", n)
	}
	return b.String()
}

// TestErrorsAreNotHiddenByWarnings: of too many diagnostics, errors are shown first.
func TestErrorsAreNotHiddenByWarnings(t *testing.T) {
	var diags hcl.Diagnostics
	for range maxWritten + 5 {
		diags = append(diags, &hcl.Diagnostic{Severity: hcl.DiagWarning, Summary: "Careful", Detail: "Go slow."})
	}
	write := func() string {
		t.Helper()
		var out strings.Builder
		if err := WriteDiagnostics(&out, nil, diags, 0, false); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	if got := write(); strings.Count(got, "Warning: Careful") != maxWritten || !strings.HasSuffix(got, "\nNot shown: 5 more warnings.\n\n") {
		t.Errorf("got:\n%s", got)
	}
	diags = append(diags, &hcl.Diagnostic{Severity: hcl.DiagError, Summary: "Wrong", Detail: strings.Repeat("word\n", 1000)})
	if got := write(); !strings.HasPrefix(got, "Error: Wrong\n\nword\n") || !strings.HasSuffix(got, "word\n…\n\nNot shown: 105 more warnings.\n\n") {
		t.Errorf("got:\n%s", got)
	}
}

// TestForVariables: the same mistake in two rounds of a loop can be told apart.
func TestForVariables(t *testing.T) {
	cfg, diags := Parse("khelpd.hcl", []byte(`helper "ertt" {
  classes = [for c in ["tcp", "KHELP_TEST_NOT_SET"] : env(c)]
}
`))
	out := render(t, cfg, diags)
	for _, want := range []string{"with c as \"tcp\".\n\n", "with c as \"KHELP_TEST_NOT_SET\".\n\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in:\n%s", want, out)
		}
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestWriteDiagnosticsFails(t *testing.T) {
	cfg, diags := Parse("khelpd.hcl", []byte("nonsense {\n}\n"))
	if err := cfg.WriteDiagnostics(fullDisk{}, diags, 0, false); err == nil || err.Error() != "disk full" {
		t.Errorf("error: %v", err)
	}
}
