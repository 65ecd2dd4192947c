package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	startLimit = 10 * time.Second // for khelpd to be ready
	stopLimit  = 5 * time.Second  // for khelpd to end after SIGTERM
	tailLines  = 20               // of its log that are kept
)

const configName = "khelpd.hcl"

// configText is the configuration. Port 0 is any free one; the log says which it became. The timeout has room for a machine that is
// busy with other things; no connection waits for the helper anyway.
const configText = `khelpd {
  control_socket = %s
  helper_path    = [%s]
  log_format     = "json"
}

helper "h_example" {
  timeout = "5s"
}

tcp "web" {
  listen   = "127.0.0.1:0"
  upstream = %s
}
`

// daemon is khelpd as a process.
type daemon struct {
	program string
	dir     string // holds the configuration, and all sockets while it runs
	socket  string // for control
	proxy   string // address that the proxy listens on

	cmd    *exec.Cmd
	ready  chan struct{} // closed when it says so; proxy is set by then
	exited chan struct{} // closed when the process has ended and its log is read

	mu   sync.Mutex // protects the following field
	tail []string   // the last lines of its log
}

// startDaemon starts khelpd with a configuration in dir and waits until it serves. The caller ends it with stop or kill.
func startDaemon(ctx context.Context, bin, dir, upstream string) (*daemon, error) {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return nil, err
	}
	d := &daemon{
		program: filepath.Join(bin, executable("khelpd")), dir: dir, socket: filepath.Join(dir, "control.sock"),
		ready: make(chan struct{}), exited: make(chan struct{}),
	}
	for _, program := range []string{d.program, filepath.Join(bin, executable("h_example"))} {
		if _, err := os.Stat(program); err != nil {
			return nil, fmt.Errorf("%w (has `make build` been run, and is -bin the directory that it fills?)", err)
		}
	}
	path := filepath.Join(dir, configName)
	text := fmt.Sprintf(configText, quoteHCL(d.socket), quoteHCL(bin), quoteHCL(upstream))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return nil, err
	}
	d.cmd = exec.Command(d.program, "run", "-c", path)
	d.cmd.Env = d.environment()
	log, err := d.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	go d.follow(log)
	if err := d.await(ctx); err != nil {
		d.kill()
		return nil, err
	}
	return d, nil
}

// environment is the demo's own, but for TMPDIR, so that sockets of helpers are made in dir too, and for the wires of whoever manages
// the demo as a service.
func (d *daemon) environment() []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "NOTIFY_SOCKET=") || strings.HasPrefix(v, "LISTEN_") || strings.HasPrefix(v, "KHELPD_SOCKET=")
	})
	return append(env, "TMPDIR="+d.dir)
}

// follow reads the log to its end, and waits for that of the process.
func (d *daemon) follow(log io.Reader) {
	defer close(d.exited)
	lines := bufio.NewReader(log)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			d.note(strings.TrimRight(line, "\n"))
		}
		if err != nil {
			break
		}
	}
	_ = d.cmd.Wait() // the exit status is in ProcessState
}

// note takes in a line of the log. Only follow's goroutine calls it.
func (d *daemon) note(line string) {
	d.mu.Lock()
	d.tail = append(d.tail, line)
	if len(d.tail) > tailLines {
		d.tail = d.tail[1:]
	}
	d.mu.Unlock()
	var entry struct {
		Message string `json:"@message"`
		Address string `json:"address"`
	}
	if json.Unmarshal([]byte(line), &entry) != nil {
		return // a diagnostic, which is for people
	}
	select {
	case <-d.ready:
		return // all that was to be learned is known
	default:
	}
	switch entry.Message {
	case "listening":
		d.proxy = entry.Address
	case "ready":
		close(d.ready)
	}
}

func (d *daemon) await(ctx context.Context) error {
	timer := time.NewTimer(startLimit)
	defer timer.Stop()
	select {
	case <-d.ready:
		if d.proxy == "" {
			return fmt.Errorf("khelpd is ready, but does not say where it listens\n%s", d.lastWords())
		}
		return nil
	case <-d.exited:
		return fmt.Errorf("khelpd ended before it was ready: %s\n%s", d.cmd.ProcessState, d.lastWords())
	case <-timer.C:
		return fmt.Errorf("khelpd is not ready after %v\n%s", startLimit, d.lastWords())
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (d *daemon) pid() int { return d.cmd.Process.Pid }

// lastWords returns the end of the log.
func (d *daemon) lastWords() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.tail) == 0 {
		return "khelpd logged nothing"
	}
	return "the end of khelpd's log:\n\t" + strings.Join(d.tail, "\n\t")
}

// stop sends SIGTERM, waits for the end, and returns the exit code.
func (d *daemon) stop(ctx context.Context) (int, error) {
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return 0, fmt.Errorf("khelpd cannot be told to end: %w", err)
	}
	timer := time.NewTimer(stopLimit)
	defer timer.Stop()
	select {
	case <-d.exited:
		return d.cmd.ProcessState.ExitCode(), nil
	case <-timer.C:
		return 0, fmt.Errorf("khelpd has not ended %v after SIGTERM", stopLimit)
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// kill ends khelpd whatever state it is in, in order if it is quick enough. Helpers end with it. It does nothing if khelpd has ended.
func (d *daemon) kill() {
	if _, err := d.stop(context.Background()); err != nil && !errors.Is(err, os.ErrProcessDone) {
		_ = d.cmd.Process.Kill() // fails if it has just ended
	}
	<-d.exited
}

// command runs a command of khelpd that talks to the daemon, and returns what it prints.
func (d *daemon) command(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, d.program, append(args, "--socket", d.socket)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("khelpd %s: %w\n%s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

// state asks for everything as JSON.
func (d *daemon) state(ctx context.Context) (*state, error) {
	st := &state{}
	// Each command fills in its own part.
	for _, verb := range []string{"stat", "objects", "hooks"} {
		out, err := d.command(ctx, verb, "-o", "json")
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(out, st); err != nil {
			return nil, fmt.Errorf("khelpd %s -o json: %w", verb, err)
		}
	}
	return st, nil
}

// socketsLeft counts what should be gone with khelpd: everything in its folder but the configuration, and its open port.
func (d *daemon) socketsLeft(ctx context.Context) int {
	n := 0
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		n++ // cannot tell; the caller looks again
	}
	for _, e := range entries {
		if e.Name() != configName {
			n++
		}
	}
	if c, err := new(net.Dialer).DialContext(ctx, "tcp", d.proxy); err == nil {
		_ = c.Close()
		n++
	}
	return n
}

// quoteHCL writes a string as HCL does, without templates in it.
func quoteHCL(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "${", "$${", "%{", "%%{").Replace(s) + `"`
}

func executable(name string) string {
	if runtime.GOOS == "windows" {
		return name + ".exe"
	}
	return name
}
