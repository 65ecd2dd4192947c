//go:build unix

package main

import (
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
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/khelp/khelp/host/hosttest/testkit"
)

// The commands that scripts have beside those of testscript.

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

// sigterm, sighup: send a signal to what runs in the background.
func cmdSignal(sig syscall.Signal) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, _ bool, _ []string) {
		cmds := ts.BackgroundCmds()
		if len(cmds) == 0 {
			ts.Fatalf("nothing runs in the background")
		}
		for _, cmd := range cmds {
			ts.Check(cmd.Process.Signal(sig))
		}
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
		if err := conn.SetDeadline(time.Now().Add(testkit.Patience)); err != nil {
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
		ts.Check(conn.SetDeadline(time.Now().Add(testkit.Patience)))
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

// notified REGEXP: waits for a message to the service manager, which must be the next and match as a whole.
func cmdNotified(ts *testscript.TestScript, _ bool, args []string) {
	buf := make([]byte, 4096)
	conn := worldOf(ts).notify
	ts.Check(conn.SetReadDeadline(time.Now().Add(testkit.Patience)))
	n, err := conn.Read(buf)
	ts.Check(err)
	if got := string(buf[:n]); !regexp.MustCompile("^(?:" + args[0] + ")$").MatchString(got) {
		ts.Fatalf("the service manager was told %q, want %q", got, args[0])
	}
}

// noprocesses: waits until no helper of the script runs.
func cmdNoprocesses(ts *testscript.TestScript, _ bool, _ []string) {
	awaitNoProcesses(ts.Fatalf, ts.Getenv("WORK"))
}

// killhelper NAME: kill -9.
func cmdKillhelper(ts *testscript.TestScript, _ bool, args []string) {
	for _, pid := range helperPIDs(ts, args[0]) {
		ts.Check(syscall.Kill(pid, syscall.SIGKILL))
	}
}

// inherits HELPER FD: the descriptor is open in what runs in the background, and with ! it is not in the helper.
func cmdInherits(ts *testscript.TestScript, neg bool, args []string) {
	open := func(pid int, fd string) bool {
		_, err := os.Lstat(fmt.Sprintf("/proc/%d/fd/%s", pid, fd))
		return err == nil
	}
	for _, cmd := range ts.BackgroundCmds() {
		if !open(cmd.Process.Pid, args[1]) {
			ts.Fatalf("the daemon itself has no descriptor %s", args[1])
		}
	}
	pids := helperPIDs(ts, args[0])
	for _, pid := range pids {
		if !open(pid, "1") {
			ts.Fatalf("the descriptors of %s cannot be seen", args[0])
		}
		if open(pid, args[1]) == neg {
			ts.Fatalf("descriptor %s in %s: open is %v", args[1], args[0], neg)
		}
	}
}

// helperPIDs finds the processes of a helper, one at least.
func helperPIDs(ts *testscript.TestScript, name string) []int {
	var pids []int
	for pid, cmdline := range processesUnder(ts.Getenv("HELPERS")) {
		if program, _, _ := strings.Cut(cmdline, " "); filepath.Base(program) == name {
			pids = append(pids, pid)
		}
	}
	if len(pids) == 0 {
		ts.Fatalf("no process %s", name)
	}
	return pids
}

// eventually polls until check is content, or reports what it last said.
func eventually(fail func(string, ...any), what string, check func() error) {
	if err := testkit.Poll(check); err != nil {
		fail("waiting for %s: %v", what, err)
	}
}
