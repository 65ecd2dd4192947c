package host_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/helper"
)

func TestL16_LeavesAfterItsTime(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := bubbleFixture(t, host.Config{})
		f.put("a")
		f.put("byhand")
		f.configure("a", "byhand")
		if err := f.load("byhand"); err != nil {
			t.Fatal(err)
		}
		since := f.autoload("a")
		if at := f.helper("a").AutounloadAt; !at.Equal(since.Add(10 * time.Second)) {
			t.Errorf("autounload at %v, want %v", at, since.Add(10*time.Second))
		}
		if at := f.helper("byhand").AutounloadAt; !at.IsZero() {
			t.Errorf("what was loaded by hand is to leave at %v", at)
		}
		after(10*time.Second - time.Millisecond)
		if !f.isLoaded("a") {
			t.Error("it has left too early")
		}
		after(time.Millisecond)
		if f.isLoaded("a") {
			t.Error("it has not left")
		}
		after(time.Hour)
		if got := f.states(); got != "byhand=active" {
			t.Errorf("%s", got)
		}
	})
}

func TestL16_Votes(t *testing.T) {
	for _, c := range []struct {
		what   string
		vote   func(context.Context) error
		leaves bool
	}{
		{"yes", func(context.Context) error { return nil }, true},
		{"no opinion", func(context.Context) error { return helper.NoOpinion }, true},
		{"no function", nil, true},
		{"no answer", func(ctx context.Context) error { <-ctx.Done(); return nil }, true},
		{"no", func(context.Context) error { return errors.New("a warm cache") }, false},
	} {
		for _, policy := range []shared.AutounloadPolicy{"", shared.AutounloadOnce, shared.AutounloadNever} {
			t.Run(c.what+" "+string(policy), func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					log := &logBuffer{}
					f := bubbleFixture(t, host.Config{Logger: log.logger()})
					var asked atomic.Int32
					a := helper.Helper[struct{}]{Name: "a", Version: "1.0.0"}
					if c.vote != nil {
						a.Autounload = func(ctx context.Context) error { asked.Add(1); return c.vote(ctx) }
					}
					hosttest.Put(f.path, a)
					err := f.Configure(t.Context(), []shared.HelperSpec{{
						Name: "a", Load: shared.LoadManual, Autounload: policy, AutounloadAfter: 3 * time.Second,
					}})
					if err != nil {
						t.Fatal(err)
					}
					f.autoload("a")
					after(20 * time.Second)
					want := int32(6) // every three seconds
					switch {
					case policy == shared.AutounloadNever:
						want = 0
					case policy == shared.AutounloadOnce || c.leaves:
						want = 1
					}
					if c.vote != nil && asked.Load() != want {
						t.Errorf("asked %d times, want %d", asked.Load(), want)
					}
					if leaves := c.leaves && policy != shared.AutounloadNever; f.isLoaded("a") == leaves {
						t.Errorf("loaded: %v", !leaves)
					}
					if !c.leaves && want > 0 && !strings.Contains(log.String(), "a warm cache") {
						t.Errorf("the reason is not logged:\n%s", log)
					}
				})
			})
		}
	}
}

func TestL16_ReferencesWin(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := bubbleFixture(t, host.Config{})
		hosttest.Put(f.path, counting()) // follows objects
		f.put("dependant", "counting")
		f.configure("counting", "dependant")
		f.autoload("counting")
		o := object(t, f.Host, "tcp")
		after(time.Minute)
		if st := f.helper("counting"); st.Refs != 1 || !st.AutounloadAt.IsZero() {
			t.Errorf("held by an object: %+v", st)
		}
		if err := f.Hold("counting"); err != nil {
			t.Fatal(err)
		}
		destroy(t, o)
		after(time.Minute)
		if !f.isLoaded("counting") {
			t.Fatal("it has left though it was held")
		}
		if err := f.load("dependant"); err != nil {
			t.Fatal(err)
		}
		if err := f.Rele("counting"); err != nil {
			t.Fatal(err)
		}
		after(time.Minute)
		if !f.isLoaded("counting") {
			t.Fatal("it has left though it is required")
		}
		if err := f.Unload(t.Context(), "dependant", host.UnloadOptions{}); err != nil {
			t.Fatal(err)
		}
		last := time.Now()
		if at := f.helper("counting").AutounloadAt; !at.Equal(last.Add(10 * time.Second)) {
			t.Errorf("autounload at %v, want %v", at, last.Add(10*time.Second))
		}
		after(10 * time.Second)
		if f.isLoaded("counting") {
			t.Error("it has not left")
		}
	})
}

// TestL16_OnceIsNotPutOff: under once the only try comes in its time, used or not.
func TestL16_OnceIsNotPutOff(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := bubbleFixture(t, host.Config{})
		f.put("a")
		err := f.Configure(t.Context(), []shared.HelperSpec{{Name: "a", Load: shared.LoadManual, Autounload: shared.AutounloadOnce}})
		if err != nil {
			t.Fatal(err)
		}
		f.autoload("a")
		if err := f.Hold("a"); err != nil {
			t.Fatal(err)
		}
		after(10 * time.Second)
		if err := f.Rele("a"); err != nil {
			t.Fatal(err)
		}
		if at := f.helper("a").AutounloadAt; !at.IsZero() {
			t.Errorf("it is to be tried again at %v", at)
		}
		after(time.Hour)
		if !f.isLoaded("a") {
			t.Error("it was tried a second time")
		}
	})
}

func TestL16_HostsTimeIsForWhatLoadsFromThenOn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := bubbleFixture(t, host.Config{Autounload: host.Autounload{After: time.Minute}})
		f.put("a")
		f.put("b")
		f.configure("a", "b")
		wantErr(t, f.SetAutounload(host.Autounload{After: -1}), shared.ErrInvalid, "negative")
		f.autoload("a")
		if err := f.SetAutounload(host.Autounload{After: 2 * time.Second}); err != nil {
			t.Fatal(err)
		}
		f.autoload("b")
		after(2 * time.Second)
		if got := f.states(); got != "a=active" {
			t.Errorf("after two seconds: %s", got)
		}
		after(58 * time.Second)
		if got := f.states(); got != "" {
			t.Errorf("after a minute: %s", got)
		}
	})
}

// TestL16_NobodyPutsItOff: what goes on beside it does not keep the sweeper from its work.
func TestL16_NobodyPutsItOff(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := bubbleFixture(t, host.Config{})
		f.put("a")
		hosttest.Put(f.path, counting())
		f.configure("a", "counting")
		f.autoload("a", "counting")
		for range 11 * 200 {
			destroy(t, object(t, f.Host, "tcp")) // the last reference each time
			after(5 * time.Millisecond)
		}
		if got := f.states(); got != "counting=active" {
			t.Errorf("%s", got)
		}
	})
}

func TestL17_ChainsLeaveInOnePass(t *testing.T) {
	for what, requires := range map[string]map[string][]string{
		"chain":   {"a": {"b"}, "b": {"c"}, "c": nil},
		"diamond": {"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": nil},
		"two":     {"a": {"b"}, "b": nil, "x": {"b", "y"}, "y": nil},
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				var mu sync.Mutex
				var left []string
				f := bubbleFixture(t, host.Config{})
				for name, needs := range requires {
					hosttest.Put(f.path, helper.Helper[struct{}]{
						Name: name, Version: "1.0.0", Requires: needs,
						Fini: func(context.Context) error {
							mu.Lock()
							defer mu.Unlock()
							left = append(left, name)
							return nil
						},
					})
				}
				f.configure(slices.Sorted(maps.Keys(requires))...)
				tops := []string{"a"}
				if requires["x"] != nil {
					tops = append(tops, "x")
				}
				f.autoload(tops...)
				after(10*time.Second - 1)
				if !f.isLoaded("a") {
					t.Fatal("too early")
				}
				after(1)
				mu.Lock()
				defer mu.Unlock()
				if got := f.states(); got != "" {
					t.Errorf("still there: %s", got)
				}
				for name, needs := range requires {
					for _, r := range needs {
						if slices.Index(left, name) > slices.Index(left, r) {
							t.Errorf("%s left before %s, which requires it: %v", r, name, left)
						}
					}
				}
			})
		})
	}
}

// TestL17_WhatWasUsedByOthersStays: a chain takes with it only what nobody else has needed since.
func TestL17_WhatWasUsedByOthersStays(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := bubbleFixture(t, host.Config{})
		f.put("a", "base")
		f.put("base")
		f.put("other", "base")
		f.configure("a", "base", "other")
		f.autoload("a")
		if err := f.load("other"); err != nil {
			t.Fatal(err)
		}
		after(6 * time.Second)
		if err := f.Unload(t.Context(), "other", host.UnloadOptions{}); err != nil {
			t.Fatal(err)
		}
		after(4 * time.Second)
		if got := f.states(); got != "base=active" {
			t.Errorf("when a's time is over: %s", got)
		}
		after(6 * time.Second)
		if got := f.states(); got != "" {
			t.Errorf("ten seconds after the last use: %s", got)
		}
	})
}
