package host_test

import (
	"context"
	"strings"
	"testing"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/shared"
)

// loadOrdered loads helpers, written "name", "name:order" or "name:order:requirement", which hook p.early and p.late.
func (f *fixture) loadOrdered(helpers ...string) {
	f.t.Helper()
	f.must(f.tryOrdered(helpers...))
}

func (f *fixture) tryOrdered(helpers ...string) error {
	for _, text := range helpers {
		parts := strings.Split(text+"::", ":")
		hp := hooking(parts[0], "p.early", "p.late")
		if parts[2] != "" {
			hp.Requires = []string{parts[2]}
		}
		hosttest.Put(f.path, hp)
		place, err := shared.ParseOrder(parts[1])
		f.must(err)
		spec := shared.HelperSpec{Name: parts[0], Hooks: []shared.HookSpec{{Point: "p.early", Order: place}, {Point: "p.late", Order: place}}}
		if err := f.Load(context.Background(), spec, host.LoadOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// Hooks run in the order asked for, then behind whom they require, then as loaded, on heads from before and after the loads alike.
func TestH7_Order(t *testing.T) {
	for _, c := range []struct {
		name    string
		helpers []string
		want    string
	}{
		{"as loaded", []string{"a", "b", "c"}, "a b c"},
		{"first and last", []string{"a:last", "b", "c:first", "d"}, "c b d a"},
		{"two firsts", []string{"a", "b:first", "c:first"}, "b c a"},
		{"before, of one that comes later", []string{"a:before c", "b", "c", "d:before b"}, "a c d b"},
		{"after, of one that comes later", []string{"a:after c", "b", "c"}, "b c a"},
		{"before the first", []string{"a:first", "b:before a", "c"}, "b a c"},
		{"of one that never comes", []string{"a:before ghost", "b:after ghost"}, "a b"},
		{"what the operator says before requirements", []string{"a", "b:first:a"}, "b a"},
		{"what is required first", []string{"z:before a", "a", "b::z"}, "z a b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t, host.Config{})
			edge, err := f.Vnet("edge")
			f.must(err)
			early := head(t, f.Host, "p.early", hhook.Options{})
			f.loadOrdered(c.helpers...)
			late := head(t, f.Host, "p.late", hhook.Options{})
			other, err := edge.RegisterHead("p.late", hhook.Options{})
			f.must(err)
			for name, head := range map[string]*hhook.Head{"early": early, "late": late, "late, in another vnet": other} {
				if got := order(head); got != c.want {
					t.Errorf("%s: %s, want %s", name, got, c.want)
				}
			}
		})
	}
}

// A requirement comes first also where the one between has no hook, and though it was entered later.
func TestH7_RequirementsOfRequirements(t *testing.T) {
	f := newFixture(t, host.Config{})
	early := head(t, f.Host, "p.early", hhook.Options{})
	top := hooking("top", "p.early", "p.late")
	top.Requires = []string{"middle"}
	hosttest.Put(f.path, top)
	f.put("middle", "base")
	hosttest.Put(f.path, hooking("base", "p.early", "p.late"))
	f.configure("top", "middle", "base")
	f.must(f.load("top"))
	late := head(t, f.Host, "p.late", hhook.Options{})
	if order(early) != "base top" || order(late) != "base top" {
		t.Errorf("early %s, late %s; want base top", order(early), order(late))
	}
	f.must(f.Restart(t.Context(), "top"))
	f.must(f.Restart(t.Context(), "base"))
	if order(early) != "base top" || order(late) != "base top" {
		t.Errorf("after restarts: early %s, late %s", order(early), order(late))
	}
}

// An order that contradicts itself fails the load that brings it about, and changes nothing.
func TestH7_Contradictions(t *testing.T) {
	f := newFixture(t, host.Config{})
	early := head(t, f.Host, "p.early", hhook.Options{})
	f.loadOrdered("a:before c", "b:before a")
	wantErr(t, f.tryOrdered("c:before b"), shared.ErrInvalid, "contradicts itself")
	f.want("a=active b=active")
	f.loadOrdered("d")
	if got := order(early); got != "b a d" {
		t.Errorf("order %s", got)
	}
	// Where there was no head, the one that comes last is refused.
	g := newFixture(t, host.Config{})
	g.loadOrdered("a:before b", "b:before a")
	_, err := g.RegisterHead("p.late", hhook.Options{})
	wantErr(t, err, shared.ErrInvalid, "contradicts itself")
	g.must(g.unload("b"))
	late := head(t, g.Host, "p.late", hhook.Options{})
	if got := order(late); got != "a" {
		t.Errorf("order %s", got)
	}
}

// The same point in several vnets: helpers hook each, and each ends by itself.
func TestH8_SeveralVnets(t *testing.T) {
	log := &logBuffer{}
	f := newFixture(t, host.Config{Logger: log.logger()})
	ctx := t.Context()
	in := func(name string, points ...shared.HookPoint) (*host.Vnet, []*hhook.Head) {
		v, err := f.Vnet(name)
		f.must(err)
		var heads []*hhook.Head
		for _, p := range points {
			head, err := v.RegisterHead(p, hhook.Options{})
			f.must(err)
			heads = append(heads, head)
		}
		return v, heads
	}
	_, first := in("", "p.early")
	edge, second := in("edge", "p.early")
	f.loadOrdered("a", "b")
	core, third := in("core", "p.early", "p.late")
	for _, heads := range [][]*hhook.Head{first, second, third} {
		for _, head := range heads {
			if order(head) != "a b" {
				t.Errorf("%s in %q: %s", head.Point(), head.Vnet(), order(head))
			}
		}
	}
	for _, head := range []*hhook.Head{first[0], second[0], third[0]} {
		if _, err := head.Run(ctx, nil, nil); err != nil {
			t.Error(err)
		}
	}
	if st := f.helper("a"); st.Committed != 3 {
		t.Errorf("%d calls, want one on each", st.Committed)
	}

	f.must(second[0].Close(ctx)) // in order: no leak
	f.must(edge.Close(ctx))
	if got := f.went(host.EventLeaked); got != "" {
		t.Errorf("leaks: %s", got)
	}
	f.must(core.Close(ctx))
	var leaks []string
	for _, e := range f.History() {
		if e.Type == host.EventLeaked {
			leaks = append(leaks, string(e.Point)+": "+e.Message)
		}
	}
	want := "p.early: still registered when its vnet was closed in vnet core\np.late: still registered when its vnet was closed in vnet core"
	if got := strings.Join(leaks, "\n"); got != want {
		t.Errorf("leaks:\n%s\nwant:\n%s", got, want)
	}
	if n := strings.Count(log.String(), "hook head leaked"); n != 2 {
		t.Errorf("%d leaks in the log", n)
	}
	if _, err := third[0].Run(ctx, nil, nil); err == nil {
		t.Error("a leaked head still runs")
	}
	if st := f.Hooks(); len(st) != 1 || len(st[0].Hooks) != 2 {
		t.Errorf("%+v; want the default vnet's head, with both helpers", st)
	}

	// A vnet of the same name is another one, which closing the old one again does not touch.
	again, fourth := in("edge", "p.early")
	f.must(edge.Close(ctx))
	if held, err := again.Head("p.early"); err != nil || held != fourth[0] || order(held) != "a b" {
		t.Errorf("%v, %s", err, order(fourth[0]))
	}
	fourth[0].Release()
	if v, err := f.Vnet("edge"); err != nil || v != again {
		t.Errorf("%p, %v; want %p", v, err, again)
	}
	f.must(fourth[0].Close(ctx))
	f.must(first[0].Close(ctx))
	f.must(f.unload("a"))
	f.must(f.unload("b"))
}

// What a host's end finds is a leak, too.
func TestH8_ShutdownReportsLeaks(t *testing.T) {
	f := newFixture(t, host.Config{})
	head(t, f.Host, "p.early", hhook.Options{})
	f.must(f.Shutdown(context.Background()))
	if got := f.said(host.EventLeaked); got != "still registered when its vnet was closed" {
		t.Errorf("event: %q", got)
	}
}
