package host_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/helper"
	"github.com/khelp/khelp/shared/wire"
)

// changing is a helper whose hooks come and go.
type changing struct {
	*fixture
	asks *helper.Host // of the last incarnation
	runs atomic.Int64 // of hooks that were added
}

// newChanging loads it, declared to hook p.declared.
func newChanging(t *testing.T, init initFunc) *changing {
	t.Helper()
	c := &changing{fixture: newFixture(t, host.Config{})}
	hp := hooking("changing", "p.declared")
	hp.Init = func(ctx context.Context, h *helper.Host) error {
		c.asks = h
		if init != nil {
			return init(ctx, h)
		}
		return nil
	}
	hosttest.Put(c.path, hp)
	return c
}

func (c *changing) add(point shared.HookPoint, udata string) error {
	return helper.AddHook(context.Background(), c.asks, c.decl(point, udata))
}

func (c *changing) decl(point shared.HookPoint, udata string) helper.HookDecl[struct{}] {
	return helper.HookDecl[struct{}]{
		Point: point, UData: []byte(udata),
		Func: func(context.Context, *helper.Call, *struct{}) error { c.runs.Add(1); return nil },
	}
}

func (c *changing) remove(point shared.HookPoint, udata string) error {
	return c.asks.RemoveHook(context.Background(), point, []byte(udata))
}

// hooks checks the points of the helper's hooks, as stat shows them, and how many hooks are on a head.
func (c *changing) hooks(points string, head *hhook.Head, n int) {
	c.t.Helper()
	var have []string
	for _, p := range c.helper("changing").Hooks {
		have = append(have, string(p))
	}
	if got := strings.Join(have, " "); got != points {
		c.t.Errorf("stat shows hooks on %s; want %s", got, points)
	}
	if got := len(head.Hooks()); got != n {
		c.t.Errorf("%d hooks on %s, want %d", got, head.Point(), n)
	}
}

// Hooks added and removed in Init are as if they had been declared so.
func TestK5_InInit(t *testing.T) {
	var c *changing
	c = newChanging(t, func(context.Context, *helper.Host) error {
		return errors.Join(c.add("p.early", "x"), c.add("p.early", "y"), c.add("p.late", ""), c.remove("p.declared", ""), c.remove("p.early", "y"))
	})
	early, declared := head(t, c.Host, "p.early", hhook.Options{}), head(t, c.Host, "p.declared", hhook.Options{})
	c.must(c.load("changing"))
	late := head(t, c.Host, "p.late", hhook.Options{})
	c.hooks("p.early p.late", early, 1)
	c.hooks("p.early p.late", late, 1)
	c.hooks("p.early p.late", declared, 0)
	for _, head := range []*hhook.Head{early, late} {
		if _, err := head.Run(t.Context(), nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := c.runs.Load(); n != 2 {
		t.Errorf("%d runs of what was added, want 2", n)
	}
	c.must(c.unload("changing"))
	if early.Enabled() || late.Enabled() {
		t.Error("hooks stay behind")
	}
}

// Hooks added and removed while the helper runs go onto the heads there are, and those to come.
func TestK5_AtRunTime(t *testing.T) {
	c := newChanging(t, nil)
	edge, err := c.Vnet("edge")
	c.must(err)
	c.must(c.load("changing"))
	early := head(t, c.Host, "p.early", hhook.Options{})
	other, err := edge.RegisterHead("p.early", hhook.Options{})
	c.must(err)
	c.must(c.add("p.early", "x"))
	c.hooks("p.declared p.early", early, 1)
	c.hooks("p.declared p.early", other, 1)
	wantErr(t, c.add("p.early", "x"), shared.ErrExist, "p.early")
	c.must(c.add("p.early", "y"))
	c.must(c.add("p.late", ""))
	late := head(t, c.Host, "p.late", hhook.Options{})
	c.hooks("p.declared p.early p.early p.late", early, 2)
	c.hooks("p.declared p.early p.early p.late", late, 1)
	wantErr(t, c.add("early", ""), shared.ErrInvalid, "subsystem.point")

	c.must(c.remove("p.early", "x"))
	c.must(c.remove("p.late", ""))
	c.must(c.remove("p.declared", ""))
	c.hooks("p.early", early, 1)
	c.hooks("p.early", late, 0)
	wantErr(t, c.remove("p.early", "x"), shared.ErrNotExist, "p.early")
	c.must(c.add("p.early", "x")) // another one
	c.hooks("p.early p.early", other, 2)
	if _, err := early.Run(t.Context(), nil, nil); err != nil {
		t.Fatal(err)
	}
	if n := c.runs.Load(); n != 2 {
		t.Errorf("%d runs, want 2", n)
	}
	if st := c.helper("changing"); st.Committed != 2 {
		t.Errorf("%+v; want 2 committed", st)
	}
}

// A hook that does not go onto one head goes onto none.
func TestK5_AllOrNone(t *testing.T) {
	f := newFixture(t, host.Config{})
	edge, err := f.Vnet("edge")
	f.must(err)
	free := head(t, f.Host, "p.x", hhook.Options{})
	full, err := edge.RegisterHead("p.x", hhook.Options{})
	f.must(err)
	var asks *helper.Host
	hp := hooking("changing", "p.x")
	hp.Init = func(_ context.Context, h *helper.Host) error { asks = h; return nil }
	hosttest.Put(f.path, hp)
	place := shared.Order{Place: shared.After, Helper: "two"}
	spec := shared.HelperSpec{Name: "changing", Hooks: []shared.HookSpec{{Point: "p.x", Order: place}}}
	f.must(f.Load(t.Context(), spec, host.LoadOptions{}))
	f.must(asks.RemoveHook(t.Context(), "p.x", nil))
	// The embedder has put a hook there by hand that leaves no place for the helper's.
	two := hhook.NewHook(hhook.HookConfig{Helper: "two", ID: 1000, InProc: true, Order: shared.Order{Place: shared.After, Helper: "changing"}})
	f.must(full.Add(two))
	again := helper.HookDecl[struct{}]{Point: "p.x", Func: pass}
	wantErr(t, helper.AddHook(t.Context(), asks, again), shared.ErrInvalid, "contradicts itself")
	if free.Enabled() || order(full) != "two" || len(f.helper("changing").Hooks) != 0 {
		t.Errorf("%q, %q, %v: a hook that could not be bound everywhere stays", order(free), order(full), f.helper("changing").Hooks)
	}
	full.Remove(two)
	f.must(helper.AddHook(t.Context(), asks, again))
	if order(free) != "changing" || order(full) != "changing" {
		t.Errorf("%q, %q", order(free), order(full))
	}
}

// A head that is closing is none to add a hook to.
func TestK5_ClosingHeadIsPassedOver(t *testing.T) {
	c := newChanging(t, nil)
	closing := head(t, c.Host, "p.x", hhook.Options{})
	running, goOn := make(chan struct{}), make(chan struct{})
	c.must(c.AddBuiltin(host.Builtin{Name: "block", Hooks: map[shared.HookPoint]host.BuiltinHook{
		"p.x": func(context.Context, *host.BuiltinCall) error { close(running); <-goOn; return nil },
	}}))
	c.must(c.load("changing"))
	run := inBackground(func() error { _, err := closing.Run(context.Background(), nil, nil); return err })
	hosttest.Await(t, "a run", running)
	closed := inBackground(func() error { return closing.Close(context.Background()) })
	hosttest.Until(t, "closing", func() bool { return !closing.Enabled() })
	c.must(c.add("p.x", ""))
	c.hooks("p.declared p.x", closing, 0)
	close(goOn)
	c.must(hosttest.Await(t, "the run", run))
	c.must(hosttest.Await(t, "the end of the head", closed))
}

// There is a limit, and refused ones do not count.
func TestK5_Limit(t *testing.T) {
	c := newChanging(t, nil)
	c.must(c.load("changing"))
	for i := range shared.MaxHooks - 1 {
		c.must(c.add("p.x", fmt.Sprint(i)))
	}
	wantErr(t, c.add("p.x", "more"), shared.ErrInvalid, "256")
	c.must(c.remove("p.x", "0"))
	c.must(c.add("p.x", "more"))
	for i := range 3 * shared.MaxHooks { // nor do those that have been removed
		c.must(c.remove("p.x", "more"))
		if c.must(c.add("p.x", "more")); i%100 == 0 {
			wantErr(t, c.add("p.x", "one more"), shared.ErrInvalid, "256")
		}
	}
}

// The host holds doubles and the limit against helpers that do not.
func TestK5_TheHostLooksToo(t *testing.T) {
	f := newFixture(t, host.Config{})
	f.putRaw("raw", func(*wire.Modinfo) {})
	asked := f.raw["raw"].asking()
	f.must(f.load("raw"))
	hook := &wire.HookInfo{Point: "p.x", Index: 7}
	add := &wire.ControlToHost{Body: &wire.ControlToHost_AddHook{AddHook: &wire.AddHookRequest{Hook: hook}}}
	remove := &wire.ControlToHost{Body: &wire.ControlToHost_RemoveHook{RemoveHook: &wire.RemoveHookRequest{Point: "p.x", Index: 7}}}
	f.must(asked(add))
	wantErr(t, asked(add), shared.ErrExist, "raw has hook 7 with the same udata on p.x already")
	f.must(asked(remove))
	wantErr(t, asked(remove), shared.ErrNotExist, "raw has no hook 7")
	for i := range shared.MaxHooks {
		hook.Index = uint32(i)
		f.must(asked(add))
	}
	hook.Index++
	wantErr(t, asked(add), shared.ErrInvalid, "raw has 256 hooks, which is the limit")
	hook.Point = "x"
	wantErr(t, asked(add), shared.ErrInvalid, "subsystem.point")
}

// What was added ends with the process; what was declared stands there and fails, as it is to.
func TestK5_GoneAfterACrash(t *testing.T) {
	var c *changing
	c = newChanging(t, func(context.Context, *helper.Host) error { return c.add("p.init", "") })
	declared := head(t, c.Host, "p.declared", hhook.Options{Kind: hhook.Filter})
	init, later := head(t, c.Host, "p.init", hhook.Options{}), head(t, c.Host, "p.later", hhook.Options{})
	c.must(c.load("changing"))
	c.must(c.add("p.later", ""))
	if _, err := later.Run(t.Context(), nil, nil); err != nil {
		t.Fatal(err)
	}
	c.hooks("p.declared p.init p.later", later, 1)
	c.path.Crash("changing")
	c.await("changing=failed")
	c.hooks("p.declared", init, 0)
	c.hooks("p.declared", later, 0)
	if v, err := declared.Run(t.Context(), nil, nil); err != nil || !v.Rejected || v.Cause != shared.CauseCrash {
		t.Errorf("%+v, %v; want a reject by crash", v, err)
	}
	if st := c.helper("changing"); st.Committed != 1 {
		t.Errorf("%+v; what the hooks counted is gone with them", st)
	}
	c.must(c.Restart(t.Context(), "changing"))
	c.hooks("p.declared p.init", init, 1)
	c.hooks("p.declared p.init", later, 0)
	c.hooks("p.declared p.init", declared, 1)
}

// Calls that passed the point before its hook was removed end well: those under way, and those queued behind them.
func TestK5_RemovedUnderCalls(t *testing.T) {
	f := newFixture(t, host.Config{})
	point := head(t, f.Host, "p.x", hhook.Options{Async: true})
	began, release := make(chan struct{}), make(chan struct{})
	var asks *helper.Host
	hosttest.Put(f.path, helper.Helper[counter]{
		Name: "counting", Version: "1.0.0", Classes: helper.Classes{"tcp"}, MaySleep: []shared.HookPoint{"p.x"},
		Hooks: helper.Hooks[counter]{"p.x": func(_ context.Context, c *helper.Call, s *counter) error {
			if s.In++; s.In == 1 {
				close(began)
				<-release
			}
			return nil
		}},
		Init: func(_ context.Context, h *helper.Host) error { asks = h; return nil },
	})
	f.must(f.load("counting"))
	o := object(t, f.Host, "tcp")
	defer destroy(t, o)
	const calls = 50
	for range calls {
		if _, err := point.Run(t.Context(), o, nil); err != nil {
			t.Fatal(err)
		}
	}
	hosttest.Await(t, "the first call", began)
	f.must(asks.RemoveHook(t.Context(), "p.x", nil))
	if point.Enabled() {
		t.Error("the hook is still there")
	}
	if _, err := point.Run(t.Context(), o, nil); err != nil {
		t.Fatal(err)
	}
	close(release)
	hosttest.Until(t, "the calls have ended", func() bool { return f.helper("counting").Calls == calls })
	if st := f.helper("counting"); st.Committed != calls {
		t.Errorf("%d committed, missed %v; want %d", st.Committed, st.Missed, calls)
	}
}
