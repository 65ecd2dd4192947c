package host

import (
	"context"
	"errors"
	"slices"

	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// serve answers a request that a helper makes on its control stream. What this host does not know is ErrUnsupported, as the protocol
// has it, so that newer helpers can find out.
func (in *instance) serve(ctx context.Context, req *wire.ControlToHost) *wire.Answer {
	h := in.host
	err := in.mayAsk(req)
	if err != nil {
		return &wire.Answer{Status: wire.StatusOf(err)}
	}
	switch body := req.GetBody().(type) {
	case *wire.ControlToHost_GetId_:
		id, err := h.ID(req.GetGetId_().GetName())
		return &wire.Answer{
			Status: wire.StatusOf(err),
			Result: &wire.Answer_GetId{GetId: &wire.GetIdResult{HelperId: uint32(id)}},
		}
	case *wire.ControlToHost_AddHook:
		err = h.addHook(in, wire.HookInfoFromProto(req.GetAddHook().GetHook()))
	case *wire.ControlToHost_RemoveHook:
		r := req.GetRemoveHook()
		err = h.removeHook(in, shared.HookInfo{Point: shared.HookPoint(r.GetPoint()), Index: r.GetIndex(), UData: r.GetUdata()})
	case *wire.ControlToHost_Load:
		err = in.loadFor(ctx, shared.Requirement{Name: req.GetLoad().GetName(), Constraint: req.GetLoad().GetConstraint()})
	case *wire.ControlToHost_Unload:
		err = in.unloadFor(ctx, req.GetUnload().GetName())
	case *wire.ControlToHost_Hold:
		err = h.holdFor(in, req.GetHold().GetName())
	case *wire.ControlToHost_Rele:
		err = h.releFor(in, req.GetRele().GetName())
	default:
		err = shared.ErrUnsupported.Errorf("this host does not serve %T", body)
	}
	return &wire.Answer{Status: wire.StatusOf(err)}
}

// mayAsk refuses what a helper asks for before it is to initialise itself: until then it only says what it is, perhaps to somebody who
// wants to know no more.
func (in *instance) mayAsk(req *wire.ControlToHost) error {
	in.host.mu.Lock()
	defer in.host.mu.Unlock()
	if _, harmless := req.GetBody().(*wire.ControlToHost_GetId_); in.initialised || harmless {
		return nil
	}
	return shared.ErrInvalid.Errorf("%s asks for something before its Init", in.helper.name)
}

// addHook adds a hook to a helper that runs, or is in its Init: khelp_add_hhook. It belongs to the process and ends with it.
func (h *Host) addHook(in *instance, info shared.HookInfo) error {
	if err := info.Point.Validate(); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case in.over:
		return shared.ErrClosed.Errorf("%s is ending", in.helper.name)
	case len(in.hooks) >= shared.MaxHooks:
		return shared.ErrInvalid.Errorf("%s has %d hooks, which is the limit", in.helper.name, len(in.hooks))
	case slices.ContainsFunc(in.hooks, func(x shared.HookInfo) bool { return sameHook(x, info) }):
		return shared.ErrExist.Errorf("%s has hook %d with the same udata on %s already", in.helper.name, info.Index, info.Point)
	}
	if in.helper.inst.Load() == in && in.helper.bound {
		if err := in.helper.addHookLocked(info); err != nil {
			return err
		}
	}
	in.hooks = append(slices.Clip(in.hooks), info)
	return nil
}

// addHookLocked binds a hook to every head of its point there is, all or none.
func (hp *helper) addHookLocked(info shared.HookInfo) error {
	var added []binding
	var failed error
	hp.host.eachHeadLocked(func(head *hhook.Head) {
		if failed != nil || head.Point() != info.Point {
			return
		}
		b := binding{head, hhook.NewHook(hp.hookConfig(head, info))}
		switch err := head.Add(b.hook); {
		case err == nil:
			added = append(added, b)
		case !errors.Is(err, shared.ErrClosed): // one that is closing is none any more
			failed = err
		}
	})
	if failed != nil {
		replaceHooks(hooksOf(added), nil)
		return failed
	}
	if hp.state == shared.StateDraining {
		for _, b := range added {
			b.head.Suspend(b.hook)
		}
	}
	hp.bindings = append(hp.bindings, added...)
	return nil
}

// removeHook takes one of a helper's hooks away: khelp_remove_hhook. Calls under way go on.
func (h *Host) removeHook(in *instance, info shared.HookInfo) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := slices.IndexFunc(in.hooks, func(x shared.HookInfo) bool { return sameHook(x, info) })
	if i < 0 {
		return shared.ErrNotExist.Errorf("%s has no hook %d with this udata on %s", in.helper.name, info.Index, info.Point)
	}
	in.hooks = slices.Delete(slices.Clone(in.hooks), i, i+1)
	if in.helper.inst.Load() == in {
		in.helper.dropHooksLocked(func(b binding) bool { return sameHook(b.info(), info) })
	}
	return nil
}

func sameHook(a, b shared.HookInfo) bool {
	return a.Point == b.Point && a.Index == b.Index && string(a.UData) == string(b.UData)
}

// loadFor has a helper loaded that another asks for: module_load from a module. That ends with nothing that either of them does later;
// the one that was loaded leaves when it is idle.
func (in *instance) loadFor(ctx context.Context, r shared.Requirement) error {
	h, hp := in.host, in.helper
	if err := shared.ValidateName("helper name", r.Name); err != nil {
		return err
	}
	h.mu.Lock()
	depth, noAutoload := 0, false
	if hp.op != nil {
		depth, noAutoload = hp.op.depth, hp.op.noAutoload
	}
	other := h.findLocked(r.Name)
	there := other != nil && other.op == nil && other.bound
	h.mu.Unlock()
	switch {
	case r.Name == hp.name:
		return shared.ErrExist.Errorf("%s asks to load itself", hp.name)
	case there:
		return shared.ErrExist.Errorf("helper %q is loaded already", r.Name)
	case depth >= h.cfg.MaxDepth:
		return shared.ErrTooManyLinks.Errorf("%s asks for %s: it would be load %d in a row, the limit is %d", hp.name, r.Name, depth+1, h.cfg.MaxDepth)
	}
	spec, err := h.autoloadable(hp, in.number, r.Name, noAutoload)
	if err != nil {
		return err
	}
	ctx, done, err := h.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	l := &loading{auto: true, noAutoload: noAutoload, parent: hp, depth: depth + 1}
	if other, err = h.load(ctx, spec, l); err != nil {
		return err
	}
	if err := meets(r.Name, other.face.Load().info.Version, r.Constraint); err != nil {
		h.rollBack(ctx, append(l.brought, brought{other, l.claimed}), hp)
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	in.loaded = slices.DeleteFunc(in.loaded, func(x *helper) bool { return x == other || h.findLocked(x.name) != x })
	in.loaded = append(in.loaded, other)
	return nil
}

// unloadFor unloads what a helper has had loaded: module_unload from a module.
func (in *instance) unloadFor(ctx context.Context, name string) error {
	h, hp := in.host, in.helper
	if name == hp.name {
		return shared.ErrBusy.Errorf("%s asks to unload itself", name)
	}
	h.mu.Lock()
	other := h.findLocked(name)
	mine := slices.Contains(in.loaded, other)
	var err error
	switch {
	case other == nil:
		err = h.notLoadedLocked(name)
	case !mine || !other.autoloaded:
		err = shared.ErrPermission.Errorf("%s asks to unload %s, which it has not loaded", hp.name, name)
	}
	h.mu.Unlock()
	if err != nil {
		return err
	}
	ctx, done, err := h.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	if err := h.unload(ctx, other, unloading{parent: hp}); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	in.loaded = slices.DeleteFunc(in.loaded, func(x *helper) bool { return x == other })
	return nil
}
