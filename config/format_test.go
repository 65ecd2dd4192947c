package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	untidy = "helper \"a\" {\ntimeout=\"5ms\"\n    on_failure   = \"open\" # why\n}\n"
	tidy   = "helper \"a\" {\n  timeout    = \"5ms\"\n  on_failure = \"open\" # why\n}\n"
)

func TestFormat(t *testing.T) {
	if got := string(Format([]byte(untidy))); got != tidy {
		t.Errorf("got:\n%s\nwant:\n%s", got, tidy)
	}
	if got := string(Format([]byte(tidy))); got != tidy {
		t.Errorf("what is tidy changed to:\n%s", got)
	}
}

func TestFormatFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	writeFile(t, "a.hcl", []byte(untidy))
	writeFile(t, "b.hcl", []byte(tidy))
	writeFile(t, "c.hcl", []byte("helper \"x\" {\n  timeout = = 5\n}\n"))
	writeFile(t, "d.txt", []byte("x   =  1"))
	formatted, files, diags := FormatFiles(".")
	if len(formatted) != 2 || formatted[0].Name != "a.hcl" || formatted[1].Name != "b.hcl" {
		t.Fatalf("formatted %+v", formatted)
	}
	if !formatted[0].Changed() || string(formatted[0].After) != tidy || formatted[1].Changed() {
		t.Errorf("formatted %+v", formatted)
	}
	var out strings.Builder
	if err := WriteDiagnostics(&out, files, diags, 0, false); err != nil {
		t.Fatal(err)
	}
	if !diags.HasErrors() || !strings.Contains(out.String(), "c.hcl line 2") {
		t.Errorf("diagnostics:\n%s", out.String())
	}
	if _, _, diags := FormatFiles("missing"); !diags.HasErrors() {
		t.Error("a path that is not there formats without errors")
	}
}

// TestFormatWrite: the file keeps its mode and stays where its link points; no copy is left.
func TestFormatWrite(t *testing.T) {
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real.hcl"), filepath.Join(dir, "link.hcl")
	writeFile(t, real, []byte(untidy))
	if err := os.Chmod(real, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(real, link); err != nil {
		t.Skipf("no symbolic links here: %v", err)
	}
	formatted, _, diags := FormatFiles(link)
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	for range 2 { // the second time nothing is left to do, and nothing harmful done
		if err := formatted[0].Write(); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(real)
	if err != nil || string(text) != tidy {
		t.Errorf("the file has %q, %v", text, err)
	}
	info, err := os.Stat(real)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the mode is %v, %v", info.Mode(), err)
	}
	if target, err := os.Readlink(link); err != nil || target != real {
		t.Errorf("the link is now %q, %v", target, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("the directory has %v, %v", entries, err)
	}
}

func TestFormatWriteFails(t *testing.T) {
	f := Formatted{Name: filepath.Join(t.TempDir(), "gone.hcl"), Before: []byte(untidy), After: []byte(tidy)}
	if err := f.Write(); err == nil || !strings.Contains(err.Error(), "gone.hcl") {
		t.Errorf("writing a file that is gone: %v", err)
	}
}
