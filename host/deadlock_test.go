package host_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/helper"
)

// The limits of time in these tests stand far behind what a circle takes to be found: one that is not found hits the test's own.

// asker is a helper that asks its host for things in its Init and its Fini.
func asker(name string, init, fini func(ctx context.Context, h *helper.Host) error, requires ...string) helper.Helper[struct{}] {
	var with *helper.Host
	hp := helper.Helper[struct{}]{Name: name, Version: "1.0.0", Requires: requires}
	hp.Init = func(ctx context.Context, h *helper.Host) error {
		with = h
		if init == nil {
			return nil
		}
		return init(ctx, h)
	}
	if fini != nil {
		hp.Fini = func(ctx context.Context) error { return fini(ctx, with) }
	}
	return hp
}

// wants returns a function that asks for a load and fails unless that comes to what is wanted, nil or a sentinel.
func wants(load string, want error) func(context.Context, *helper.Host) error {
	return func(ctx context.Context, h *helper.Host) error {
		if err := h.Load(ctx, load); !errors.Is(err, want) {
			return fmt.Errorf("load of %s: %w; want %w", load, err, want)
		}
		return nil
	}
}

// soon is a context that ends long before the limits of an Init and a Fini, which would free whoever is caught in a circle.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func (f *fixture) loadSoon(name string) error {
	f.t.Helper()
	return f.Load(soon(f.t), shared.HelperSpec{Name: name}, host.LoadOptions{})
}

func TestL10_InitLoadsOneThatRequiresTheLoader(t *testing.T) {
	f := newFixture(t, host.Config{})
	hosttest.Put(f.path, asker("a", wants("b", shared.ErrDeadlock), nil))
	f.put("b", "c")
	f.put("c", "a")
	f.configure("a", "b", "c")
	if err := f.loadSoon("a"); err != nil {
		t.Error(err)
	}
	f.want("a=active")
}

func TestL10_TwoLoadEachOtherInInit(t *testing.T) {
	f := newFixture(t, host.Config{})
	hosttest.Put(f.path, asker("a", wants("b", nil), nil))
	hosttest.Put(f.path, asker("b", wants("a", shared.ErrExist), nil))
	f.configure("a", "b")
	if err := f.loadSoon("a"); err != nil {
		t.Error(err)
	}
	f.want("a=active b=active")
}

func TestL7_TwoRequireEachOtherAtTheSameTime(t *testing.T) {
	f := newFixture(t, host.Config{})
	f.put("a", "b")
	f.put("b", "a")
	f.configure("a", "b")
	for range 20 {
		failed := f.LoadAll(soon(t), []shared.HelperSpec{{Name: "a"}, {Name: "b"}})
		if len(failed) != 2 {
			t.Fatalf("failed: %v", failed)
		}
		for _, e := range failed {
			wantErr(t, e, shared.ErrDeadlock, "circle")
		}
		f.want("")
	}
}

func TestL9_FiniLoadsOneThatRequiresWhoLeaves(t *testing.T) {
	f := newFixture(t, host.Config{})
	hosttest.Put(f.path, asker("a", nil, wants("b", shared.ErrDeadlock)))
	f.put("b", "a")
	f.configure("a", "b")
	if err := f.loadSoon("a"); err != nil {
		t.Fatal(err)
	}
	if err := f.Unload(soon(t), "a", host.UnloadOptions{}); err != nil {
		t.Error(err)
	}
	f.want("")
}

// TestL20_ManyBehindOne: those that load side by side may be more than load at once, and all wait for the last.
func TestL20_ManyBehindOne(t *testing.T) {
	f := newFixture(t, host.Config{})
	var specs []shared.HelperSpec
	for i := range 40 {
		name := fmt.Sprintf("h%d", i)
		f.put(name, "base")
		specs = append(specs, shared.HelperSpec{Name: name})
	}
	f.put("base")
	specs = append(specs, shared.HelperSpec{Name: "base"})
	if failed := f.LoadAll(soon(t), specs); len(failed) > 0 {
		t.Errorf("%d failed, such as: %v", len(failed), failed[0])
	}
}

// TestL20_EnteredBehindOneThatLeaves: what is to be loaded together waits for one that is leaving, which waits for one of them.
func TestL20_EnteredBehindOneThatLeaves(t *testing.T) {
	f := newFixture(t, host.Config{})
	leaving, goOn := make(chan struct{}), make(chan struct{})
	hosttest.Put(f.path, asker("b", nil, func(ctx context.Context, h *helper.Host) error {
		close(leaving)
		<-goOn
		return h.Load(ctx, "c")
	}))
	f.put("a")
	f.put("c", "a")
	f.configure("a", "b", "c")
	if err := f.loadSoon("b"); err != nil {
		t.Fatal(err)
	}
	left := make(chan error, 1)
	go func() { left <- f.Unload(soon(t), "b", host.UnloadOptions{}) }()
	hosttest.Await(t, "Fini", leaving)
	hosttest.Put(f.path, asker("b", nil, nil))
	loaded := make(chan []*host.BootError, 1)
	go func() { loaded <- f.LoadAll(soon(t), []shared.HelperSpec{{Name: "a"}, {Name: "b"}}) }()
	close(goOn) // perhaps before they are entered: then the test is easy
	if err := hosttest.Await(t, "the end of the unload", left); err != nil {
		t.Error(err)
	}
	// a is loaded for c, or as it was asked for: whoever is first.
	for _, e := range hosttest.Await(t, "the end of the loads", loaded) {
		if e.Helper != "a" || !errors.Is(e, shared.ErrExist) {
			t.Error(e)
		}
	}
}

// TestL9_RollBackBehindTheLoader: what a failed load has brought asks, while it leaves, for one that requires whoever is still waiting.
func TestL9_RollBackBehindTheLoader(t *testing.T) {
	f := newFixture(t, host.Config{})
	hosttest.Put(f.path, asker("top", wants("mid", shared.ErrInvalid), nil))
	hosttest.Put(f.path, asker("mid", func(context.Context, *helper.Host) error { return shared.ErrInvalid.Errorf("no") }, nil, "base"))
	hosttest.Put(f.path, asker("base", nil, wants("c", shared.ErrDeadlock)))
	f.put("c", "top")
	f.configure("top", "mid", "base", "c")
	if err := f.loadSoon("top"); err != nil {
		t.Error(err)
	}
	f.want("top=active")
}

func TestL7_NoCircleByReplacement(t *testing.T) {
	f := newFixture(t, host.Config{})
	f.put("a")
	f.put("b", "a")
	f.put("c", "b")
	f.configure("a", "b", "c")
	if err := f.loadSoon("c"); err != nil {
		t.Fatal(err)
	}
	self := shared.HelperSpec{Name: "a", Load: shared.LoadManual, Requires: []shared.Requirement{{Name: "a"}}}
	changes, err := f.Reconfigure(soon(t), []shared.HelperSpec{self, {Name: "b", Load: shared.LoadManual}, {Name: "c", Load: shared.LoadManual}})
	if err != nil || len(changes) != 1 {
		t.Fatal(changes, err)
	}
	wantErr(t, changes[0].Err, shared.ErrDeadlock, "a → a")
	f.put("a", "c")
	wantErr(t, f.Restart(soon(t), "a"), shared.ErrDeadlock, "c → b → a → c")
	for _, name := range []string{"c", "b", "a"} {
		if err := f.Unload(soon(t), name, host.UnloadOptions{}); err != nil {
			t.Error(err)
		}
	}
}

// TestL10_HookUnloadsWhatItIsCalledBy: a hook asks for the unload of its own helper, and of one on the same head, whose drain waits for it.
func TestL10_HookUnloadsWhatItIsCalledBy(t *testing.T) {
	f := newFixture(t, host.Config{})
	head := head(t, f.Host, "tcp.est_in", hhook.Options{})
	var with *helper.Host
	said := make(chan error, 2)
	hosttest.Put(f.path, helper.Helper[struct{}]{
		Name: "a", Version: "1.0.0", MaySleep: []shared.HookPoint{"tcp.est_in"},
		Init: func(ctx context.Context, h *helper.Host) error {
			with = h
			return h.Load(ctx, "b")
		},
		Hooks: helper.Hooks[struct{}]{"tcp.est_in": func(context.Context, *helper.Call, *struct{}) error {
			// Without the call's own limit, to see what the host makes of it.
			said <- with.Unload(context.Background(), "a")
			said <- with.Unload(context.Background(), "b")
			return nil
		}},
	})
	hosttest.Put(f.path, helper.Helper[struct{}]{Name: "b", Version: "1.0.0", Hooks: helper.Hooks[struct{}]{
		"tcp.est_in": func(context.Context, *helper.Call, *struct{}) error { return nil },
	}})
	f.configure("a", "b")
	if err := f.loadSoon("a"); err != nil {
		t.Fatal(err)
	}
	if v, err := head.Run(soon(t), nil, nil); err != nil || v.Rejected {
		t.Errorf("%+v, %v", v, err)
	}
	wantErr(t, hosttest.Await(t, "the answer", said), shared.ErrBusy, "itself")
	if err := hosttest.Await(t, "the answer", said); err != nil {
		t.Error(err)
	}
	f.want("a=active")
}

// TestL9_AsOthersAreUnderWay: what is asked for of a helper while it is replaced, and while it leaves.
func TestL9_AsOthersAreUnderWay(t *testing.T) {
	f := newFixture(t, host.Config{})
	inside, goOn := make(chan struct{}), make(chan struct{})
	wait := func(context.Context, *helper.Host) error {
		inside <- struct{}{}
		<-goOn
		return nil
	}
	f.put("a")
	if err := f.loadSoon("a"); err != nil {
		t.Fatal(err)
	}
	hosttest.Put(f.path, asker("a", wait, wait))
	ended := make(chan error, 1)
	go func() { ended <- f.Restart(soon(t), "a") }()
	hosttest.Await(t, "Init", inside)
	wantErr(t, f.Unload(soon(t), "a", host.UnloadOptions{}), shared.ErrBusy, "being replaced")
	wantErr(t, f.Restart(soon(t), "a"), shared.ErrBusy, "being replaced")
	wantErr(t, f.loadSoon("a"), shared.ErrExist, "loaded already")
	goOn <- struct{}{}
	if err := hosttest.Await(t, "the replacement", ended); err != nil {
		t.Fatal(err)
	}
	go func() { ended <- f.Unload(soon(t), "a", host.UnloadOptions{}) }()
	hosttest.Await(t, "Fini", inside)
	wantErr(t, f.Unload(soon(t), "a", host.UnloadOptions{}), shared.ErrBusy, "draining")
	wantErr(t, f.Restart(soon(t), "a"), shared.ErrBusy, "draining")
	wantErr(t, f.Hold("a"), shared.ErrBusy, "draining")
	f.put("a")
	loaded := make(chan error, 1)
	go func() { loaded <- f.loadSoon("a") }()
	goOn <- struct{}{}
	if err := errors.Join(hosttest.Await(t, "the unload", ended), hosttest.Await(t, "the load", loaded)); err != nil {
		t.Error(err)
	}
	f.want("a=active")
}

// TestL20_ShutdownBehindAHelperThatWaits: a host that ends amid a load whose helper waits for another one.
func TestL20_ShutdownBehindAHelperThatWaits(t *testing.T) {
	f := newFixture(t, host.Config{})
	inside := make(chan struct{})
	hosttest.Put(f.path, asker("a", func(ctx context.Context, h *helper.Host) error { return h.Load(ctx, "b") }, nil, "base"))
	hosttest.Put(f.path, asker("b", func(ctx context.Context, _ *helper.Host) error {
		close(inside)
		<-ctx.Done()
		return ctx.Err()
	}, nil, "base"))
	hosttest.Put(f.path, asker("base", nil, wants("c", shared.ErrClosed)))
	f.put("c", "a")
	f.configure("a", "b", "base", "c")
	loaded := make(chan error, 1)
	go func() { loaded <- f.loadSoon("a") }()
	hosttest.Await(t, "Init", inside)
	if err := f.Shutdown(soon(t)); err != nil {
		t.Error(err)
	}
	if err := hosttest.Await(t, "the end of the load", loaded); err == nil {
		t.Error("loaded, though the host is gone")
	}
	for _, left := range host.Left(f.Host) {
		t.Error(left)
	}
}
