package host_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/helper"
)

// changesAs writes changes as "action helper: reason [blocked by]" or, if one failed, with its error.
func changesAs(changes []host.Change) []string {
	var out []string
	for _, c := range changes {
		line := fmt.Sprintf("%s %s: %s", c.Action, c.Helper, c.Reason)
		if len(c.BlockedBy) > 0 {
			line += " [" + strings.Join(c.BlockedBy, ", ") + "]"
		}
		if c.Err != nil {
			line += " (" + shared.ErrWord(c.Err) + ")"
		}
		out = append(out, line)
	}
	return out
}

// boot configures and loads what is to be there from the start.
func (f *fixture) boot(specs ...shared.HelperSpec) {
	f.t.Helper()
	ctx := context.Background()
	if err := f.Configure(ctx, specs); err != nil {
		f.t.Fatal(err)
	}
	var first []shared.HelperSpec
	for _, s := range specs {
		if s.Load == "" || s.Load == shared.LoadBoot {
			first = append(first, s)
		}
	}
	for _, failed := range f.LoadAll(ctx, first) {
		f.t.Fatal(failed)
	}
}

func TestPlan_WhatChangesTakes(t *testing.T) {
	base := shared.HelperSpec{Name: "h", Hooks: []shared.HookSpec{{Point: "thing.use"}}}
	with := func(change func(*shared.HelperSpec)) shared.HelperSpec {
		s := base
		s.Hooks = []shared.HookSpec{{Point: "thing.use"}}
		change(&s)
		return s
	}
	for _, test := range []struct {
		want string
		spec shared.HelperSpec
	}{
		{"", base},
		{"restart h: config has changed", with(func(s *shared.HelperSpec) { s.Config = map[string]any{"depth": int64(2)} })},
		{"restart h: env has changed", with(func(s *shared.HelperSpec) { s.Env = map[string]string{"A": "b"} })},
		{"restart h: version has changed", with(func(s *shared.HelperSpec) { s.Version = "~> 1.0" })},
		{"restart h: classes has changed", with(func(s *shared.HelperSpec) { s.Classes = []shared.Class{"thing"} })},
		{"restart h: requires has changed", with(func(s *shared.HelperSpec) { s.Requires = []shared.Requirement{{Name: "base"}} })},
		{"update h: limits has changed", with(func(s *shared.HelperSpec) { s.Limits.Slot = 100 })},
		{"reorder h: order has changed", with(func(s *shared.HelperSpec) { s.Hooks[0].Order.Place = shared.First })},
		{"update h: hook has changed", with(func(s *shared.HelperSpec) { s.Hooks[0].Timeout = time.Second })},
		{"update h: timeout has changed", with(func(s *shared.HelperSpec) { s.Timeout = time.Second })},
		{"update h: on_failure has changed", with(func(s *shared.HelperSpec) { s.OnFailure = shared.Closed })},
		{"update h: on_failure has changed", with(func(s *shared.HelperSpec) {
			s.OnCause = map[shared.Cause]shared.Action{shared.CauseCrash: shared.Closed}
		})},
		{"update h: load has changed", with(func(s *shared.HelperSpec) { s.Load = shared.LoadManual })},
		{"update h: autounload has changed", with(func(s *shared.HelperSpec) { s.AutounloadAfter = time.Minute })},
	} {
		f := newFixture(t, host.Config{})
		f.put("base")
		type config struct{ Depth int }
		hosttest.Put(f.path, helper.Helper[struct{}]{
			Name: "h", Version: "1.0.0", Classes: helper.Classes{"thing", "more"}, Config: &config{},
			Hooks: helper.Hooks[struct{}]{"thing.use": func(context.Context, *helper.Call, *struct{}) error { return nil }},
		})
		f.boot(base, shared.HelperSpec{Name: "base", Load: shared.LoadManual})
		head(t, f.Host, "thing.use", hhook.Options{})
		specs := []shared.HelperSpec{test.spec, {Name: "base", Load: shared.LoadManual}}
		var want []string
		if test.want != "" {
			want = []string{test.want}
		}
		planned, err := f.Plan(specs)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, changesAs(planned)); diff != "" {
			t.Errorf("Plan (-want +got):\n%s", diff)
		}
		done, err := f.Reconfigure(context.Background(), specs)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, changesAs(done)); diff != "" {
			t.Errorf("Reconfigure (-want +got):\n%s", diff)
		}
		if again, err := f.Plan(specs); err != nil || len(again) > 0 {
			t.Errorf("%s: planned again: %v, %v", test.want, changesAs(again), err)
		}
		if st := statOf(t, f.Host, "h"); st.Incarnation == 2 != strings.HasPrefix(test.want, "restart") {
			t.Errorf("%q: incarnation %d", test.want, st.Incarnation)
		}
	}
}

func TestPlan_LoadsUnloadsAndWhoBlocks(t *testing.T) {
	f := newFixture(t, host.Config{})
	ctx := context.Background()
	f.put("base")
	f.put("top", "base")
	f.put("fresh")
	f.put("spare")
	spec := func(name string, when shared.LoadWhen) shared.HelperSpec {
		return shared.HelperSpec{Name: name, Load: when}
	}
	f.boot(spec("top", ""), spec("base", shared.LoadManual), spec("spare", shared.LoadManual))
	if err := f.Hold("base"); err != nil {
		t.Fatal(err)
	}
	next := []shared.HelperSpec{spec("fresh", "")}
	want := []string{
		"unload top: it is not configured any more",
		"unload base: it is not configured any more [1 hold]",
		"update spare: it is not configured any more, and not loaded",
		"load fresh: it is new",
	}
	planned, err := f.Plan(next)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, changesAs(planned)); diff != "" {
		t.Errorf("Plan (-want +got):\n%s", diff)
	}
	if got := f.states(); got != "top=active base=active" {
		t.Errorf("a plan has changed something: %s", got)
	}
	done, err := f.Reconfigure(ctx, next)
	if err != nil {
		t.Fatal(err)
	}
	want[1] += " (EBUSY)"
	if diff := cmp.Diff(want, changesAs(done)); diff != "" {
		t.Errorf("Reconfigure (-want +got):\n%s", diff)
	}
	if got := f.states(); got != "base=active fresh=active" {
		t.Errorf("after the change: %s", got)
	}
	// What could not be done is planned until it can.
	if err := f.Rele("base"); err != nil {
		t.Fatal(err)
	}
	done, err = f.Reconfigure(ctx, next)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"unload base: it is not configured any more"}, changesAs(done)); diff != "" {
		t.Errorf("Reconfigure again (-want +got):\n%s", diff)
	}
	if got := f.states(); got != "fresh=active" {
		t.Errorf("in the end: %s", got)
	}
}

func TestPlan_BadSpecsChangeNothing(t *testing.T) {
	f := newFixture(t, host.Config{})
	f.put("h")
	f.boot(shared.HelperSpec{Name: "h"})
	for _, specs := range [][]shared.HelperSpec{
		{{Name: "h"}, {Name: "h"}},
		{{Name: "no@name"}},
		{{Name: "h", Timeout: -1}},
		{{Command: []string{"/bin/true"}}},
	} {
		if _, err := f.Plan(specs); err == nil {
			t.Errorf("Plan(%+v) did not fail", specs)
		}
		if _, err := f.Reconfigure(context.Background(), specs); err == nil {
			t.Errorf("Reconfigure(%+v) did not fail", specs)
		}
	}
	if _, ok := f.Configured("h"); !ok || f.states() != "h=active" {
		t.Errorf("something has changed: %s", f.states())
	}
}

// Orders change together, and a contradiction changes nothing.
func TestReorder(t *testing.T) {
	f := newFixture(t, host.Config{})
	ctx := context.Background()
	for _, name := range []string{"a", "b"} {
		hosttest.Put(f.path, helper.Helper[struct{}]{
			Name: name, Version: "1.0.0",
			Hooks: helper.Hooks[struct{}]{"thing.use": func(context.Context, *helper.Call, *struct{}) error { return nil }},
		})
	}
	ordered := func(a, b string) []shared.HelperSpec {
		var specs []shared.HelperSpec
		for name, text := range map[string]string{"a": a, "b": b} {
			order, err := shared.ParseOrder(text)
			if err != nil {
				t.Fatal(err)
			}
			specs = append(specs, shared.HelperSpec{Name: name, Hooks: []shared.HookSpec{{Point: "thing.use", Order: order}}})
		}
		return specs
	}
	f.boot(ordered("first", "")...)
	use := head(t, f.Host, "thing.use", hhook.Options{})
	names := func() string {
		var out []string
		for _, hook := range use.Hooks() {
			out = append(out, hook.Helper)
		}
		return strings.Join(out, " ")
	}
	if got := names(); got != "a b" {
		t.Fatalf("order %s", got)
	}
	for _, step := range []struct{ a, b, want string }{{"", "first", "b a"}, {"first", "", "a b"}, {"before b", "after a", "a b"}, {"after b", "before a", "b a"}} {
		done, err := f.Reconfigure(ctx, ordered(step.a, step.b))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range done {
			if c.Err != nil || c.Action != host.ChangeReorder {
				t.Errorf("%v", changesAs(done))
			}
		}
		if got := names(); got != step.want {
			t.Errorf("a %q, b %q: order %s, want %s", step.a, step.b, got, step.want)
		}
	}
	done, err := f.Reconfigure(ctx, ordered("after b", "after a"))
	if err != nil || len(done) != 1 || done[0].Helper != "b" {
		t.Fatalf("%v, %v", changesAs(done), err)
	}
	wantErr(t, done[0].Err, shared.ErrInvalid, "contradicts itself")
	if got := names(); got != "b a" {
		t.Errorf("after a contradiction: order %s", got)
	}
}

// Who was loaded by itself and is now to be there from the start stays, also if that takes another process.
func TestPlan_FromAutoloadedToBoot(t *testing.T) {
	f := newFixture(t, host.Config{})
	f.put("top", "base")
	f.put("base")
	f.configure("top", "base")
	f.must(f.load("top"))
	base := shared.HelperSpec{Name: "base", Env: map[string]string{"NEW": "1"}, AutounloadAfter: time.Hour}
	done, err := f.Reconfigure(t.Context(), []shared.HelperSpec{{Name: "top", Load: shared.LoadManual}, base})
	f.must(err)
	if diff := cmp.Diff([]string{"restart base: env has changed"}, changesAs(done)); diff != "" {
		t.Errorf("Reconfigure (-want +got):\n%s", diff)
	}
	if st := f.helper("base"); st.Autoloaded || !st.AutounloadAt.IsZero() {
		t.Errorf("%+v", st)
	}
}

// A builtin that gets another spec keeps what the load had said beside it.
func TestPlan_BuiltinKeepsWhatItsLoadSaid(t *testing.T) {
	f := newFixture(t, host.Config{})
	var got []any
	f.must(f.OfferBuiltin(host.Builtin{
		Name: "clock", Version: "1.0.0", Properties: []shared.Property{{Name: "rate", Type: shared.PropertyInt}, {Name: "zone", Type: shared.PropertyString}},
		Init: func(_ context.Context, p map[string]any) error { got = append(got, p["rate"], p["zone"]); return nil },
	}))
	spec := shared.HelperSpec{Name: "clock", Load: shared.LoadManual}
	f.must(f.Configure(t.Context(), []shared.HelperSpec{spec}))
	f.must(f.Load(t.Context(), spec, host.LoadOptions{Properties: map[string]any{"rate": int64(5)}}))
	spec.Config = map[string]any{"zone": "UTC", "rate": int64(1)}
	done, err := f.Reconfigure(t.Context(), []shared.HelperSpec{spec})
	f.must(err)
	if diff := cmp.Diff([]string{"restart clock: config has changed"}, changesAs(done)); diff != "" {
		t.Errorf("Reconfigure (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]any{int64(5), nil, int64(5), "UTC"}, got); diff != "" {
		t.Errorf("properties (-want +got):\n%s", diff)
	}
}

// Neither a reload nor a restart brings back what is disabled, also of a helper that was loaded by force.
func TestL13_OnlyAForcedLoad(t *testing.T) {
	f := newFixture(t, host.Config{})
	f.must(f.OfferBuiltin((&clock{}).builtin()))
	f.must(f.OfferBuiltin(host.Builtin{Name: "tick", Version: "1.0.0"}))
	f.must(f.load("clock"))
	f.must(f.Unload(t.Context(), "clock", disable))
	f.put("user")
	for _, name := range []string{"user", "tick"} {
		f.must(f.Load(t.Context(), shared.HelperSpec{Name: name}, host.LoadOptions{Force: true}))
	}
	requires := []shared.Requirement{{Name: "clock"}}
	done, err := f.Reconfigure(t.Context(), []shared.HelperSpec{{Name: "user", Requires: requires}, {Name: "tick", Requires: requires}})
	f.must(err)
	want := []string{"restart user: requires has changed (EPERM)", "restart tick: requires has changed (EPERM)"}
	if diff := cmp.Diff(want, changesAs(done)); diff != "" {
		t.Errorf("Reconfigure (-want +got):\n%s", diff)
	}
	f.put("user", "clock")
	wantErr(t, f.Restart(t.Context(), "user"), shared.ErrPermission, "only a forced load brings it back")
	f.want("clock=disabled user=active tick=active")
}
