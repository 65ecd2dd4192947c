package testkit

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// runner is a set of tests that is a function.
type runner func() int

func (r runner) Run() int { return r() }

// leaks are what tests may leave behind, and what is said then.
var leaks = map[string]struct {
	leave func() error
	want  string
}{
	"nothing":   {func() error { return nil }, ""},
	"goroutine": {func() error { go func() { select {} }(); return nil }, "in state select (no cases)"},
	"temporary file": {func() error {
		return os.WriteFile(filepath.Join(os.TempDir(), "khelp-sock-1"), nil, 0o600)
	}, "temporary file: khelp-sock-1"},
}

func TestMain(m *testing.M) {
	programs := Programs{
		"args":  func() { fmt.Print(strings.Join(os.Args[1:], ",")) },
		"fails": func() { os.Exit(checked{runner(func() int { return 3 }), time.Hour}.Run()) },
		"hold":  func() { _, _ = os.Stdin.Read(make([]byte, 1)) },
		"dir": func() {
			os.Exit(Checked(runner(func() int {
				fmt.Print(SharedDir())
				if err := os.WriteFile(filepath.Join(SharedDir(), "program"), nil, 0o700); err != nil {
					return 1
				}
				return 0
			})).Run())
		},
	}
	for name, l := range leaks {
		programs["leak "+name] = func() {
			os.Exit(checked{runner(func() int {
				if err := l.leave(); err != nil {
					fmt.Fprintln(os.Stderr, err)
					return 2
				}
				return 0
			}), 50 * time.Millisecond}.Run())
		}
	}
	Main(m, programs)
}

// start runs a program and returns how it ended.
func start(t *testing.T, name string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	argv := Command(name, args...)
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = Patience // a leaked process may hold them
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

func TestPrograms(t *testing.T) {
	if code, out, _ := start(t, "args", "a", "b"); code != 0 || out != "a,b" {
		t.Errorf("exit code %d, output %q", code, out)
	}
	if code, _, errs := start(t, "none"); code != 2 || !strings.Contains(errs, `"none"`) {
		t.Errorf("no program: exit code %d, %q", code, errs)
	}
}

func TestChecked_Finds(t *testing.T) {
	for name, l := range leaks {
		t.Run(name, func(t *testing.T) {
			code, _, errs := start(t, "leak "+name)
			switch {
			case l.want == "" && (code != 0 || errs != ""):
				t.Errorf("exit code %d, %s", code, errs)
			case l.want != "" && (code != 1 || !strings.Contains(errs, l.want)):
				t.Errorf("exit code %d, no %q in: %s", code, l.want, errs)
			}
		})
	}
}

// TestChecked_Failed: tests that fail say why, and nothing drowns it.
func TestChecked_Failed(t *testing.T) {
	if code, _, errs := start(t, "fails"); code != 3 || errs != "" {
		t.Errorf("exit code %d, %q", code, errs)
	}
}

func TestChecked_SharedDir(t *testing.T) {
	code, dir, errs := start(t, "dir")
	if code != 0 || !filepath.IsAbs(dir) {
		t.Fatalf("exit code %d, %q, %q", code, dir, errs)
	}
	if _, err := os.Stat(filepath.Dir(dir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there (%v)", err)
	}
}

// TestTempIsShort: a helper's socket fits below the directory for temporary files.
func TestTempIsShort(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no such limit")
	}
	if n := len(filepath.Join(os.TempDir(), "khelp-sock-1234567890", "plugin1234567890")); n > 103 {
		t.Errorf("%d bytes below %s", n, os.TempDir())
	}
}

// fakeTest is a test that CheckLeaks sees.
type fakeTest struct {
	testing.TB
	cleanup func()
	failed  bool
	report  string
}

func (f *fakeTest) Helper()          {}
func (f *fakeTest) Cleanup(g func()) { f.cleanup = g }
func (f *fakeTest) Failed() bool     { return f.failed }
func (f *fakeTest) Error(args ...any) {
	f.report += fmt.Sprint(args...)
}

func TestCheckLeaks(t *testing.T) {
	old := make(chan struct{})
	defer close(old)
	go func() { <-old }() // was there before

	f := &fakeTest{TB: t}
	checkLeaks(f, 50*time.Millisecond)
	f.cleanup()
	if f.report != "" {
		t.Errorf("nothing was left: %s", f.report)
	}

	checkLeaks(f, 50*time.Millisecond)
	end := make(chan struct{})
	go func() { <-end }()
	f.failed = true
	f.cleanup()
	if f.report != "" {
		t.Errorf("a failed test was checked: %s", f.report)
	}
	f.failed = false
	f.cleanup()
	if !strings.Contains(f.report, "TestCheckLeaks") {
		t.Errorf("a goroutine was left: %q", f.report)
	}
	close(end)
}

// TestCheckLeaks_Waits: what is about to end is no leak, nor is what the garbage collector closes.
func TestCheckLeaks_Waits(t *testing.T) {
	f := &fakeTest{TB: t}
	CheckLeaks(f)
	if _, _, err := os.Pipe(); err != nil {
		t.Fatal(err)
	}
	f.cleanup()
	if f.report != "" {
		t.Error(f.report)
	}
}
