package helper

import (
	"context"
	"reflect"
	"sync"
	"time"

	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// requestTimeout bounds a request to the host whose context has no deadline.
const requestTimeout = 30 * time.Second

// Host is a helper's way to ask things of its host. Init gets it, and it is good until the helper ends; after that its methods return
// ErrClosed. It is safe for concurrent use. Its methods wait for the host, so hooks that use them must be marked MaySleep. A request
// without a deadline of its own fails with ErrTimeout after 30 seconds; errors are the host's sentinels.
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

// Load has the host load a helper that meets a requirement such as "ertt ~> 1.2". One that is active is ErrExist, one that the operator
// does not let helpers load ErrPermission. (module_load)
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

// Hold keeps a helper from being unloaded until Rele, or until this helper's process ends. (module_hold)
func (h *Host) Hold(ctx context.Context, name string) error {
	_, err := h.control.ask(ctx, &wire.ControlToHost{Body: &wire.ControlToHost_Hold{Hold: &wire.HoldRequest{Name: name}}})
	return err
}

// Rele gives back one Hold. (module_rele)
func (h *Host) Rele(ctx context.Context, name string) error {
	_, err := h.control.ask(ctx, &wire.ControlToHost{Body: &wire.ControlToHost_Rele{Rele: &wire.ReleRequest{Name: name}}})
	return err
}

// AddHook adds a hook while the helper runs; it ends with the process, so Init must add it again. S must be the helper's. A function
// with the same user data on the point is ErrExist. (khelp_add_hhook)
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
	_, err := h.control.ask(ctx, &wire.ControlToHost{Body: &wire.ControlToHost_AddHook{AddHook: &wire.AddHookRequest{Hook: &wire.HookInfo{
		Point: string(e.info.Point), Index: e.info.Index, Udata: e.info.UData, MaySleep: e.info.MaySleep,
	}}}})
	if err != nil {
		h.prog.hooks.remove(e)
	}
	return err
}

// RemoveHook removes the hook with this user data (nil for none) from a point: one of Hooks, of Extra or one that AddHook added. Its
// function may still be called, for what passed the point before. None is ErrNotExist. (khelp_remove_hhook)
func (h *Host) RemoveHook(ctx context.Context, point shared.HookPoint, udata []byte) error {
	e := h.prog.hooks.lookup(point, udata)
	if e == nil {
		return shared.ErrNotExist.Errorf("the helper has no function with this UData on %s", point)
	}
	_, err := h.control.ask(ctx, &wire.ControlToHost{Body: &wire.ControlToHost_RemoveHook{RemoveHook: &wire.RemoveHookRequest{
		Point: string(point), Index: e.info.Index, Udata: udata,
	}}})
	if err == nil {
		h.prog.hooks.remove(e)
	}
	return err
}

// control is the control stream as seen by the goroutines that send on it.
type control struct {
	sendMu sync.Mutex // serialises sends
	stream wire.Helper_ControlServer

	// mu protects the following fields.
	mu      sync.Mutex
	closed  bool
	next    uint64
	pending map[uint64]chan *wire.Answer // requests of ours without an answer; each channel holds one
}

func newControl(stream wire.Helper_ControlServer) *control {
	return &control{stream: stream, pending: map[uint64]chan *wire.Answer{}}
}

func (c *control) send(m *wire.ControlToHost) error {
	c.sendMu.Lock()
	defer c.sendMu.Unlock()
	return c.stream.Send(m)
}

// ask sends a request and waits for its answer, the context's end, or the stream's.
func (c *control) ask(ctx context.Context, m *wire.ControlToHost) (*wire.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	answer := make(chan *wire.Answer, 1)
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, shared.ErrClosed.Errorf("the host is gone")
	}
	c.next++
	m.Id = c.next
	c.pending[m.Id] = answer
	c.mu.Unlock()
	defer c.forget(m.Id)
	if err := c.send(m); err != nil {
		return nil, shared.ErrClosed.Errorf("the host is gone: %w", err)
	}
	select {
	case a, ok := <-answer:
		if !ok {
			return nil, shared.ErrClosed.Errorf("the host is gone")
		}
		return a, a.GetStatus().Err()
	case <-ctx.Done():
		return nil, shared.FromCode(codeOf(ctx.Err()), "the host did not answer in time")
	}
}

func (c *control) forget(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pending, id)
}

// answered gives an answer to whoever waits for it. One that nobody waits for came too late, and is dropped.
func (c *control) answered(id uint64, a *wire.Answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if waiter, ok := c.pending[id]; ok {
		delete(c.pending, id)
		waiter <- a
	}
}

// close fails all requests that wait, and all to come.
func (c *control) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for id, waiter := range c.pending {
		delete(c.pending, id)
		close(waiter)
	}
}
