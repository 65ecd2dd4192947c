//go:build unix

package main

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/khelp/khelp/host/hosttest/testkit"
)

// TestReadme does what README.md tells its reader to do, command by command, and holds what is printed against what the README shows,
// numbers aside. Only the paths, and the ports, which somebody may be using, are other ones.
func TestReadme(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs everything")
	}
	w := newWalk(t)
	for _, s := range readSteps(t, "README.md") {
		t.Logf("$ %s", s.command)
		switch {
		case s.command == "make demo": // the demo's own test
		case s.command == "make build":
			w.makeBuild()
		case strings.HasPrefix(s.command, "export "):
			name, value, _ := strings.Cut(strings.TrimPrefix(s.command, "export "), "=")
			t.Setenv(name, value)
		case strings.HasPrefix(s.command, "go run "):
			w.web = w.start(w.repository, s)
			w.web.await(strings.Join(s.output, "\n"))
		case strings.HasPrefix(s.command, "curl "):
			w.curl = w.start(w.dir, s)
			w.curl.await("05:10:10")
		case strings.HasPrefix(s.command, "bin/khelpd run "):
			w.khelpd = w.start(w.dir, s)
			w.khelpd.await("ready")
		default:
			if strings.Contains(s.command, "--wait") {
				w.curl.interrupt() // as the text says
			}
			w.run(s)
		}
	}
	w.finish()
}

// step is a command of the README with the output that it shows.
type step struct {
	command string
	output  []string
}

// readSteps takes the commands out of the console blocks.
func readSteps(t *testing.T, path string) []step {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var steps []step
	inside := false
	for line := range strings.SplitSeq(string(text), "\n") {
		command, isCommand := strings.CutPrefix(line, "$ ")
		switch {
		case strings.HasPrefix(line, "```"):
			inside = line == "```console"
		case inside && isCommand:
			steps = append(steps, step{command: command})
		case inside && len(steps) > 0:
			last := &steps[len(steps)-1]
			last.output = append(last.output, line)
		}
	}
	if len(steps) < 10 {
		t.Fatalf("%d commands found in %s", len(steps), path)
	}
	return steps
}

// walk is one way through the README, in a directory that stands for the repository's root.
type walk struct {
	t                 *testing.T
	repository, dir   string
	replace           *strings.Replacer // ports
	web, khelpd, curl *terminal
}

func newWalk(t *testing.T) *walk {
	t.Helper()
	repository, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	w := &walk{t: t, repository: repository, dir: dir}
	w.replace = strings.NewReplacer("127.0.0.1:8080", freePort(t), "127.0.0.1:9000", freePort(t))
	text, err := os.ReadFile("khelpd.hcl")
	if err != nil {
		t.Fatal(err)
	}
	place := filepath.Join(dir, "examples", "h_example")
	if err := errors.Join(os.MkdirAll(place, 0o755), os.Mkdir(filepath.Join(dir, "bin"), 0o755),
		os.WriteFile(filepath.Join(place, "khelpd.hcl"), []byte(w.replace.Replace(string(text))), 0o644)); err != nil {
		t.Fatal(err)
	}
	return w
}

// freePort returns an address nobody listens on just now.
func freePort(t *testing.T) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	return lis.Addr().String()
}

// makeBuild builds the two programs that the walk needs where `make build` would put them.
func (w *walk) makeBuild() {
	w.t.Helper()
	cmd := exec.Command("go", "build", "-o", filepath.Join(w.dir, "bin")+"/", "./cmd/khelpd", "./examples/h_example")
	cmd.Dir = w.repository
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("go build: %v\n%s", err, out)
	}
}

// run runs a command to its end and compares the output with what the README shows, if anything.
func (w *walk) run(s step) {
	w.t.Helper()
	refused := len(s.output) > 0 && strings.HasPrefix(s.output[0], "khelpd: ")
	want := shape(strings.Join(s.output, "\n"))
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(testkit.Patience); ; <-tick.C {
		cmd := exec.Command("sh", "-c", w.replace.Replace(s.command))
		cmd.Dir = w.dir
		out, err := cmd.CombinedOutput()
		if (err != nil) != refused {
			w.t.Fatalf("$ %s: %v\n%s", s.command, err, out)
		}
		got := shape(string(out))
		if len(s.output) == 0 || got == want {
			return
		}
		// Counts are asynchronous: the reader looks again, too.
		if !looksOn.MatchString(s.command) || time.Now().After(end) {
			w.t.Errorf("$ %s: the README shows another output\ngot, without numbers:\n%s\nwant:\n%s", s.command, got, want)
			return
		}
	}
}

// looksOn matches the commands that change nothing.
var looksOn = regexp.MustCompile(`^bin/khelpd (stat|hooks|objects)\b`)

var (
	numbers = regexp.MustCompile(`[0-9]+(\.[0-9]+)*(ns|µs|ms|s\b)?`)
	spaces  = regexp.MustCompile(` +`)
)

// shape takes numbers out of an output, and the width of its columns, which depends on them.
func shape(text string) string {
	return strings.TrimSpace(spaces.ReplaceAllString(numbers.ReplaceAllString(text, "#"), " "))
}

// finish ends what still runs, khelpd first, as the README does.
func (w *walk) finish() {
	w.t.Helper()
	for _, terminal := range []*terminal{w.web, w.khelpd, w.curl} {
		if terminal == nil {
			w.t.Fatal("the README does not start all of web server, khelpd and curl")
		}
	}
	w.khelpd.interrupt()
	if code := w.khelpd.cmd.ProcessState.ExitCode(); code != 0 {
		w.t.Errorf("khelpd ended with %d\n%s", code, w.khelpd.text())
	}
	left, err := filepath.Glob(filepath.Join(w.dir, "bin", "*"))
	if err != nil || len(left) != 2 {
		w.t.Errorf("bin has %v, want the two programs alone (%v)", left, err)
	}
	w.web.interrupt()
}

// terminal is a command that goes on until it is interrupted.
type terminal struct {
	t    *testing.T
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	once sync.Once     // interrupts

	mu  sync.Mutex // protects the following field
	out bytes.Buffer
}

func (c *terminal) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.Write(p)
}

func (c *terminal) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.String()
}

// start starts a step's command, in a process group of its own as a shell does.
func (w *walk) start(dir string, s step) *terminal {
	w.t.Helper()
	if program, _, _ := strings.Cut(s.command, " "); program == "curl" {
		if _, err := exec.LookPath(program); err != nil {
			w.t.Skipf("the rest of the README needs %s: %v", program, err)
		}
	}
	c := &terminal{t: w.t, name: s.command, done: make(chan struct{})}
	c.cmd = exec.Command("sh", "-c", "exec "+w.replace.Replace(s.command))
	c.cmd.Dir, c.cmd.Stdout, c.cmd.Stderr = dir, c, c
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	go func() {
		_ = c.cmd.Wait() // the status is in ProcessState
		close(c.done)
	}()
	w.t.Cleanup(c.interrupt)
	return c
}

// await waits until the command has printed something of the shape of want.
func (c *terminal) await(want string) {
	c.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(3 * testkit.Patience) // go run may have to build
	defer limit.Stop()
	for !strings.Contains(shape(c.text()), shape(want)) {
		select {
		case <-tick.C:
		case <-c.done:
			c.t.Fatalf("$ %s ended: %v\n%s", c.name, c.cmd.ProcessState, c.text())
		case <-limit.C:
			c.t.Fatalf("$ %s does not print %q\n%s", c.name, want, c.text())
		}
	}
}

// interrupt is Ctrl-C, and waits for the end.
func (c *terminal) interrupt() {
	c.once.Do(func() {
		if err := syscall.Kill(-c.cmd.Process.Pid, syscall.SIGINT); err != nil {
			c.t.Errorf("$ %s cannot be interrupted: %v\n%s", c.name, err, c.text())
		}
	})
	<-c.done
}
