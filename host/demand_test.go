package host_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/helper"
)

// onDemand configures helpers by name, to be loaded on demand.
func (f *fixture) onDemand(names ...string) {
	f.t.Helper()
	specs := make([]shared.HelperSpec, len(names))
	for i, name := range names {
		specs[i] = shared.HelperSpec{Name: name, Load: shared.LoadDemand}
	}
	if err := f.Configure(context.Background(), specs); err != nil {
		f.t.Fatal(err)
	}
}

// tally is a helper without data on objects that counts its calls, and takes its time to initialise itself.
type tally struct {
	inits, calls atomic.Int64
	initTakes    atomic.Int64 // a time.Duration
	initFails    atomic.Bool
}

func (c *tally) helper(name string, points ...shared.HookPoint) helper.Helper[struct{}] {
	hooks := helper.Hooks[struct{}]{}
	for _, p := range points {
		hooks[p] = func(context.Context, *helper.Call, *struct{}) error { c.calls.Add(1); return nil }
	}
	return helper.Helper[struct{}]{
		Name: name, Version: "1.0.0", Hooks: hooks,
		Init: func(ctx context.Context, _ *helper.Host) error {
			c.inits.Add(1)
			select {
			case <-time.After(time.Duration(c.initTakes.Load())):
			case <-ctx.Done():
				return ctx.Err()
			}
			if c.initFails.Load() {
				return shared.ErrInvalid.Errorf("the moon is full")
			}
			return nil
		},
	}
}

// run runs a head that must be free of errors.
func run(t testing.TB, head *hhook.Head) hhook.Verdict {
	t.Helper()
	v, err := head.Run(context.Background(), nil, []byte("x"))
	if err != nil {
		t.Error(err)
	}
	return v
}

// counts returns the counts of a helper's hook on a head, which must have one.
func countsOn(t testing.TB, head *hhook.Head, name string) hhook.Counts {
	t.Helper()
	var found []*hhook.Hook
	for _, hook := range head.Hooks() {
		if hook.Helper == name {
			found = append(found, hook)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s has %d hooks on %s", name, len(found), head.Point())
	}
	return found[0].Stats().Read()
}

func TestL18_TheFirstRunLoads(t *testing.T) {
	for what, opts := range map[string]hhook.Options{"observe": {}, "filter": {Kind: hhook.Filter}, "async": {Async: true}} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				f := bubbleFixture(t, host.Config{})
				early := head(t, f.Host, "p.early", opts)
				other := head(t, f.Host, "p.other", opts)
				var a tally
				hosttest.Put(f.path, a.helper("a", "p.early", "p.late"))
				f.onDemand("a")
				late := head(t, f.Host, "p.late", opts)
				if n := f.path.Starts("a"); n != 1 || a.inits.Load() != 0 || f.isLoaded("a") {
					t.Errorf("configuring it has started it %d times, initialised %d times", n, a.inits.Load())
				}
				if !early.Enabled() || !late.Enabled() || other.Enabled() {
					t.Errorf("enabled: %v, %v, %v", early.Enabled(), late.Enabled(), other.Enabled())
				}
				a.initTakes.Store(int64(500 * time.Millisecond))
				began := time.Now()
				if v := run(t, late); v.Rejected {
					t.Errorf("%+v", v)
				}
				if d := time.Since(began); d != 500*time.Millisecond {
					t.Errorf("the first run took %v", d)
				}
				run(t, early)
				after(0)
				if a.calls.Load() != 2 || a.inits.Load() != 1 || f.path.Starts("a") != 2 {
					t.Errorf("%d calls, %d inits, %d starts", a.calls.Load(), a.inits.Load(), f.path.Starts("a"))
				}
				st := f.helper("a")
				if st.Committed != 2 || st.Calls != 2 || st.Skipped != 0 || !st.Autoloaded || st.Source != shared.SourceFilesys {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

// TestL18_ConcurrentFirstRuns: they load once, and none is lost.
func TestL18_ConcurrentFirstRuns(t *testing.T) {
	for _, async := range []bool{false, true} {
		t.Run(fmt.Sprint("async=", async), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				f := bubbleFixture(t, host.Config{})
				edge, err := f.Vnet("edge")
				if err != nil {
					t.Fatal(err)
				}
				opts := hhook.Options{Async: async}
				h1 := head(t, f.Host, "p.x", opts)
				h2, err := edge.RegisterHead("p.x", opts)
				if err != nil {
					t.Fatal(err)
				}
				var a, b tally
				hosttest.Put(f.path, a.helper("a", "p.x"))
				hosttest.Put(f.path, b.helper("b", "p.x"))
				f.onDemand("b", "a")
				a.initTakes.Store(int64(300 * time.Millisecond))
				b.initTakes.Store(int64(100 * time.Millisecond))
				var wg sync.WaitGroup
				for _, h := range []*hhook.Head{h1, h2} {
					if got := order(h); got != "b a" {
						t.Errorf("%q stand in", got)
					}
					for range 50 {
						wg.Go(func() { run(t, h) })
					}
				}
				wg.Wait()
				after(0)
				for name, c := range map[string]*tally{"a": &a, "b": &b} {
					if c.calls.Load() != 100 || c.inits.Load() != 1 {
						t.Errorf("%s: %d calls, %d inits", name, c.calls.Load(), c.inits.Load())
					}
					for _, h := range []*hhook.Head{h1, h2} {
						if n := countsOn(t, h, name); n.Committed != 50 || n.Calls != 50 {
							t.Errorf("%s%s: %+v", name, h.In(), n)
						}
					}
				}
			})
		})
	}
}

// TestH11_LoadsWithinTheBudget: a run waits for a load no longer than its budget; then the hook is missed because it is starting, as the
// operator chose.
func TestH11_LoadsWithinTheBudget(t *testing.T) {
	for _, c := range []struct {
		what   string
		opts   hhook.Options
		policy shared.Action
		reject bool
	}{
		{"filter", hhook.Options{Kind: hhook.Filter}, "", true},
		{"filter open", hhook.Options{Kind: hhook.Filter}, shared.Open, false},
		{"observe", hhook.Options{}, "", false},
		{"async", hhook.Options{Async: true}, "", false},
	} {
		t.Run(c.what, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				f := bubbleFixture(t, host.Config{})
				c.opts.Budget = 200 * time.Millisecond
				head := head(t, f.Host, "p.x", c.opts)
				var a tally
				hosttest.Put(f.path, a.helper("a", "p.x"))
				err := f.Configure(t.Context(), []shared.HelperSpec{{Name: "a", Load: shared.LoadDemand, OnFailure: c.policy}})
				if err != nil {
					t.Fatal(err)
				}
				a.initTakes.Store(int64(time.Second))
				began := time.Now()
				v := run(t, head)
				if d := time.Since(began); d != 200*time.Millisecond {
					t.Errorf("it took %v", d)
				}
				if v.Rejected != c.reject || c.reject && (v.Cause != shared.CauseStarting || v.Helper != "a") {
					t.Errorf("%+v", v)
				}
				after(800 * time.Millisecond)
				if v := run(t, head); v.Rejected {
					t.Errorf("when it is loaded: %+v", v)
				}
				after(0)
				n := countsOn(t, head, "a")
				if n.Calls != 2 || n.Committed != 1 || n.Missed[shared.CauseStarting] != 1 || a.inits.Load() != 1 {
					t.Errorf("%+v, %d inits", n, a.inits.Load())
				}
			})
		})
	}
}

// TestL18_FailedLoads: the caller gets to know, the operator's log has no error, and whoever comes soon after does not have it tried again.
func TestL18_FailedLoads(t *testing.T) {
	for _, c := range []struct {
		what   string
		opts   hhook.Options
		policy shared.Action
		reject bool
	}{
		{"filter", hhook.Options{Kind: hhook.Filter}, "", true},
		{"filter open", hhook.Options{Kind: hhook.Filter}, shared.Open, false},
		{"observe closed", hhook.Options{}, shared.Closed, false},
		{"async", hhook.Options{Async: true}, "", false},
	} {
		t.Run(c.what, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				log := &logBuffer{}
				f := bubbleFixture(t, host.Config{Logger: log.logger()})
				head := head(t, f.Host, "p.x", c.opts)
				var a tally
				hosttest.Put(f.path, a.helper("a", "p.x"))
				err := f.Configure(t.Context(), []shared.HelperSpec{{Name: "a", Load: shared.LoadDemand, OnFailure: c.policy}})
				if err != nil {
					t.Fatal(err)
				}
				a.initFails.Store(true)
				for range 5 {
					v := run(t, head)
					if v.Rejected != c.reject {
						t.Errorf("%+v", v)
					}
					if c.reject && (v.Cause != shared.CauseNotLoaded || !strings.Contains(v.Reason, "the moon is full")) {
						t.Errorf("%+v", v)
					}
				}
				if n := a.inits.Load(); n != 1 {
					t.Errorf("tried %d times at once", n)
				}
				tries := int64(1)
				for _, n := range []int{1, 2, 4, 8, 16, 30, 30} {
					wait := seconds(n)
					after(wait - 1)
					run(t, head)
					if n := a.inits.Load(); n != tries {
						t.Fatalf("tried again within %v", wait)
					}
					after(1)
					run(t, head)
					if tries++; a.inits.Load() != tries {
						t.Fatalf("not tried again after %v", wait)
					}
				}
				if text := log.String(); strings.Contains(text, "[ERROR]") || strings.Contains(text, "[WARN]") {
					t.Errorf("the operator is told:\n%s", text)
				}
				a.initFails.Store(false)
				after(30 * time.Second)
				run(t, head)
				after(0)
				n := countsOn(t, head, "a")
				if a.calls.Load() != 1 || n.Committed != 1 || n.Missed[shared.CauseNotLoaded] != 5+2*7 {
					t.Errorf("%d calls, %+v", a.calls.Load(), n)
				}
			})
		})
	}
}

// TestL18_WhatCannotBeDescribed is an error of Configure, and costs the others nothing.
func TestL18_WhatCannotBeDescribed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := bubbleFixture(t, host.Config{StartTimeout: time.Second})
		head := head(t, f.Host, "p.x", hhook.Options{})
		var a tally
		hosttest.Put(f.path, a.helper("a", "p.x"))
		err := f.Configure(t.Context(), []shared.HelperSpec{
			{Name: "nobody", Load: shared.LoadDemand},
			{Name: "a", Load: shared.LoadDemand},
			{Name: "a2", Load: shared.LoadManual},
		})
		wantErr(t, err, shared.ErrNotExist, "nobody: ")
		run(t, head)
		if a.calls.Load() != 1 {
			t.Errorf("%d calls", a.calls.Load())
		}
		wantErr(t, f.Configure(t.Context(), []shared.HelperSpec{{Name: "a", Load: shared.LoadDemand, Version: "~> 2.0"}}),
			shared.ErrIncompatible, "a: ")
	})
}
