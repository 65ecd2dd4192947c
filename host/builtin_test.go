package host_test

import (
	"context"
	"errors"
	"testing"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/shared"
)

// clock is a builtin that counts what it is asked for.
type clock struct {
	inits, finis int
	refuse       error // of Init and Fini
}

func (c *clock) builtin() host.Builtin {
	return host.Builtin{
		Name: "clock", Version: "1.2.0",
		Hooks: map[shared.HookPoint]host.BuiltinHook{"tcp.est_in": func(context.Context, *host.BuiltinCall) error { return nil }},
		Init:  func(context.Context, map[string]any) error { c.inits++; return c.refuse },
		Fini:  func(context.Context) error { c.finis++; return c.refuse },
	}
}

var disable = host.UnloadOptions{Disable: true}

// A builtin is not unloaded, but disabled, and then only who insists gets it back.
func TestL13_DisableAndForce(t *testing.T) {
	f := newFixture(t, host.Config{})
	point := head(t, f.Host, "tcp.est_in", hhook.Options{})
	ctx := context.Background()
	c := &clock{}
	f.must(f.AddBuiltin(c.builtin()))
	wantErr(t, f.unload("clock"), shared.ErrBusy, "clock is builtin, which can only be disabled")
	if st := f.helper("clock"); st.Source != shared.SourceBuiltin || st.Refs != 0 || st.Autoloaded || !point.Enabled() {
		t.Errorf("%+v", st)
	}
	c.refuse = errors.New("in use")
	wantErr(t, f.Unload(ctx, "clock", disable), shared.ErrBusy, "in use")
	f.want("clock=active")
	if !point.Enabled() {
		t.Error("its hooks are gone, though it has refused")
	}
	c.refuse = nil
	f.must(f.Hold("clock"))
	wantErr(t, f.Unload(ctx, "clock", disable), shared.ErrBusy, "held by 1 hold")
	f.must(f.Rele("clock"))

	f.must(f.Unload(ctx, "clock", disable))
	if st := f.helper("clock"); st.State != shared.StateDisabled || st.Refs != -1 || point.Enabled() {
		t.Errorf("%+v, enabled %v; want it disabled, with refs -1", st, point.Enabled())
	}
	wantErr(t, f.Unload(ctx, "clock", disable), shared.ErrBusy, "disabled already")
	wantErr(t, f.load("clock"), shared.ErrPermission, "only a forced load brings it back")
	wantErr(t, f.Hold("clock"), shared.ErrNotExist, "clock")
	wantErr(t, f.OfferBuiltin(c.builtin()), shared.ErrExist, "disabled")

	c.refuse = errors.New("no device")
	wantErr(t, f.Load(ctx, shared.HelperSpec{Name: "clock"}, host.LoadOptions{Force: true}), shared.ErrInvalid, "Init: no device")
	if st := f.helper("clock"); st.State != shared.StateDisabled || st.Refs != -1 {
		t.Errorf("after a forced load that failed: %+v", st)
	}
	wantErr(t, f.load("clock"), shared.ErrPermission, "only a forced load")
	c.refuse = nil
	f.must(f.Load(ctx, shared.HelperSpec{Name: "clock"}, host.LoadOptions{Force: true}))
	if st := f.helper("clock"); st.State != shared.StateActive || st.Refs != 0 || !point.Enabled() {
		t.Errorf("%+v, enabled %v", st, point.Enabled())
	}
	if c.inits != 3 || c.finis != 2 {
		t.Errorf("%d Inits, %d Finis; want 3 and 2", c.inits, c.finis)
	}
}

// A disabled builtin is refused as a requirement, too, unless the load is forced; and it was finished once.
func TestL13_AsARequirement(t *testing.T) {
	f := newFixture(t, host.Config{})
	ctx := context.Background()
	c := &clock{}
	f.must(f.OfferBuiltin(c.builtin()))
	f.put("user", "clock ~> 1.0")
	f.must(f.load("user")) // what is offered is configured
	f.want("user=active clock=active")
	if st := f.helper("clock"); st.Autoloaded || st.Refs != 1 {
		t.Errorf("%+v; want a builtin, which never leaves by itself", st)
	}
	wantErr(t, f.Unload(ctx, "clock", disable), shared.ErrBusy, "held by user")
	f.must(f.unload("user"))
	f.must(f.Unload(ctx, "clock", disable))
	wantErr(t, f.load("user"), shared.ErrPermission, "user requires clock: builtin \"clock\" is disabled")
	f.must(f.Load(ctx, shared.HelperSpec{Name: "user"}, host.LoadOptions{Force: true}))
	f.must(f.unload("user"))
	f.must(f.Unload(ctx, "clock", disable))

	// A load that fails leaves it as it was: disabled, or only offered.
	f.put("failing", "clock", "ghost")
	wantErr(t, f.Load(ctx, shared.HelperSpec{Name: "failing"}, host.LoadOptions{Force: true}), shared.ErrNotExist, "ghost")
	f.want("clock=disabled")
	f.must(f.OfferBuiltin(host.Builtin{Name: "tick", Version: "1.0.0"}))
	f.put("failing", "tick", "ghost")
	wantErr(t, f.load("failing"), shared.ErrNotExist, "ghost")
	f.want("clock=disabled")
	f.must(f.load("tick"))
	finis := c.finis
	f.must(f.Shutdown(ctx))
	if c.finis != finis {
		t.Error("a disabled builtin was asked to finish again")
	}
}

func TestL6_BuiltinsRequireBuiltins(t *testing.T) {
	f := newFixture(t, host.Config{})
	f.put("process")
	f.configure("process")
	requiring := func(name, required, constraint string) host.Builtin {
		return host.Builtin{Name: name, Version: "1.0.0", Requires: []shared.Requirement{{Name: required, Constraint: constraint}}}
	}
	wantErr(t, f.AddBuiltin(requiring("a", "process", "")), shared.ErrNotExist, "a requires process: a builtin can require builtins only")
	f.must(f.load("process"))
	wantErr(t, f.AddBuiltin(requiring("a", "process", "")), shared.ErrNotExist, "builtins only")
	wantErr(t, f.AddBuiltin(requiring("a", "ghost", "")), shared.ErrNotExist, "builtins only")
	c := &clock{}
	f.must(f.OfferBuiltin(c.builtin()))
	wantErr(t, f.AddBuiltin(requiring("a", "clock", "~> 2.0")), shared.ErrIncompatible, "clock has version 1.2.0")
	f.want("process=active")
	if c.inits != 1 || c.finis != 1 {
		t.Errorf("%d Inits, %d Finis; want one each", c.inits, c.finis)
	}
	f.must(f.AddBuiltin(requiring("a", "clock", "~> 1.0")))
	f.want("process=active a=active clock=active")
	f.must(f.AddBuiltin(requiring("b", "a", "")))
	wantErr(t, f.Unload(context.Background(), "a", disable), shared.ErrBusy, "held by b")

	// What is required is who has the name, also if a builtin of that name is offered.
	f.must(f.unload("process"))
	f.must(f.OfferBuiltin(host.Builtin{Name: "process", Version: "1.0.0"}))
	spec := shared.HelperSpec{Name: "process", Command: []string{"/nowhere/process"}}
	f.must(f.Load(context.Background(), spec, host.LoadOptions{}))
	wantErr(t, f.AddBuiltin(requiring("c", "process", "")), shared.ErrNotExist, "builtins only")
}

// A builtin whose hooks cannot be bound has begun what it must finish.
func TestK2_BuiltinIsFinishedWhenItCannotBeBound(t *testing.T) {
	f := newFixture(t, host.Config{})
	c := &clock{}
	f.must(f.OfferBuiltin(c.builtin()))
	spec := shared.HelperSpec{Name: "clock", Hooks: []shared.HookSpec{{Point: "tcp.est_in", Required: true}}}
	wantErr(t, f.Load(context.Background(), spec, host.LoadOptions{}), shared.ErrNotExist, "tcp.est_in")
	if c.inits != 1 || c.finis != 1 {
		t.Errorf("%d Inits, %d Finis; want one each", c.inits, c.finis)
	}
	f.want("")
}
