package launch

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain is also the helper: the test binary started as "<binary> helper MODE [ARG...]" becomes one.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "helper" {
		helperMain(os.Args[2], os.Args[3:])
		os.Exit(0)
	}
	before := openFiles()
	code := m.Run()
	if code == 0 {
		code = checkLeaks(before)
	}
	os.Exit(code)
}

// checkLeaks fails on goroutines, file descriptors and child processes that outlive the tests.
func checkLeaks(before map[string]int) int {
	if err := goleak.Find(goleak.IgnoreAnyFunction(LauncherGoroutine)); err != nil {
		fmt.Fprintln(os.Stderr, "goroutines leaked:", err)
		return 1
	}
	for target, n := range openFiles() {
		if strings.Contains(target, "anon_inode") { // the runtime's poller and pidfd probes, opened once
			continue
		}
		if n > before[target] {
			fmt.Fprintln(os.Stderr, "file descriptor leaked:", target)
			return 1
		}
	}
	if children := childProcesses(os.Getpid()); len(children) > 0 {
		fmt.Fprintln(os.Stderr, "child processes leaked:", children)
		return 1
	}
	return 0
}

// openFiles counts the open descriptors by what they refer to.
func openFiles() map[string]int {
	open := map[string]int{}
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, entry := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + entry.Name()); err == nil && !strings.HasPrefix(target, "/proc/") {
			open[target]++
		}
	}
	return open
}

// childProcesses returns the children of a process, zombies too.
func childProcesses(parent int) []string {
	var children []string
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, stat := range stats {
		if fields := statFields(stat); len(fields) > 1 && fields[1] == fmt.Sprint(parent) {
			children = append(children, filepath.Base(filepath.Dir(stat)))
		}
	}
	return children
}

// statFields returns the fields of /proc/PID/stat from the state on.
func statFields(path string) []string {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
}

// gone reports whether a process has ended; a zombie that nobody reaps has.
func gone(pid int) bool {
	fields := statFields(fmt.Sprintf("/proc/%d/stat", pid))
	return len(fields) == 0 || fields[0] == "Z" || fields[0] == "X"
}

// eventually polls cond until it holds, and fails the test after a generous while.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline.C:
			t.Fatalf("not within 20 s: %s", what)
		case <-tick.C:
		}
	}
}

// find returns the first record with this message.
func (b *logBook) find(t *testing.T, message string) (record, bool) {
	t.Helper()
	for _, r := range b.records(t) {
		if r.Message == message {
			return r, true
		}
	}
	return record{}, false
}
