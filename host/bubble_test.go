package host_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/shared/helper"
)

// inBubble runs a test whose clock stands still while anybody does something.
func inBubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// plenty is a reading of memory that is no pressure.
func plenty() (host.Memory, error) { return host.Memory{Available: 1 << 30, Total: 1 << 30}, nil }

// bubbleFixture is a fixture on a machine with memory enough.
func bubbleFixture(t testing.TB, cfg host.Config) *fixture {
	t.Helper()
	if cfg.Memory == nil {
		cfg.Memory = plenty
	}
	return newFixture(t, cfg)
}

// takes is how long something takes in a bubble, where no time is lost.
func takes(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // the clock of a bubble
}

// after lets time go by and what is to happen then.
func after(d time.Duration) {
	takes(d)
	synctest.Wait()
}

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }

// isLoaded reports whether a helper is in the registry.
func (f *fixture) isLoaded(name string) bool {
	_, err := f.ID(name)
	return err == nil
}

// autoload has a helper loaded as the requirement of another, which it unloads again, and returns when that was.
func (f *fixture) autoload(names ...string) time.Time {
	f.t.Helper()
	hosttest.Put(f.path, helper.Helper[struct{}]{Name: "asker", Version: "1.0.0", Requires: names})
	if err := f.load("asker"); err != nil {
		f.t.Fatal(err)
	}
	if err := f.Unload(context.Background(), "asker", host.UnloadOptions{}); err != nil {
		f.t.Fatal(err)
	}
	return time.Now()
}
