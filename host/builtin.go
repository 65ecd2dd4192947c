package host

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"time"

	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/osd"
	"github.com/khelp/khelp/shared"
)

// Builtin is a helper that is part of the host program: NetBSD's builtin modules. Its functions run in the caller's goroutine, on the
// same heads and in the same order as the hooks of processes. A panic in one is the failure crash, and commits nothing; there is no
// deadline.
type Builtin struct {
	Name    string
	Version string
	Classes []shared.Class
	// Template is what the helper's data on an object starts as. Nil: it keeps no data.
	Template []byte
	Schema   shared.DataSchema
	Hooks    map[shared.HookPoint]BuiltinHook

	Requires    []shared.Requirement // other builtins only
	Description string
	Properties  []shared.Property
	Sections    []shared.Section
	// Init gets the properties, checked and completed. Its error refuses the load. Nil: there is nothing to do.
	Init func(ctx context.Context, properties map[string]any) error
	// Fini ends what Init began, when the builtin is disabled. Its error refuses, unless the host ends. Nil: there is nothing to do.
	Fini func(ctx context.Context) error
	// Stat returns the builtin's own figures. It runs beside the hooks.
	Stat func() map[string]float64
}

// BuiltinHook is one function of a Builtin. Its error is the failure bad_reply, unless it is Reject's. It must be safe for concurrent
// use; calls on one object do not overlap.
type BuiltinHook func(ctx context.Context, c *BuiltinCall) error

// BuiltinCall is one call of a BuiltinHook, which must not keep it.
type BuiltinCall struct {
	Point   shared.HookPoint
	Object  uint64 // 0: none
	Context []byte // what the call site passed; not to be changed
	Data    []byte // the helper's data on the object, to be changed in place or replaced; it commits when the function returns

	replaced []byte
	rejected bool
	reason   string
}

// SetContext replaces the context for the hooks that follow and for the caller, on a mutable head.
func (c *BuiltinCall) SetContext(b []byte) { c.replaced = b }

// Reject makes a filter head's caller give up, with a reason for people. The data commits all the same.
func (c *BuiltinCall) Reject(format string, args ...any) {
	c.rejected, c.reason = true, fmt.Sprintf(format, args...)
}

func (b *Builtin) modinfo() shared.Modinfo {
	info := shared.Modinfo{
		Name: b.Name, Version: b.Version, API: shared.APIGeneration, Classes: b.Classes,
		NeedsOSD: b.Template != nil,
		OSD:      shared.OSDInfo{Template: b.Template, HasTemplate: b.Template != nil, Schema: b.Schema},
		Requires: b.Requires, Description: b.Description, Properties: b.Properties, Sections: b.Sections,
	}
	for point := range b.Hooks {
		info.Hooks = append(info.Hooks, shared.HookInfo{Point: point})
	}
	return info
}

// AddBuiltin offers a builtin and loads it: module_builtin_add and module_init_class. Its rules are those of Load; it cannot be unloaded,
// only disabled, and goes with the host.
func (h *Host) AddBuiltin(b Builtin) error {
	if err := h.OfferBuiltin(b); err != nil {
		return err
	}
	err := h.Load(context.Background(), shared.HelperSpec{Name: b.Name}, LoadOptions{})
	if err != nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.offered, b.Name)
	}
	return err
}

// OfferBuiltin makes a builtin one that loads find, before anything else of its name. It costs nothing until somebody asks for it. A name
// that is offered or loaded already is ErrExist.
func (h *Host) OfferBuiltin(b Builtin) error {
	info := b.modinfo()
	if err := info.Validate(); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return errClosed()
	}
	if hp := h.findLocked(b.Name); hp != nil {
		return hp.occupiedLocked(hp.face.Load(), &loading{force: true})
	}
	if h.offered[b.Name] != nil {
		return shared.ErrExist.Errorf("builtin %q is offered already", b.Name)
	}
	h.offered[b.Name] = &b
	return nil
}

func (h *Host) offeredNames() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(maps.Keys(h.offered))
}

// bringUpBuiltin is bringUp for a helper in this process.
func (h *Host) bringUpBuiltin(ctx context.Context, hp *helper, l *loading) error {
	info := hp.builtin.modinfo()
	f, err := hp.face.Load().described(&info)
	if err != nil {
		return err
	}
	if _, err := f.properties(); err != nil {
		return err
	}
	if err := h.requireAll(ctx, hp, f, l); err != nil {
		return err
	}
	if err := h.initBuiltin(ctx, hp, f); err != nil {
		return err
	}
	if err := h.activateBuiltin(hp, f, l); err != nil {
		_ = hp.finiBuiltin(ctx, h.cfg.StopTimeout, true) // the load has failed already, and it goes whatever it says
		return err
	}
	return nil
}

// activateBuiltin is activate for a helper in this process.
func (h *Host) activateBuiltin(hp *helper, f *face, l *loading) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return errClosed()
	}
	hp.face.Store(f)
	if err := hp.bindLocked(); err != nil {
		return err
	}
	h.activeLocked(hp, l)
	return nil
}

// guarded makes an error of what a function of a builtin throws.
func guarded(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = shared.ErrHelperGone.Errorf("panic: %v", p)
		}
	}()
	return f()
}

func (hp *helper) finiBuiltin(ctx context.Context, limit time.Duration, force bool) error {
	hp.host.mu.Lock()
	down := hp.down
	hp.host.mu.Unlock()
	if hp.builtin.Fini == nil || down {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := guarded(func() error { return hp.builtin.Fini(ctx) })
	if err == nil {
		return nil
	}
	return hp.refusal(err, !force && !errors.Is(err, shared.ErrHelperGone)) // which is a panic
}

// disable takes a builtin out that has finished. It stays in the registry, so that only who insists gets it back.
func (h *Host) disable(hp *helper) {
	h.mu.Lock()
	defer h.mu.Unlock()
	hp.unbindLocked(nil)
	hp.unrequireLocked()
	hp.state, hp.down, hp.changedAt = shared.StateDisabled, false, time.Now()
	h.generation++
	h.publish(hp.disabledEventLocked())
}

// builtinTarget calls a function in this process.
type builtinTarget struct {
	helper *helper
	fn     BuiltinHook
}

// builtinFrame is what one call needs. It stays with the invocation, which is used again, so that a call allocates nothing.
type builtinFrame struct {
	call BuiltinCall
	buf  []byte // of the data that the function works on
}

func (t builtinTarget) Call(ctx context.Context, inv *hhook.Invocation) {
	slot := inv.Slot
	if slot == nil && inv.Object != nil && inv.Queued() {
		slot = inv.Object.OrderSlot(t.helper.id, func() *osd.Slot { return osd.NewOrderSlot(t.helper.id, nil) })
	}
	f, ok := inv.Scratch.(*builtinFrame)
	if !ok {
		f = new(builtinFrame)
		inv.Scratch = f
	}
	f.call.Point, f.call.Context = inv.Hook.Point(), inv.Context
	if inv.Object != nil {
		f.call.Object = inv.Object.ID()
	}
	t.serially(ctx, slot, f, inv)
	f.call = BuiltinCall{}
}

// Queue runs the function at once: it is in this process, and nobody has to wait for it longer than it takes.
func (t builtinTarget) Queue(ctx context.Context, inv *hhook.Invocation) {
	t.Call(ctx, inv)
	inv.Done(inv.Out, 0)
}

// serially keeps the calls on a slot apart; on synchronous heads the object's turn does that for all helpers, on others nothing else. A
// function that comes back to its own slot, by running another point, waits in vain: that is a timeout.
func (t builtinTarget) serially(ctx context.Context, slot *osd.Slot, f *builtinFrame, inv *hhook.Invocation) {
	if slot == nil {
		t.guard(ctx, &f.call, &inv.Out)
		return
	}
	if !slot.TryEnter() && !slot.Enter(ctx, deadlineOf(inv)) {
		inv.Out = hhook.Failed(shared.CauseTimeout, shared.ErrTimeout.Errorf("%s was still busy with the object", t.helper.name))
		return
	}
	if !slot.KeepsData() {
		t.guard(ctx, &f.call, &inv.Out)
		slot.Leave()
		return
	}
	f.buf = append(f.buf[:0], slot.Lent()...)
	f.call.Data = f.buf
	t.guard(ctx, &f.call, &inv.Out)
	switch {
	case inv.Out.Cause != shared.CauseNone:
	case sameArray(f.call.Data, f.buf):
		f.buf = t.helper.swap(slot, f.call.Data, &inv.Out)
	default: // the function has put bytes of its own there, which it may change later
		t.helper.commit(slot, f.call.Data, &inv.Out)
	}
	slot.Leave()
}

// sameArray reports whether data is what the function was given, grown in place or cut perhaps.
func sameArray(data, given []byte) bool {
	return cap(data) > 0 && cap(given) > 0 && &data[:1][0] == &given[:1][0]
}

// deadlineOf returns when a wait must end, also on heads whose hooks are all in process, which look at no clock otherwise.
func deadlineOf(inv *hhook.Invocation) time.Time {
	if inv.Deadline.IsZero() {
		return time.Now().Add(shared.DefaultBudget)
	}
	return inv.Deadline
}

// guard runs the function and makes a failure of what it throws.
func (t builtinTarget) guard(ctx context.Context, c *BuiltinCall, out *hhook.Outcome) {
	defer func() {
		if p := recover(); p != nil {
			t.helper.log.Error("panic in a builtin", "point", string(c.Point), "panic", p, "stack", string(debug.Stack()))
			*out = hhook.Failed(shared.CauseCrash, shared.ErrHelperGone.Errorf("panic: %v", p))
		}
	}()
	if err := t.fn(ctx, c); err != nil {
		*out = hhook.Failed(shared.CauseBadReply, err)
		return
	}
	if c.rejected {
		out.Reject, out.Reason = true, c.reason
	}
	if c.replaced != nil {
		out.Context = c.replaced
	}
}
