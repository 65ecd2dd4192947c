package config

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/khelp/khelp/shared"
)

var update = flag.Bool("update", false, "write what the diagnostics are now into testdata")

// TestDiagnostics holds the diagnostics of each testdata/bad/*.txtar, as people see them, against the file "want" in it. A comment line
// "load: PATH" says what to load; else it is the directory with all files of the archive. A configuration without errors is held against
// the files modinfo/NAME.json, which are what is known of helpers, and against the builtins that a line "builtins: NAMES" tells.
func TestDiagnostics(t *testing.T) {
	golden(t, "testdata/bad/*.txtar")
}

// TestH7_ContradictingOrders: a contradiction of orders is an error when the configuration is validated.
func TestH7_ContradictingOrders(t *testing.T) {
	golden(t, "testdata/h7/*.txtar")
}

func golden(t *testing.T, pattern string) {
	archives, err := filepath.Glob(pattern)
	if err != nil || len(archives) == 0 {
		t.Fatalf("no archives %s: %v", pattern, err)
	}
	for _, name := range archives {
		path, err := filepath.Abs(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) { goldenFile(t, path) })
	}
}

func goldenFile(t *testing.T, path string) {
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("KHELP_TEST_SET", "set")
	dir := t.TempDir()
	t.Chdir(dir)
	load := "."
	var builtins []string
	for line := range strings.Lines(string(archive.Comment)) {
		if p, ok := strings.CutPrefix(line, "load: "); ok {
			load = strings.TrimSpace(p)
		}
		if names, ok := strings.CutPrefix(line, "builtins: "); ok {
			builtins = strings.Fields(names)
		}
	}
	want := -1
	for i, f := range archive.Files {
		if f.Name == "want" {
			want = i
			continue
		}
		writeFile(t, f.Name, f.Data)
	}
	cfg, diags := Load(load)
	if !diags.HasErrors() {
		diags = sorted(append(diags, cfg.Check(described(t), builtins)...))
	}
	checkRanges(t, cfg, diags)
	got := bytes.ReplaceAll([]byte(render(t, cfg, diags)), []byte(dir), []byte("$WORK"))
	switch {
	case *update && want < 0:
		archive.Files = append(archive.Files, txtar.File{Name: "want", Data: got})
	case *update:
		archive.Files[want].Data = got
	case want < 0:
		t.Fatal("the archive has no file want; run with -update")
	default:
		if diff := cmp.Diff(string(archive.Files[want].Data), string(got)); diff != "" {
			t.Errorf("diagnostics differ (-want +got):\n%s", diff)
		}
		return
	}
	if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
		t.Fatal(err)
	}
}

// described is what the files modinfo/NAME.json say of helpers. Name and API need not be written.
func described(t *testing.T) func(shared.HelperSpec) (shared.Modinfo, bool) {
	return func(spec shared.HelperSpec) (shared.Modinfo, bool) {
		text, err := os.ReadFile(filepath.Join("modinfo", spec.Name+".json"))
		if err != nil {
			return shared.Modinfo{}, false
		}
		info := shared.Modinfo{Name: spec.Name, API: shared.APIGeneration}
		if err := json.Unmarshal(text, &info); err != nil {
			t.Fatalf("%s: %v", spec.Name, err)
		}
		return info, true
	}
}

func writeFile(t *testing.T, name string, text []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

func render(t testing.TB, cfg *Config, diags hcl.Diagnostics) string {
	t.Helper()
	var out strings.Builder
	if err := cfg.WriteDiagnostics(&out, diags, 0, false); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// checkRanges fails unless every diagnostic has words and, if it has a file, a place inside it.
func checkRanges(t testing.TB, cfg *Config, diags hcl.Diagnostics) {
	t.Helper()
	for _, d := range diags {
		if d.Summary == "" || d.Detail == "" {
			t.Errorf("a diagnostic without words: %+v", d)
		}
		for _, r := range []*hcl.Range{d.Subject, d.Context} {
			if r == nil {
				continue
			}
			file := cfg.Files[r.Filename]
			if file == nil {
				t.Errorf("%q is about %q, which was not read", d.Summary, r.Filename)
				continue
			}
			if n := len(file.Bytes); r.Start.Byte < 0 || r.End.Byte < r.Start.Byte || r.End.Byte > n || r.Start.Line < 1 {
				t.Errorf("%q has the range %#v outside of its file of %d bytes", d.Summary, *r, n)
			}
		}
	}
}
