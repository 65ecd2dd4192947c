package host_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/helper"
)

func refuse(context.Context, *helper.Host) error { return shared.ErrInvalid.Errorf("no") }

// TestK5_HoldsEndWithAFailedInit: holds belong to the incarnation, also to one that never came into use.
func TestK5_HoldsEndWithAFailedInit(t *testing.T) {
	f := newFixture(t, host.Config{})
	f.put("base")
	hosttest.Put(f.path, asker("top", func(ctx context.Context, h *helper.Host) error {
		return errors.Join(h.Hold(ctx, "base"), shared.ErrInvalid.Errorf("no"))
	}, nil))
	if err := f.loadSoon("base"); err != nil {
		t.Fatal(err)
	}
	wantErr(t, f.loadSoon("top"), shared.ErrInvalid, "no")
	if err := f.Unload(soon(t), "base", host.UnloadOptions{}); err != nil {
		t.Error(err)
	}
}

func TestL12_PrimedTwice(t *testing.T) {
	hosttest.CheckLeaks(t)
	f := newFixture(t, host.Config{})
	f.put("a")
	for i, want := range []error{nil, shared.ErrExist} {
		failed := f.Prime(soon(t), []shared.HelperSpec{{Name: "a"}})
		if (len(failed) > 0) != (want != nil) || len(failed) > 0 && !errors.Is(failed[0], want) {
			t.Errorf("priming, time %d: %v, want %v", i+1, failed, want)
		}
		f.want("a=primed")
	}
	if n := f.path.Starts("a"); n != 1 {
		t.Errorf("%d starts, want 1", n)
	}
}

// TestL12_ClaimedAsAskedFor: what a load says beside the name holds for a primed helper too.
func TestL12_ClaimedAsAskedFor(t *testing.T) {
	f := newFixture(t, host.Config{})
	var cfg struct{ Gain int64 }
	hosttest.Put(f.path, helper.Helper[counts]{Name: "a", Version: "1.0.0", Classes: []shared.Class{"tcp", "udp"}, Config: &cfg})
	prime := func() {
		if failed := f.Prime(soon(t), []shared.HelperSpec{{Name: "a"}}); len(failed) > 0 {
			t.Fatal(failed[0])
		}
	}
	load := func(opts host.LoadOptions) error { return f.Load(soon(t), shared.HelperSpec{Name: "a"}, opts) }
	prime()
	wantErr(t, load(host.LoadOptions{Classes: []shared.Class{"ip"}}), shared.ErrNotExist, `class "ip"`)
	prime()
	wantErr(t, load(host.LoadOptions{Properties: map[string]any{"none": int64(1)}}), shared.ErrInvalid, "none")
	prime()
	if err := load(host.LoadOptions{Classes: []shared.Class{"udp"}, Properties: map[string]any{"gain": int64(7)}}); err != nil {
		t.Fatal(err)
	}
	st, err := f.Stat(soon(t), "a")
	if err != nil || len(st.Helpers[0].Classes) != 1 || st.Helpers[0].Classes[0] != "udp" || cfg.Gain != 7 {
		t.Errorf("%+v, gain %d, %v", st.Helpers, cfg.Gain, err)
	}
}

type counts struct{ N uint64 }

// TestL12_BootHelpersStay: one that is to be there from the start does not leave because a helper that required it has failed.
func TestL12_BootHelpersStay(t *testing.T) {
	f := newFixture(t, host.Config{})
	f.put("base")
	hosttest.Put(f.path, asker("top", refuse, nil, "base"))
	if failed := f.Prime(soon(t), []shared.HelperSpec{{Name: "top"}, {Name: "base"}}); len(failed) > 0 {
		t.Fatal(failed[0])
	}
	wantErr(t, f.loadSoon("top"), shared.ErrInvalid, "no")
	f.want("base=active")
}

// TestL6_BuiltinsRollBack: also a builtin is back to what it was when the load that brought it has failed.
func TestL6_BuiltinsRollBack(t *testing.T) {
	f := newFixture(t, host.Config{})
	for _, name := range []string{"fresh", "disabled"} {
		if err := f.OfferBuiltin(host.Builtin{Name: name, Version: "1.0.0"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(f.loadSoon("disabled"), f.Unload(soon(t), "disabled", host.UnloadOptions{Disable: true})); err != nil {
		t.Fatal(err)
	}
	hosttest.Put(f.path, asker("top", refuse, nil, "fresh", "disabled"))
	err := f.Load(soon(t), shared.HelperSpec{Name: "top"}, host.LoadOptions{Force: true})
	wantErr(t, err, shared.ErrInvalid, "no")
	f.want("disabled=disabled")
}

// TestL6_TheErrorOfARequirementIsFinal: whatever sentinel its Init returns, it is asked once.
func TestL6_TheErrorOfARequirementIsFinal(t *testing.T) {
	f := newFixture(t, host.Config{})
	tries, says := 0, shared.ErrExist.Errorf("says Init")
	b := host.Builtin{Name: "b", Version: "1.0.0", Init: func(context.Context, map[string]any) error {
		if tries++; tries == 2 || tries == 3 {
			return says
		}
		return nil
	}}
	if err := f.AddBuiltin(b); err != nil {
		t.Fatal(err)
	}
	if err := f.Unload(soon(t), "b", host.UnloadOptions{Disable: true}); err != nil {
		t.Fatal(err)
	}
	f.put("top", "b")
	wantErr(t, f.Load(soon(t), shared.HelperSpec{Name: "top"}, host.LoadOptions{Force: true}), says, "")
	if tries != 2 {
		t.Errorf("Init was asked %d times in all, want 2", tries)
	}
	f.want("b=disabled")
}

// TestL21_NotByWaitingForOneThatLeaves: that a helper has been here does not mean that others may have it loaded.
func TestL21_NotByWaitingForOneThatLeaves(t *testing.T) {
	f := newFixture(t, host.Config{})
	leaving, goOn := make(chan struct{}), make(chan struct{})
	hosttest.Put(f.path, asker("x", nil, func(context.Context, *helper.Host) error {
		close(leaving)
		<-goOn
		return nil
	}))
	asked := make(chan error, 1)
	hosttest.Put(f.path, asker("a", func(ctx context.Context, h *helper.Host) error {
		go func() { asked <- h.Load(context.Background(), "x") }()
		return nil
	}, nil))
	f.configure("a")
	if err := f.loadSoon("x"); err != nil {
		t.Fatal(err)
	}
	left := make(chan error, 1)
	go func() { left <- f.Unload(soon(t), "x", host.UnloadOptions{}) }()
	hosttest.Await(t, "Fini", leaving)
	f.put("x")
	if err := f.loadSoon("a"); err != nil {
		t.Fatal(err)
	}
	waits := func() bool { return len(asked) > 0 || host.Waiting(f.Host) > 0 }
	hosttest.Until(t, "an answer, or somebody waiting", waits)
	close(goOn)
	if err := hosttest.Await(t, "the end of the unload", left); err != nil {
		t.Error(err)
	}
	err := hosttest.Await(t, "the answer", asked)
	if !errors.Is(err, shared.ErrNotExist) && !errors.Is(err, shared.ErrPermission) {
		t.Errorf("load of x: %v", err)
	}
	f.want("a=active")
}

// TestK3_NoObjectsOnOneThatLeaves: an object that is made while a helper leaves is none of its, and nobody is turned away for it.
func TestK3_NoObjectsOnOneThatLeaves(t *testing.T) {
	f := newFixture(t, host.Config{})
	head(t, f.Host, "tcp.est_in", hhook.Options{Kind: hhook.Filter})
	leaving, goOn := make(chan struct{}), make(chan error)
	hosttest.Put(f.path, helper.Helper[counts]{
		Name: "a", Version: "1.0.0", Classes: []shared.Class{"tcp"},
		Hooks: helper.Hooks[counts]{"tcp.est_in": func(context.Context, *helper.Call, *counts) error { return nil }},
		New: func(context.Context, *helper.Call, *counts) error {
			return shared.ErrInvalid.Errorf("finished already")
		},
		Fini: func(context.Context) error {
			leaving <- struct{}{}
			return <-goOn
		},
	})
	if err := f.loadSoon("a"); err != nil {
		t.Fatal(err)
	}
	for _, answer := range []error{errors.New("not yet"), nil} {
		left := make(chan error, 1)
		go func() { left <- f.Unload(soon(t), "a", host.UnloadOptions{}) }()
		hosttest.Await(t, "Fini", leaving)
		o, err := f.NewObject(soon(t), "tcp")
		if err != nil {
			t.Error(err)
		} else {
			t.Cleanup(func() { destroy(t, o) })
		}
		goOn <- answer
		if err := hosttest.Await(t, "the end of the unload", left); (err == nil) != (answer == nil) {
			t.Errorf("unload: %v, though Fini said %v", err, answer)
		}
		if answer != nil {
			if st, err := f.Stat(soon(t), "a"); err != nil || st.Helpers[0].Refs != 0 {
				t.Errorf("%+v, %v", st.Helpers, err)
			}
		}
	}
	f.want("")
}

// TestL19_DeathWhileLeaving: observers hear of it, too.
func TestL19_DeathWhileLeaving(t *testing.T) {
	f := newFixture(t, host.Config{})
	head := head(t, f.Host, "tcp.est_in", hhook.Options{})
	inside, goOn := make(chan struct{}), make(chan struct{})
	if err := f.AddBuiltin(host.Builtin{Name: "slow", Version: "1.0.0", Hooks: map[shared.HookPoint]host.BuiltinHook{
		"tcp.est_in": func(context.Context, *host.BuiltinCall) error { close(inside); <-goOn; return nil },
	}}); err != nil {
		t.Fatal(err)
	}
	hosttest.Put(f.path, helper.Helper[struct{}]{Name: "a", Version: "1.0.0", Hooks: helper.Hooks[struct{}]{
		"tcp.est_in": func(context.Context, *helper.Call, *struct{}) error { return nil },
	}})
	if err := f.loadSoon("a"); err != nil {
		t.Fatal(err)
	}
	run := make(chan error, 1)
	go func() { _, err := head.Run(context.Background(), nil, nil); run <- err }()
	hosttest.Await(t, "the run", inside)
	ctx, cancel := context.WithCancel(context.Background())
	left := make(chan error, 1)
	go func() { left <- f.Unload(ctx, "a", host.UnloadOptions{}) }()
	hosttest.Until(t, "draining", func() bool { return strings.Contains(f.states(), "a=draining") })
	f.path.Crash("a")
	hosttest.Until(t, "the news of its death", func() bool {
		st, err := f.Stat(context.Background(), "a")
		return err == nil && st.Helpers[0].LastError != ""
	})
	cancel()
	if err := hosttest.Await(t, "the end of the unload", left); err == nil {
		t.Error("unloaded, though there was no time to drain")
	}
	close(goOn)
	if err := hosttest.Await(t, "the run", run); err != nil {
		t.Error(err)
	}
	f.want("slow=active a=failed")
	events := f.History()
	if last := events[len(events)-1]; last.Type != host.EventFailed || last.Helper != "a" {
		t.Errorf("the last event is %+v", last)
	}
}

// TestL9_ARefusalIsAnAnswer: a helper that refuses stays, whatever sentinel it uses; one that has not answered when the caller gives up
// may have finished, and goes.
func TestL9_ARefusalIsAnAnswer(t *testing.T) {
	f := newFixture(t, host.Config{})
	var says *shared.Error
	inside := make(chan struct{}, 1)
	fini := func(ctx context.Context, _ *helper.Host) error {
		if says != nil {
			return says
		}
		inside <- struct{}{}
		<-ctx.Done()
		return nil
	}
	hosttest.Put(f.path, asker("a", nil, fini))
	if err := f.loadSoon("a"); err != nil {
		t.Fatal(err)
	}
	for _, says = range []*shared.Error{shared.ErrTimeout, shared.ErrHelperGone} {
		wantErr(t, f.Unload(soon(t), "a", host.UnloadOptions{}), shared.ErrBusy, "refuses")
		f.want("a=active")
	}
	says = nil
	ctx, cancel := context.WithCancel(context.Background())
	left := make(chan error, 1)
	go func() { left <- f.Unload(ctx, "a", host.UnloadOptions{}) }()
	hosttest.Await(t, "Fini", inside)
	cancel()
	if err := hosttest.Await(t, "the end of the unload", left); err != nil {
		t.Error(err)
	}
	f.want("")
}

// TestL19_CloseOvertakesShutdown: both end, and everything leaves once.
func TestL19_CloseOvertakesShutdown(t *testing.T) {
	f := newFixture(t, host.Config{})
	inside := make(chan struct{})
	hosttest.Put(f.path, asker("a", nil, func(ctx context.Context, _ *helper.Host) error {
		close(inside)
		<-ctx.Done()
		return nil
	}))
	if err := f.loadSoon("a"); err != nil {
		t.Fatal(err)
	}
	down := make(chan error, 1)
	go func() { down <- f.Shutdown(context.Background()) }()
	hosttest.Await(t, "Fini", inside)
	if err := errors.Join(f.Close(), hosttest.Await(t, "the end of Shutdown", down)); err != nil {
		t.Error(err)
	}
	var left int
	for _, e := range f.History() {
		if e.Type == host.EventUnloaded {
			left++
		}
	}
	if left != 1 {
		t.Errorf("it has left %d times", left)
	}
}

// TestL18_PrimedInVain: one that loads on demand still does after it was primed and claimed by nobody.
func TestL18_PrimedInVain(t *testing.T) {
	f := newFixture(t, host.Config{})
	head := head(t, f.Host, "tcp.est_in", hhook.Options{})
	calls := 0
	hosttest.Put(f.path, helper.Helper[struct{}]{Name: "a", Version: "1.0.0", Hooks: helper.Hooks[struct{}]{
		"tcp.est_in": func(context.Context, *helper.Call, *struct{}) error { calls++; return nil },
	}})
	spec := shared.HelperSpec{Name: "a", Load: shared.LoadDemand}
	if err := f.Configure(soon(t), []shared.HelperSpec{spec}); err != nil {
		t.Fatal(err)
	}
	if failed := f.Prime(soon(t), []shared.HelperSpec{spec}); len(failed) > 0 {
		t.Fatal(failed[0])
	}
	f.EndBoot(soon(t))
	for range 2 {
		if v, err := head.Run(soon(t), nil, nil); err != nil || v.Rejected {
			t.Errorf("%+v, %v", v, err)
		}
	}
	if f.want("a=active"); calls != 2 {
		t.Errorf("%d calls, want 2", calls)
	}
}
