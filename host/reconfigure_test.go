package host_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/shared"
)

// reload checks that a plan and a reload say the same and that nothing is left to do.
func (f *fixture) reload(specs []shared.HelperSpec, want ...string) {
	f.t.Helper()
	planned, err := f.Plan(specs)
	f.must(err)
	if diff := cmp.Diff(want, changesAs(planned)); diff != "" {
		f.t.Errorf("Plan (-want +got):\n%s", diff)
	}
	done, err := f.Reconfigure(context.Background(), specs)
	f.must(err)
	if diff := cmp.Diff(want, changesAs(done)); diff != "" {
		f.t.Errorf("Reconfigure (-want +got):\n%s", diff)
	}
	if again, err := f.Plan(specs); err != nil || len(again) > 0 {
		f.t.Errorf("planned again: %v, %v", changesAs(again), err)
	}
}

// A builtin that is configured no more is offered as before, and comes back with its block.
func TestReconfigure_BuiltinComesBack(t *testing.T) {
	f := newFixture(t, host.Config{})
	f.must(f.OfferBuiltin((&clock{}).builtin()))
	specs := []shared.HelperSpec{{Name: "clock"}}
	for range 2 {
		f.reload(specs, "load clock: it is new")
		f.want("clock=active")
		f.reload(nil, "unload clock: it is not configured any more")
		f.want("")
	}
}

// One that an operator has disabled stays so, whatever is configured.
func TestReconfigure_DisabledStaysDisabled(t *testing.T) {
	f := newFixture(t, host.Config{})
	c := &clock{}
	b := c.builtin()
	b.Properties = []shared.Property{{Name: "rate", Type: shared.PropertyInt}}
	var rate any
	b.Init = func(_ context.Context, p map[string]any) error { rate = p["rate"]; return nil }
	f.must(f.OfferBuiltin(b))
	specs := []shared.HelperSpec{{Name: "clock"}}
	f.boot(specs...)
	f.must(f.Unload(t.Context(), "clock", disable))
	f.reload(specs)
	f.reload(nil, "update clock: it is not configured any more, and disabled")
	f.reload(nil)
	f.reload(specs, "update clock: it is new, and disabled")
	specs[0].Config = map[string]any{"rate": int64(5)}
	f.reload(specs, "update clock: config has changed")
	f.want("clock=disabled")
	f.must(f.Load(t.Context(), shared.HelperSpec{Name: "clock"}, host.LoadOptions{Force: true}))
	if rate != int64(5) {
		t.Errorf("it came back with rate %v, want what is configured", rate)
	}
}

// Whoever lets go of what leaves does so before that, in the same reload, and is not said to block it.
func TestReconfigure_LetsGoFirst(t *testing.T) {
	requires := func(names ...string) (r []shared.Requirement) {
		for _, name := range names {
			r = append(r, shared.Requirement{Name: name})
		}
		return r
	}
	f := newFixture(t, host.Config{})
	for _, name := range []string{"a", "b", "c", "e"} {
		f.put(name)
	}
	f.boot(shared.HelperSpec{Name: "a", Requires: requires("b")}, shared.HelperSpec{Name: "b"})
	f.reload([]shared.HelperSpec{{Name: "a", Requires: requires("c")}, {Name: "c"}},
		"restart a: requires has changed", "unload b: it is not configured any more", "load c: it is new")
	f.want("a=active c=active")
	if st := f.helper("c"); st.Autoloaded || st.Refs != 1 {
		t.Errorf("%+v; want it held by a, and there to stay", st)
	}
	if failed := f.went(host.EventLoadFailed); failed != "" {
		t.Errorf("load failed: %s", failed)
	}

	// What the program itself requires, or the new spec still does, is not let go of.
	f.put("e", "c")
	specs := []shared.HelperSpec{{Name: "a", Requires: requires("c")}, {Name: "c"}, {Name: "e"}}
	f.reload(specs, "load e: it is new")
	next := []shared.HelperSpec{{Name: "a"}, {Name: "e", Env: map[string]string{"A": "b"}}}
	want := []string{"restart a: requires has changed", "restart e: env has changed", "unload c: it is not configured any more [e]"}
	planned, err := f.Plan(next)
	f.must(err)
	if diff := cmp.Diff(want, changesAs(planned)); diff != "" {
		t.Errorf("Plan (-want +got):\n%s", diff)
	}
	done, err := f.Reconfigure(t.Context(), next)
	f.must(err)
	want[2] += " (EBUSY)"
	if diff := cmp.Diff(want, changesAs(done)); diff != "" {
		t.Errorf("Reconfigure (-want +got):\n%s", diff)
	}
}

// What is under way on a helper is waited for, and the step is then made, or found done.
func TestReconfigure_WaitsForWhatIsUnderWay(t *testing.T) {
	manual := func(names ...string) (specs []shared.HelperSpec) {
		for _, name := range names {
			specs = append(specs, shared.HelperSpec{Name: name, Load: shared.LoadManual})
		}
		return specs
	}
	env := map[string]string{"A": "b"}
	for _, test := range []struct {
		next []shared.HelperSpec
		want []string
		left string
	}{
		{[]shared.HelperSpec{{Name: "a", Load: shared.LoadManual, Timeout: 1e9}}, []string{"update a: timeout has changed"}, "a=active"},
		{[]shared.HelperSpec{{Name: "a", Load: shared.LoadManual, Env: env}}, []string{"restart a: env has changed"}, "a=active"},
		{nil, []string{"unload a: it is not configured any more"}, ""},
	} {
		f := newFixture(t, host.Config{})
		began, release, init := held()
		f.putInit("a", init)
		f.must(f.Configure(t.Context(), manual("a")))
		loaded := inBackground(func() error { return f.Load(context.Background(), manual("a")[0], host.LoadOptions{}) })
		hosttest.Await(t, "Init", began)
		var done []host.Change
		reloaded := inBackground(func() (err error) { done, err = f.Reconfigure(context.Background(), test.next); return err })
		hosttest.Until(t, "the reload", func() bool {
			spec, ok := f.Configured("a")
			return !ok && test.next == nil || ok && (spec.Timeout > 0 || len(spec.Env) > 0)
		})
		close(release)
		f.must(hosttest.Await(t, "the load", loaded))
		f.must(hosttest.Await(t, "the reload", reloaded))
		if diff := cmp.Diff(test.want, changesAs(done)); diff != "" {
			t.Errorf("Reconfigure (-want +got):\n%s", diff)
		}
		f.want(test.left)
	}
}

// There is one change of the configuration at a time.
func TestReconfigure_OneAtATime(t *testing.T) {
	f := newFixture(t, host.Config{})
	began, release, init := held()
	f.putInit("a", init)
	reloaded := inBackground(func() error {
		_, err := f.Reconfigure(context.Background(), []shared.HelperSpec{{Name: "a"}})
		return err
	})
	hosttest.Await(t, "Init", began)
	wantErr(t, f.Configure(t.Context(), nil), shared.ErrBusy, "another change of the configuration")
	_, err := f.Reconfigure(t.Context(), nil)
	wantErr(t, err, shared.ErrBusy, "another change of the configuration")
	close(release)
	f.must(hosttest.Await(t, "the reload", reloaded))
	if _, ok := f.Configured("a"); !ok {
		t.Error("a is not configured")
	}
	f.must(f.Configure(t.Context(), nil))
}

// A reload restarts what has failed.
func TestReconfigure_RestartsTheFailed(t *testing.T) {
	f := newFixture(t, host.Config{})
	f.put("a")
	specs := []shared.HelperSpec{{Name: "a"}}
	f.boot(specs...)
	f.path.Crash("a")
	f.await("a=failed")
	f.reload(specs, "restart a: it has failed")
	f.want("a=active")
}
