//go:build unix

package config

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOnlyRegularFilesAreRead: nothing else is even opened, where it would block for ever or never end.
func TestOnlyRegularFilesAreRead(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := unix.Mkfifo("pipe.hcl", 0o600); err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("unix", "socket")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	for path, want := range map[string]string{
		"pipe.hcl":  "Error: Cannot read pipe.hcl\n\nIt is a pipe; only regular files are read.\n",
		".":         "Error: Cannot read pipe.hcl\n\nIt is a pipe; only regular files are read.\n",
		"socket":    "It is a socket;",
		"/dev/zero": "It is a device;",
		"-":         "A configuration is read from a file or a directory, not from standard input.",
	} {
		cfg, diags := Load(path)
		if out := render(t, cfg, diags); !diags.HasErrors() || !strings.Contains(out, want) {
			t.Errorf("%s: want %q, got:\n%s", path, want, out)
		}
		if _, _, diags := FormatFiles(path); !diags.HasErrors() {
			t.Errorf("%s was formatted", path)
		}
	}
	text := "helper \"a\" {\n  config {\n    x = file(\"pipe.hcl\")\n    y = file(\".\")\n  }\n}\n"
	cfg, diags := Parse(filepath.Join(dir, "khelpd.hcl"), []byte(text))
	out := render(t, cfg, diags)
	for _, want := range []string{"line 3,", "it is a pipe; only", "line 4,", "it is a directory; only"} {
		if !strings.Contains(out, want) {
			t.Errorf("file(): want %q, got:\n%s", want, out)
		}
	}
}
