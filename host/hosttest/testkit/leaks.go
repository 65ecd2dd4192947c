package testkit

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// leakPatience is how long what is about to end may take to do so.
const leakPatience = 10 * time.Second

// launcher is the one goroutine that lives as long as the program: its thread is the parent of all helpers.
const launcher = "github.com/khelp/khelp/host/internal/launch.launcherLoop"

// scene is what a process has around it at one time.
type scene struct {
	goroutines goleak.Option
	files      map[string]int // open descriptors and shared memory, by what they refer to
	processes  map[int]string // what it has started, by process id
	temp       []string       // temporary files, if the directory is its own
}

// CheckLeaks fails the test if it leaves goroutines, file descriptors, shared memory or processes behind, or temporary files under Main.
// What is there now may stay. It is called before anything else is made, so that its check comes last, and not beside other tests that
// run in parallel. A test that fails otherwise is not checked.
func CheckLeaks(t testing.TB) {
	t.Helper()
	checkLeaks(t, leakPatience)
}

func checkLeaks(t testing.TB, patience time.Duration) {
	t.Helper()
	before := look()
	before.goroutines = goleak.IgnoreCurrent()
	t.Cleanup(func() {
		if t.Failed() {
			return
		}
		if err := before.settle(patience); err != nil {
			t.Error("the test leaves something behind: ", err)
		}
	})
}

// look takes a scene, goroutines aside.
func look() scene {
	wakePoller()
	return scene{files: openFiles(), processes: processes(), temp: tempFiles()}
}

// settle waits until nothing is left that was not there before.
func (before scene) settle(patience time.Duration) error {
	opts := []goleak.Option{goleak.IgnoreAnyFunction(launcher)}
	if before.goroutines != nil {
		opts = append(opts, before.goroutines)
	}
	if err := poll(patience, func() error { return goleak.Find(opts...) }); err != nil {
		return err // whoever still runs explains the rest
	}
	first := true
	return poll(patience, func() error {
		if !first {
			runtime.GC() // package net leaves the pipes of its splicing to it
		}
		first = false
		return before.left()
	})
}

// left names everything that was not there before.
func (before scene) left() error {
	var errs []error
	now := look()
	for name, n := range now.files {
		if more := n - before.files[name]; more > 0 {
			errs = append(errs, fmt.Errorf("open: %s (%d)", describeFile(name), more))
		}
	}
	for pid, name := range now.processes {
		if _, old := before.processes[pid]; !old {
			errs = append(errs, fmt.Errorf("process %d: %s", pid, name))
		}
	}
	for _, name := range now.temp {
		if !slices.Contains(before.temp, name) {
			errs = append(errs, fmt.Errorf("temporary file: %s", name))
		}
	}
	return errors.Join(errs...)
}

// tempFiles lists the directory for temporary files, if nobody else makes any there.
func tempFiles() []string {
	if own.temp == "" {
		return nil
	}
	entries, err := os.ReadDir(own.temp)
	if err != nil {
		return []string{err.Error()}
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

// wakePoller makes the runtime open the descriptors of its network poller, which it keeps.
func wakePoller() {
	if r, w, err := os.Pipe(); err == nil {
		_ = r.Close()
		_ = w.Close()
	}
}
