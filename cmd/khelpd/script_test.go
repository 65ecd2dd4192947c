//go:build unix

package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
)

// patience is how long a script waits for what ought to happen; only a bug takes that long.
const patience = 30 * time.Second

// leakChecked runs the tests and then looks for goroutines and processes that are left.
type leakChecked struct{ m *testing.M }

func (l leakChecked) Run() int {
	code := l.m.Run()
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	if _, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); !errors.Is(err, syscall.ECHILD) {
		fmt.Fprintln(os.Stderr, "a child process is left")
		code = max(code, 1)
	}
	return code
}

func TestMain(m *testing.M) { testscript.Main(leakChecked{m}, programs) }

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		Setup:               setup,
		RequireExplicitExec: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exit":     cmdExit,
			"waitfor":  cmdWaitfor,
			"sigterm":  cmdSigterm,
			"connect":  cmdConnect,
			"exchange": cmdExchange,
			"hangup":   cmdHangup,
			"refused":  cmdRefused,
			"rejected": cmdRejected,
			"listens":  cmdListens,
			"setsum":   cmdSetsum,
			"setenv":   cmdSetenv,
			"notified": cmdNotified,

			"killhelper":  cmdKillhelper,
			"noprocesses": cmdNoprocesses,
		},
	})
}

// world is what a script has around it.
type world struct {
	notify *net.UnixConn // NOTIFY_SOCKET

	mu    sync.Mutex // protects the following fields
	conns map[string]net.Conn
}

type worldKey struct{}

func worldOf(ts *testscript.TestScript) *world {
	w, ok := ts.Value(worldKey{}).(*world)
	if !ok {
		ts.Fatalf("setup has not run")
	}
	return w
}

// setup gives a script an echo server, a helper path of its own, a place for temporary files and a service manager's ear, and checks
// in the end that nothing of it is left.
func setup(env *testscript.Env) error {
	t, ok := env.T().(interface {
		Errorf(format string, args ...any)
		Failed() bool
	})
	if !ok {
		return fmt.Errorf("%T is no test", env.T())
	}
	khelpd, err := exec.LookPath("khelpd")
	if err != nil {
		return err
	}
	helpers, tmp := filepath.Join(env.WorkDir, "helpers"), filepath.Join(env.WorkDir, "tmp")
	for _, dir := range []string{helpers, tmp} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	for _, name := range helperNames {
		// Under a path of its own a helper that outlives its daemon can be told from those of other scripts.
		if err := link(filepath.Join(filepath.Dir(khelpd), name), filepath.Join(helpers, name)); err != nil {
			return err
		}
	}
	w := &world{conns: map[string]net.Conn{}}
	echo, err := startEcho()
	if err != nil {
		return err
	}
	notify := filepath.Join(env.WorkDir, "n.sock")
	if w.notify, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notify, Net: "unixgram"}); err != nil {
		return err
	}
	env.Values[worldKey{}] = w
	env.Setenv("HELPERS", helpers)
	env.Setenv("TMPDIR", tmp)
	env.Setenv("ECHO", echo.Addr().String())
	env.Setenv("KHELPD_SOCKET", filepath.Join(env.WorkDir, "k.sock"))
	env.Setenv("NOTIFY", notify)
	env.Setenv("GORACE", "atexit_sleep_ms=0") // or every program takes a second to exit under the race detector
	env.Defer(func() {
		for _, c := range w.conns {
			_ = c.Close()
		}
		_ = w.notify.Close()
		echo.stop()
		if t.Failed() {
			return // the script's daemon is still there; it is killed after this
		}
		awaitNoProcesses(t.Errorf, env.WorkDir)
		if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
			t.Errorf("temporary files are left: %v, %v", left, err)
		}
	})
	return nil
}

func link(from, to string) error {
	if os.Link(from, to) == nil {
		return nil
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}

// processesUnder finds the processes whose program lies in a directory, with their command lines, where /proc tells.
func processesUnder(dir string) map[int]string {
	found := map[int]string{}
	entries, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, e := range entries {
		cmdline, err := os.ReadFile(e)
		if err != nil || !bytes.HasPrefix(cmdline, []byte(dir+"/")) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(e))); err == nil {
			found[pid] = strings.ReplaceAll(string(cmdline), "\x00", " ")
		}
	}
	return found
}

func awaitNoProcesses(fail func(string, ...any), dir string) {
	eventually(fail, "all processes of the script to end", func() error {
		if left := processesUnder(dir); len(left) > 0 {
			return fmt.Errorf("left: %v", left)
		}
		return nil
	})
}

// noprocesses: waits until no helper of the script runs.
func cmdNoprocesses(ts *testscript.TestScript, _ bool, _ []string) {
	awaitNoProcesses(ts.Fatalf, ts.Getenv("WORK"))
}

// killhelper NAME: kill -9.
func cmdKillhelper(ts *testscript.TestScript, _ bool, args []string) {
	killed := 0
	for pid, cmdline := range processesUnder(ts.Getenv("HELPERS")) {
		if program, _, _ := strings.Cut(cmdline, " "); filepath.Base(program) == args[0] {
			ts.Check(syscall.Kill(pid, syscall.SIGKILL))
			killed++
		}
	}
	if killed == 0 {
		ts.Fatalf("no process %s", args[0])
	}
}

// eventually polls until check is content, or reports what it last said.
func eventually(fail func(string, ...any), what string, check func() error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			fail("timed out waiting for %s: %v", what, err)
			return
		}
	}
}

// echoServer sends back what it gets.
type echoServer struct {
	net.Listener
	wg sync.WaitGroup
}

func startEcho() (*echoServer, error) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	e := &echoServer{Listener: lis}
	e.wg.Go(func() {
		for {
			conn, err := lis.Accept()
			if err != nil {
				return
			}
			e.wg.Go(func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			})
		}
	})
	return e, nil
}

// stop waits for the connections to end, which they do when khelpd has.
func (e *echoServer) stop() {
	_ = e.Close()
	e.wg.Wait()
}

// exit CODE PROGRAM ARGS...: runs a program that must end with the code. CODE 0 is for commands that must succeed with nothing on
// stderr.
func cmdExit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exit CODE PROGRAM ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code is %d, want %d", got, want)
	}
	if got == 0 && ts.ReadFile("stderr") != "" {
		ts.Fatalf("success with something on stderr")
	}
}

// waitfor REGEXP PROGRAM ARGS...: runs the program until it succeeds and its output matches.
func cmdWaitfor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: waitfor REGEXP PROGRAM ARGS...")
	}
	re, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	eventually(ts.Fatalf, args[0], func() error {
		if err := ts.Exec(args[1], args[2:]...); err != nil {
			return err
		}
		if !re.MatchString(ts.ReadFile("stdout")) {
			return errors.New("no match")
		}
		return nil
	})
}

// sigterm: sends SIGTERM to what runs in the background.
func cmdSigterm(ts *testscript.TestScript, _ bool, _ []string) {
	cmds := ts.BackgroundCmds()
	if len(cmds) == 0 {
		ts.Fatalf("nothing runs in the background")
	}
	for _, cmd := range cmds {
		ts.Check(cmd.Process.Signal(syscall.SIGTERM))
	}
}

// connect NAME ADDRESS: opens a connection and keeps it under the name.
func cmdConnect(ts *testscript.TestScript, _ bool, args []string) {
	conn, err := net.Dial("tcp", args[1])
	ts.Check(err)
	w := worldOf(ts)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns[args[0]] = conn
}

// exchange NAME TEXT: sends the text and waits for it to come back. With ! the connection must be broken.
func cmdExchange(ts *testscript.TestScript, neg bool, args []string) {
	w := worldOf(ts)
	w.mu.Lock()
	conn := w.conns[args[0]]
	w.mu.Unlock()
	if conn == nil {
		ts.Fatalf("no connection %s", args[0])
	}
	err := func() error {
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		if _, err := io.WriteString(conn, args[1]); err != nil {
			return err
		}
		got := make([]byte, len(args[1]))
		if _, err := io.ReadFull(conn, got); err != nil {
			return err
		}
		if string(got) != args[1] {
			return fmt.Errorf("sent %q, got %q", args[1], got)
		}
		return nil
	}()
	switch {
	case neg && err == nil:
		ts.Fatalf("the connection still works")
	case neg && errors.Is(err, os.ErrDeadlineExceeded):
		ts.Fatalf("the connection stalls: %v", err)
	case !neg:
		ts.Check(err)
	}
}

// hangup NAME: closes a connection.
func cmdHangup(ts *testscript.TestScript, _ bool, args []string) {
	w := worldOf(ts)
	w.mu.Lock()
	defer w.mu.Unlock()
	ts.Check(w.conns[args[0]].Close())
	delete(w.conns, args[0])
}

// rejected ADDRESS: connects and must be turned away.
func cmdRejected(ts *testscript.TestScript, _ bool, args []string) {
	conn, err := net.Dial("tcp", args[0])
	if err == nil {
		defer conn.Close()
		ts.Check(conn.SetDeadline(time.Now().Add(patience)))
		_, err = conn.Read(make([]byte, 1))
	}
	// A reset may come so early that connecting ends with it.
	if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.EOF) {
		ts.Fatalf("not turned away: %v", err)
	}
}

// refused ADDRESS: waits until nobody listens there.
func cmdRefused(ts *testscript.TestScript, _ bool, args []string) {
	eventually(ts.Fatalf, args[0]+" to be closed", func() error {
		conn, err := net.Dial("tcp", args[0])
		switch {
		case errors.Is(err, syscall.ECONNREFUSED):
			return nil
		case err == nil:
			return errors.Join(errors.New("still open"), conn.Close())
		}
		return fmt.Errorf("still open: %w", err)
	})
}

// listens VAR NAME: waits until the file log tells the address of a tcp block, and puts it into VAR.
func cmdListens(ts *testscript.TestScript, _ bool, args []string) {
	re := regexp.MustCompile(`listening: tcp="?` + regexp.QuoteMeta(args[1]) + `"? address=(\S+)`)
	eventually(ts.Fatalf, "the address of "+args[1], func() error {
		log, err := os.ReadFile(ts.MkAbs("log"))
		if err != nil {
			return err
		}
		m := re.FindStringSubmatch(string(log))
		if m == nil {
			return errors.New("not in the log")
		}
		ts.Setenv(args[0], m[1])
		return nil
	})
}

// setsum VAR FILE: puts a file's SHA-256 into VAR.
func cmdSetsum(ts *testscript.TestScript, _ bool, args []string) {
	data, err := os.ReadFile(args[1])
	ts.Check(err)
	ts.Setenv(args[0], fmt.Sprintf("%x", sha256.Sum256(data)))
}

// setenv VAR FILE: puts a file's text into VAR, as soon as there is any.
func cmdSetenv(ts *testscript.TestScript, _ bool, args []string) {
	eventually(ts.Fatalf, args[1], func() error {
		data, err := os.ReadFile(ts.MkAbs(args[1]))
		if err == nil && len(data) == 0 {
			err = errors.New("empty")
		}
		ts.Setenv(args[0], string(data))
		return err
	})
}

// notified STATE: waits for a message to the service manager, which must be the next.
func cmdNotified(ts *testscript.TestScript, _ bool, args []string) {
	buf := make([]byte, 4096)
	conn := worldOf(ts).notify
	ts.Check(conn.SetReadDeadline(time.Now().Add(patience)))
	n, err := conn.Read(buf)
	ts.Check(err)
	if got := string(buf[:n]); got != args[0] {
		ts.Fatalf("the service manager was told %q, want %q", got, args[0])
	}
}
