package host_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/helper"
)

// hostOf is what a helper's Init gets.
type hostOf = helper.Host

// loading returns an Init that asks for other helpers.
func loading(names ...string) initFunc {
	return func(ctx context.Context, h *hostOf) error {
		for _, name := range names {
			if err := h.Load(ctx, name); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestL7_ItselfRequired(t *testing.T) {
	f := newFixture(t, host.Config{})
	f.put("narcissus")
	spec := shared.HelperSpec{Name: "narcissus", Requires: []shared.Requirement{{Name: "narcissus"}}}
	wantErr(t, f.Load(context.Background(), spec, host.LoadOptions{}), shared.ErrDeadlock, "narcissus → narcissus")
	f.want("")
}

// Whoever is in a circle is told so, whatever loads run at the same time, and nobody waits for ever.
func TestL7_AcrossConcurrentLoads(t *testing.T) {
	for range 30 {
		f := newFixture(t, host.Config{})
		f.put("a", "b")
		f.put("b", "a")
		f.put("outside", "a")
		f.configure("a", "b", "outside")
		var loads []<-chan error
		for _, name := range []string{"a", "b", "outside"} {
			loads = append(loads, inBackground(func() error { return f.load(name) }))
		}
		for _, load := range loads {
			err := hosttest.Await(t, "load", load)
			// A load of what another one has just brought, and will take back, is EEXIST.
			if errors.Is(err, shared.ErrExist) {
				continue
			}
			wantErr(t, err, shared.ErrDeadlock, "go in a circle: ")
			if said := err.Error(); !strings.Contains(said, "a → b → a") && !strings.Contains(said, "b → a → b") {
				t.Errorf("the circle is not printed: %v", err)
			}
		}
		f.want("")
	}
}

// A circle that closes while another load waits is no fault of that one's.
func TestL7_AWaiterTriesForItself(t *testing.T) {
	f := newFixture(t, host.Config{})
	began, release := make(chan struct{}, 1), make(chan struct{})
	wait := blocked(began, release)
	f.putInit("b", func(ctx context.Context, h *hostOf) error { return wait(ctx, h) })
	f.put("user", "b")
	f.configure("b", "user")
	ctx, giveUp := context.WithCancel(context.Background())
	first := inBackground(func() error { return f.Load(ctx, shared.HelperSpec{Name: "b"}, host.LoadOptions{}) })
	hosttest.Await(t, "Init of b", began)
	user := inBackground(func() error { return f.load("user") })
	f.await("b=starting user=starting")
	giveUp()
	wantErr(t, hosttest.Await(t, "the load that is given up", first), shared.ErrTimeout, "Init")
	hosttest.Await(t, "another Init of b", began)
	close(release)
	f.must(hosttest.Await(t, "user", user))
	if st := f.helper("b"); !st.Autoloaded || st.Refs != 1 {
		t.Errorf("%+v", st)
	}
}

// The circle may go by way of a request in Init.
func TestL7_ThroughInit(t *testing.T) {
	f := newFixture(t, host.Config{})
	f.putInit("a", loading("b"))
	f.put("b", "c")
	f.put("c", "a")
	f.configure("a", "b", "c")
	wantErr(t, f.load("a"), shared.ErrDeadlock, "a → b → c → a")
	f.want("")
	// From the other end it is no wait, and so no circle: a is told that b, which waits for it, is on its way.
	wantErr(t, f.load("b"), shared.ErrExist, `b requires c: c requires a: Init: helper "b" is being loaded already`)
	f.want("")
}

func TestL10_InitLoadsAnother(t *testing.T) {
	f := newFixture(t, host.Config{})
	errs := make(chan error, 2)
	f.putInit("top", func(ctx context.Context, h *hostOf) error {
		errs <- h.Load(ctx, "top")
		errs <- h.Load(ctx, "there")
		return h.Load(ctx, "mate ~> 1.0")
	})
	f.put("there")
	f.put("mate", "base")
	f.put("base")
	f.configure("top", "mate", "base")
	f.must(f.load("there"))
	f.must(f.load("top"))
	wantErr(t, <-errs, shared.ErrExist, "top asks to load itself")
	wantErr(t, <-errs, shared.ErrExist, "loaded already")
	f.want("there=active top=active mate=active base=active")
	if st := f.helper("mate"); !st.Autoloaded || st.Refs != 0 {
		t.Errorf("%+v; want it autoloaded, and held by nobody", st)
	}
}

// Of another version than asked for it is of no use, and leaves with what it brought.
func TestL10_AnotherVersion(t *testing.T) {
	f := newFixture(t, host.Config{})
	f.putInit("top", loading("mate ~> 2.0"))
	f.put("mate", "base")
	f.put("base")
	f.configure("top", "mate", "base")
	wantErr(t, f.load("top"), shared.ErrIncompatible, `mate has version 1.0.0, "~> 2.0" is asked for`)
	f.want("")
}

// What Init has had loaded stays when Init fails, marked autoloaded: it leaves when its time has come.
func TestL9_WhatInitHadLoadedStays(t *testing.T) {
	f := newFixture(t, host.Config{})
	f.putInit("top", func(ctx context.Context, h *hostOf) error {
		if err := h.Load(ctx, "mate"); err != nil {
			return err
		}
		return shared.ErrInvalid.Errorf("no")
	})
	f.put("mate")
	f.configure("top", "mate")
	wantErr(t, f.load("top"), shared.ErrInvalid, "Init: no")
	f.want("mate=active")
	if st := f.helper("mate"); !st.Autoloaded || st.AutounloadAt.IsZero() {
		t.Errorf("%+v; want it autoloaded, and to leave", st)
	}
}
