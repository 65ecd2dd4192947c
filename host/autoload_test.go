package host_test

import (
	"context"
	"testing"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/helper"
)

// What a requirement, or a request, may pull in is what is configured, unless the operator has widened that.
func TestL21_Scopes(t *testing.T) {
	for _, c := range []struct {
		name       string
		scope      shared.AutoloadScope
		configured []string
		allowed    bool
	}{
		{name: "configured", configured: []string{"base"}, allowed: true},
		{name: "not configured"},
		{name: "another is", configured: []string{"other"}},
		{name: "the path", scope: shared.AutoloadScope{Path: true}, allowed: true},
		{name: "its name", scope: shared.AutoloadScope{Names: []string{"x", "base"}}, allowed: true},
		{name: "another name", scope: shared.AutoloadScope{Names: []string{"x"}}},
		{name: "another name, and configured", scope: shared.AutoloadScope{Names: []string{"x"}}, configured: []string{"base"}, allowed: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t, host.Config{Autoload: c.scope})
			f.put("base")
			f.put("requiring", "base")
			f.putInit("asking", loading("base"))
			f.configure(c.configured...)
			for _, asker := range []string{"requiring", "asking"} {
				err := f.load(asker)
				if c.allowed {
					f.must(err)
					if st := f.helper("base"); !st.Autoloaded {
						t.Errorf("%+v", st)
					}
					f.must(f.unload(asker))
					f.must(f.unload("base"))
					continue
				}
				says := asker + " asks for base, which is not configured and may not be autoloaded"
				wantErr(t, err, shared.ErrPermission, says)
				if got := f.said(host.EventRefused); got != says {
					t.Errorf("event: %q", got)
				}
				f.want("")
			}
			if got := f.went(host.EventRefused); (got == "") != c.allowed || !c.allowed && got != "refused requiring, refused asking" {
				t.Errorf("events: %s", got)
			}
			// An operator may, and what is there is fine.
			f.must(f.load("base"))
			f.must(f.load("requiring"))
			if st := f.helper("base"); st.Autoloaded || st.Refs != 1 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// What does not exist is not refused: there is nothing to be allowed.
func TestL21_NothingThere(t *testing.T) {
	f := newFixture(t, host.Config{})
	f.put("requiring", "ghost")
	f.putInit("asking", loading("ghost"))
	for _, asker := range []string{"requiring", "asking"} {
		wantErr(t, f.load(asker), shared.ErrNotExist, "ghost")
	}
	if got := f.went(host.EventRefused); got != "" {
		t.Errorf("events: %s", got)
	}
}

// A request while the helper runs is held against the same, and names the incarnation.
func TestL21_AtRunTime(t *testing.T) {
	f := newFixture(t, host.Config{})
	f.put("base")
	var asker *helper.Host
	f.putInit("asking", func(_ context.Context, h *helper.Host) error { asker = h; return nil })
	f.must(f.load("asking"))
	f.must(f.Restart(t.Context(), "asking"))
	wantErr(t, asker.Load(t.Context(), "base"), shared.ErrPermission, "asking asks for base")
	if got := f.went(host.EventRefused); got != "refused asking" {
		t.Errorf("events: %s", got)
	}
	for _, e := range f.History() {
		if e.Type == host.EventRefused && e.Incarnation != 2 {
			t.Errorf("%+v; want incarnation 2", e)
		}
	}
	f.configure("base")
	f.must(asker.Load(t.Context(), "base ~> 1.0"))
	wantErr(t, asker.Load(t.Context(), "base"), shared.ErrExist, "loaded already")
	wantErr(t, asker.Load(t.Context(), "asking"), shared.ErrExist, "itself")
	f.want("asking=active base=active")
	if st := f.helper("base"); !st.Autoloaded || st.Refs != 0 {
		t.Errorf("%+v", st)
	}
}

// Whoever may not have helpers autoloaded gets what is active, and no more: nothing configured, primed or builtin either.
func TestL21_NoAutoload(t *testing.T) {
	f := newFixture(t, host.Config{})
	f.put("top", "middle")
	f.put("middle", "base")
	f.put("base")
	f.put("boot")
	f.put("booted", "boot")
	f.put("timed", "clock")
	f.must(f.OfferBuiltin((&clock{}).builtin()))
	f.configure("top", "middle", "base", "booted", "timed")
	load := func(name string) error {
		return f.Load(context.Background(), shared.HelperSpec{Name: name}, host.LoadOptions{NoAutoload: true})
	}
	const says = "but whoever asked for "
	wantErr(t, load("top"), shared.ErrPermission, "top asks for middle, "+says+"top may not have helpers autoloaded")
	wantErr(t, load("timed"), shared.ErrPermission, "timed asks for clock")
	for _, e := range f.Prime(context.Background(), specsOf("boot")) {
		t.Fatal(e)
	}
	wantErr(t, load("booted"), shared.ErrPermission, "booted asks for boot")
	f.want("boot=primed")
	f.must(load("boot"))
	f.must(load("booted"))
	f.must(load("base"))
	f.must(load("middle"))
	f.must(load("top"))
	if got := f.went(host.EventRefused); got != "refused top, refused timed, refused booted" {
		t.Errorf("events: %s", got)
	}
}

// Nor does a helper get for itself, in its Init, what whoever asked for it may not have; once it is there it asks on its own account.
func TestL21_NoAutoloadByRequest(t *testing.T) {
	f := newFixture(t, host.Config{})
	f.put("base")
	f.putInit("asking", loading("base"))
	f.putInit("clocked", loading("clock"))
	f.putInit("child", loading("base"))
	f.putInit("nested", loading("child"))
	var asker *helper.Host
	f.putInit("later", func(_ context.Context, h *helper.Host) error { asker = h; return nil })
	f.must(f.OfferBuiltin((&clock{}).builtin()))
	f.configure("base", "asking", "clocked", "child", "nested", "later")
	load := func(name string) error {
		return f.Load(context.Background(), shared.HelperSpec{Name: name}, host.LoadOptions{NoAutoload: true})
	}
	const says = "but whoever asked for "
	wantErr(t, load("asking"), shared.ErrPermission, "asking asks for base, "+says+"asking may not have helpers autoloaded")
	wantErr(t, load("clocked"), shared.ErrPermission, "clocked asks for clock, "+says)
	wantErr(t, load("nested"), shared.ErrPermission, "nested asks for child, "+says)
	f.want("")
	f.must(load("later"))
	f.must(asker.Load(t.Context(), "base"))
	f.want("later=active base=active")
	if got := f.went(host.EventRefused); got != "refused asking, refused clocked, refused nested" {
		t.Errorf("events: %s", got)
	}
}

// Whoever may waits for whom somebody else has loaded, or brings it if that one may not.
func TestL21_AnothersRefusalIsNotOurs(t *testing.T) {
	f := newFixture(t, host.Config{})
	began, release := make(chan struct{}, 2), make(chan struct{})
	f.put("middle", "slow", "base")
	f.putInit("slow", blocked(began, release))
	f.put("base")
	f.put("top", "middle")
	f.configure("middle", "slow", "base", "top")
	slow := inBackground(func() error { return f.load("slow") })
	hosttest.Await(t, "Init of slow", began)
	refused := inBackground(func() error {
		return f.Load(context.Background(), shared.HelperSpec{Name: "middle"}, host.LoadOptions{NoAutoload: true})
	})
	f.await("slow=starting middle=starting")
	top := inBackground(func() error { return f.load("top") })
	f.await("slow=starting middle=starting top=starting")
	close(release)
	f.must(hosttest.Await(t, "slow", slow))
	wantErr(t, hosttest.Await(t, "middle", refused), shared.ErrPermission, "middle asks for base")
	f.must(hosttest.Await(t, "top", top))
	if st := f.helper("middle"); !st.Autoloaded || st.State != shared.StateActive {
		t.Errorf("%+v", st)
	}
}
