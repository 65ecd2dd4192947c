package helper

import (
	"context"
	"reflect"

	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// Host is a helper's way to ask things of its host. Init gets it, may use it at once, and it is good until the helper ends; after that
// its methods return ErrClosed. It is safe for concurrent use. Its methods wait for the host, so hooks that use them must be marked
// MaySleep. A request without a deadline of its own fails with ErrTimeout after 30 seconds; the host may still do what it did not answer
// in time. Errors are the host's sentinels; a host that does not know a request answers ErrUnsupported.
type Host struct {
	prog        *program
	id          shared.HelperID
	incarnation uint32
	control     *control
}

// ID returns the helper's own id with this host.
func (h *Host) ID() shared.HelperID { return h.id }

// Incarnation counts the processes that the host has started for this helper, from 1.
func (h *Host) Incarnation() uint32 { return h.incarnation }

// GetID returns the id of an active helper, or ErrNotExist. (khelp_get_id)
func (h *Host) GetID(ctx context.Context, name string) (shared.HelperID, error) {
	answer, err := h.control.ask(ctx, &wire.ControlToHost{Body: &wire.ControlToHost_GetId_{GetId_: &wire.GetIdRequest{Name: name}}})
	if err != nil {
		return 0, err
	}
	id := shared.HelperID(answer.GetGetId().GetHelperId())
	if id == 0 {
		return 0, shared.ErrBadReply.Errorf("the host gave no id for %s", name)
	}
	return id, nil
}

// Load has the host load a helper that meets a requirement such as "ertt ~> 1.2", with what it requires, and returns when it is active.
// (module_load, as module_autoload confines it)
//
// Errors: ErrExist if it is active already, or is this helper; ErrPermission if the operator does not let helpers load it; ErrDeadlock if
// it waits for this helper in turn; ErrTooManyLinks if this is too deep; otherwise why it could not be loaded.
func (h *Host) Load(ctx context.Context, requirement string) error {
	r, err := parseRequirement(requirement)
	if err != nil {
		return err
	}
	_, err = h.control.ask(ctx, &wire.ControlToHost{Body: &wire.ControlToHost_Load{
		Load: &wire.LoadRequest{Name: r.Name, Constraint: r.Constraint},
	}})
	return err
}

// Unload has the host unload a helper that this one has had loaded with Load. (module_unload)
//
// Errors: ErrPermission if somebody else had it loaded; ErrBusy if it is this helper, or is held, or refuses; ErrNotExist if there is none
// of that name.
func (h *Host) Unload(ctx context.Context, name string) error {
	_, err := h.control.ask(ctx, &wire.ControlToHost{Body: &wire.ControlToHost_Unload{Unload: &wire.UnloadRequest{Name: name}}})
	return err
}

// Hold keeps a helper from being unloaded until Rele, or until this helper's process ends; it counts. One that is not active is
// ErrNotExist, this helper itself ErrInvalid. (module_hold)
func (h *Host) Hold(ctx context.Context, name string) error {
	_, err := h.control.ask(ctx, &wire.ControlToHost{Body: &wire.ControlToHost_Hold{Hold: &wire.HoldRequest{Name: name}}})
	return err
}

// Rele gives back one Hold of this process. One more than there were is ErrInvalid. (module_rele)
func (h *Host) Rele(ctx context.Context, name string) error {
	_, err := h.control.ask(ctx, &wire.ControlToHost{Body: &wire.ControlToHost_Rele{Rele: &wire.ReleRequest{Name: name}}})
	return err
}

// AddHook adds a hook while the helper runs; it ends with the process, so Init must add it again. One that Init adds is bound together
// with those the helper declares, when Init has succeeded. S must be the helper's. A function with the same user data on the point is
// ErrExist, one more than shared.MaxHooks ErrInvalid. One that the host answers too late is taken out again. (khelp_add_hhook)
func AddHook[S any](ctx context.Context, h *Host, d HookDecl[S]) error {
	if t := reflect.TypeFor[S](); t != h.prog.state.typ {
		return shared.ErrInvalid.Errorf("the hook on %s works on %s, the helper's state is %s", d.Point, t, h.prog.state.typ)
	}
	if d.Func == nil {
		return shared.ErrInvalid.Errorf("the hook on %s has no function", d.Point)
	}
	return h.addHook(ctx, newHookEntry(d))
}

func (h *Host) addHook(ctx context.Context, e *hookEntry) error {
	if err := e.info.Point.Validate(); err != nil {
		return err
	}
	// The table comes first: calls may arrive before the answer.
	if err := h.prog.hooks.add(e); err != nil {
		return err
	}
	_, err := h.control.askFor(ctx, &wire.ControlToHost{Body: &wire.ControlToHost_AddHook{AddHook: &wire.AddHookRequest{Hook: &wire.HookInfo{
		Point: string(e.info.Point), Index: e.info.Index, Udata: e.info.UData, MaySleep: e.info.MaySleep,
	}}}}, func(late *wire.Answer) { h.withdraw(e, late) })
	if err != nil && !unanswered(err) {
		h.prog.hooks.remove(e)
	}
	return err
}

// withdraw takes a hook out again whose addition the host has answered too late: the author was told that it failed. Until the host has
// answered that too, the hook runs if it is called.
func (h *Host) withdraw(e *hookEntry, late *wire.Answer) {
	if late.GetStatus().GetCode() != wire.Code_CODE_OK {
		h.prog.hooks.remove(e)
		return
	}
	h.control.tell(removeRequest(e), func(*wire.Answer) { h.prog.hooks.remove(e) })
}

// RemoveHook removes the hook with this user data (nil for none) from a point: one of Hooks, of Extra or one that AddHook added. None
// is ErrNotExist. A hook may remove itself. A call that is on its way meanwhile finds no function and fails. (khelp_remove_hhook)
func (h *Host) RemoveHook(ctx context.Context, point shared.HookPoint, udata []byte) error {
	e := h.prog.hooks.lookup(point, udata)
	if e == nil {
		return shared.ErrNotExist.Errorf("the helper has no function with this UData on %s", point)
	}
	removed := func(a *wire.Answer) {
		// A host that does not have the hook has removed it for a request that was not answered in time.
		if code := a.GetStatus().GetCode(); code == wire.Code_CODE_OK || code == wire.Code_CODE_NOT_EXIST {
			h.prog.hooks.remove(e)
		}
	}
	answer, err := h.control.askFor(ctx, removeRequest(e), removed)
	if answer != nil {
		removed(answer)
	}
	return err
}

func removeRequest(e *hookEntry) *wire.ControlToHost {
	return &wire.ControlToHost{Body: &wire.ControlToHost_RemoveHook{RemoveHook: &wire.RemoveHookRequest{
		Point: string(e.info.Point), Index: e.info.Index, Udata: e.info.UData,
	}}}
}
