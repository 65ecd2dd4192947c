package host

import (
	"context"
	"errors"
	"net"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// Dialer connects to a helper that runs already.
type Dialer func(ctx context.Context) (net.Conn, error)

// LoadOptions are what a load may say beside the spec.
type LoadOptions struct {
	Force      bool           // load a helper built for another API generation, or a disabled builtin, all the same; passes on to what it requires
	Classes    []shared.Class // narrow it further; each must be among those that it declares and the spec leaves
	Properties map[string]any // override the spec's Config
	NoAutoload bool           // what it requires must be active already: whoever asks may not have helpers autoloaded
	// Loaded, unless it is nil, is called with the helper's own name when it has been loaded, before Load returns.
	Loaded func(name string)
	// Dial connects to a helper that runs already, without TLS, instead of starting a process: one served by helper.Run in a test, or one
	// under a debugger. The host does not end its process.
	Dial Dialer
}

// Load starts a helper, asks what it is, loads what it requires, initialises it and binds its hooks: modctl(MODCTL_LOAD) and
// khelp_register_helper. A name is looked up among the builtins, then among the boot helpers that are primed, then on the helper path; a
// command with a slash is taken as it is, whatever name its file has. It returns when the helper is active, or with nothing left behind,
// what it required included.
//
// Errors: ErrExist if a helper of that name is loaded; ErrNotExist if there is no such file, class or required point, and for what a
// builtin requires that is none; ErrNoExec if it is no helper; ErrPermission for a wrong checksum, a builtin that is disabled, and a
// requirement that may not be autoloaded; ErrInvalid for a wrong name, property or order, and too many requirements; ErrIncompatible for
// another protocol, API generation or version than asked; ErrDeadlock for requirements that go in a circle; ErrTooManyLinks if they go
// too deep; ErrTimeout; ErrClosed after Shutdown.
func (h *Host) Load(ctx context.Context, spec shared.HelperSpec, opts LoadOptions) error {
	if err := spec.Validate(); err != nil {
		return err
	}
	ctx, done, err := h.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	if spec.Name == "" && opts.Dial != nil {
		return shared.ErrInvalid.Errorf("a helper that runs already can be loaded by its name only")
	}
	hp, err := h.load(ctx, spec, opts.loading())
	if err != nil {
		h.loadFailed(nameOf(&spec), err)
		return err
	}
	if opts.Loaded != nil {
		opts.Loaded(hp.name)
	}
	return nil
}

// loadFailed tells of a load that was asked for and came to nothing.
func (h *Host) loadFailed(name string, err error) {
	level := hclog.Warn
	if errors.Is(err, shared.ErrExist) { // nothing was tried, and what is there is well
		level = hclog.Info
	}
	h.helperLog(name).Log(level, "load failed", "error", err)
	h.publish(Event{Type: EventLoadFailed, Helper: name, Message: err.Error()})
}

func (o *LoadOptions) loading() *loading {
	return &loading{force: o.Force, classes: o.Classes, properties: o.Properties, noAutoload: o.NoAutoload, dial: o.Dial}
}

// loading is one load: what was asked for, and how it came about.
type loading struct {
	force      bool
	classes    []shared.Class
	properties map[string]any
	noAutoload bool
	dial       Dialer

	auto        bool         // no operator asked for it
	demanded    bool         // it was an object, or a run
	parent      *helper      // cannot go on before this load has ended; nil: nobody in the registry
	depth       int          // how many requirements deep
	brought     []brought    // what was loaded because of this load, in that order
	claimed     shared.State // of the entry, before; "": it is new
	guessed     bool         // nobody has said its name: it is that of its file, until it has said its own
	priming     bool         // it is to be primed only
	incarnation uint32       // of the process that is brought up; 0: none yet, or a builtin's
	gate        gate         // for those that are loaded side by side; nil: none
}

// brought is a helper that was loaded because of another.
type brought struct {
	helper  *helper
	claimed shared.State
}

// particular reports whether a load that failed says nothing about another load of the same helper.
func (l *loading) particular(ctx context.Context, err error) bool {
	return ctx.Err() != nil || l.force || l.noAutoload || l.dial != nil || len(l.classes)+len(l.properties) > 0 ||
		errors.Is(err, shared.ErrDeadlock) || errors.Is(err, shared.ErrTooManyLinks)
}

// load loads a helper by whomever it is asked for.
func (h *Host) load(ctx context.Context, spec shared.HelperSpec, l *loading) (*helper, error) {
	hp, err := h.enter(ctx, spec, l)
	if err != nil {
		return nil, err
	}
	return hp, h.bring(ctx, hp, l)
}

// bring loads a helper that enter has entered, and ends that operation.
func (h *Host) bring(ctx context.Context, hp *helper, l *loading) error {
	err := h.bringUp(ctx, hp, l)
	h.mu.Lock()
	op := hp.op
	if err != nil {
		h.unenterLocked(hp, l)
		hp.failure = err
		op.err, op.particular = err, l.particular(ctx, err)
	}
	hp.endLocked()
	h.independLocked(l.parent, op)
	if err == nil {
		h.arrivedLocked(hp) // in the same breath, or an unload could come between
	}
	h.mu.Unlock()
	if err != nil {
		hp.log.Debug("load failed", "error", err)
		h.rollBack(ctx, l.brought, l.parent)
		l.brought = nil
	}
	return err
}

// bringUp does what bring promises, but leaves the registry's entry of a load that failed to it.
func (h *Host) bringUp(ctx context.Context, hp *helper, l *loading) error {
	if hp.builtin != nil {
		return h.bringUpBuiltin(ctx, hp, l)
	}
	in, err := h.instanceFor(ctx, hp, l)
	if err != nil {
		return err
	}
	h.setRising(hp, in)
	defer h.setRising(hp, nil)
	if err := h.initialise(ctx, in, l); err != nil {
		return in.giveUp(err)
	}
	if err := h.activate(in, l); err != nil {
		return in.turnDown(ctx, err)
	}
	hp.log.Info("loaded", "version", in.face.info.Version, "pid", in.end.PID(), "sha256", in.end.SHA256())
	return nil
}

// setRising notes which process is about to become the helper's, for those who look at it.
func (h *Host) setRising(hp *helper, in *instance) {
	h.mu.Lock()
	defer h.mu.Unlock()
	hp.rising = in
}

// instanceFor returns the process of a primed helper, or a new one.
func (h *Host) instanceFor(ctx context.Context, hp *helper, l *loading) (*instance, error) {
	primed := hp.inst.Load()
	if primed == nil {
		return h.meet(ctx, hp, l, 1)
	}
	if dead := primed.dead(); dead != nil {
		hp.log.Warn("the primed process has died and is started again", "error", dead)
		primed.abort()
		return h.meet(ctx, hp, l, primed.number+1)
	}
	// More may have been asked for since it was primed.
	f, err := hp.face.Load().described(&primed.face.info)
	if err != nil {
		return nil, primed.giveUp(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	primed.face = f
	return primed, nil
}

// giveUp ends an instance that has not come into use and returns why, in the words of its exit if it has exited.
func (in *instance) giveUp(err error) error {
	err = in.why(err)
	in.abort()
	return err
}

// turnDown ends an instance that has initialised itself and does not come into use after all, and returns why. It must end what it has
// begun, and goes whatever it says.
func (in *instance) turnDown(ctx context.Context, why error) error {
	cfg := &in.host.cfg
	ctx, cancel := context.WithTimeout(ctx, cfg.StartTimeout)
	defer cancel()
	if in.dead() == nil {
		_, _ = in.finish(ctx, cfg.StopTimeout, true) // with force there is no refusal
	}
	return errors.Join(why, in.stop(ctx, cfg.StopTimeout))
}

// rollBack unloads what a load has brought that came to nothing, the last first, unless somebody else needs it by now, or it would have
// been there in any case. Waits cannot go on before that has ended; nil stands for somebody who is no helper.
func (h *Host) rollBack(ctx context.Context, all []brought, waits *helper) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), h.cfg.StopTimeout)
	defer cancel()
	defer context.AfterFunc(h.cut, cancel)()
	for _, b := range slices.Backward(all) {
		if b.claimed == shared.StatePrimed || b.helper.source == shared.SourceBoot {
			continue
		}
		if err := h.unload(ctx, b.helper, unloading{disable: true, forget: b.claimed != shared.StateDisabled, parent: waits}); err != nil {
			b.helper.log.Debug("stays, though the load that brought it has failed", "error", err)
		}
	}
}

// initialise loads what a helper requires, and has it initialise itself.
func (h *Host) initialise(ctx context.Context, in *instance, l *loading) error {
	hp := in.helper
	if in.face.info.API != shared.APIGeneration {
		hp.log.Warn("forced load of a helper built for another API generation", "helper_api", in.face.info.API, "host_api", shared.APIGeneration)
	}
	props, err := in.face.properties()
	if err != nil {
		return err
	}
	l.incarnation = in.number
	if err := h.requireAll(ctx, hp, in.face, l); err != nil {
		return err
	}
	return in.init(ctx, props)
}

// init has the helper initialise itself, within what is left of the time for its start.
func (in *instance) init(ctx context.Context, props map[string]any) error {
	ctx, cancel := context.WithTimeout(ctx, max(in.host.cfg.StartTimeout-in.startTook, minInit))
	defer cancel()
	in.host.mu.Lock()
	in.initialised = true
	in.host.mu.Unlock()
	_, err := in.session.Request(ctx, &wire.ControlToHelper{Body: &wire.ControlToHelper_Init{Init: &wire.InitRequest{
		HelperId: uint32(in.helper.id), Incarnation: in.number, Config: wire.PropertiesToProto(props), BudgetUs: budget(ctx),
	}}})
	if err != nil {
		return wrap(err, "Init")
	}
	return nil
}

// minInit is what Init gets of the time for a start, however long the process took to come up.
const minInit = 100 * time.Millisecond

// wrap says which request of the host an error answers, and keeps its sentinel.
func wrap(err error, request string) error {
	var sentinel *shared.Error
	if errors.As(err, &sentinel) {
		return sentinel.Errorf("%s: %w", request, err)
	}
	return shared.ErrInvalid.Errorf("%s: %w", request, err)
}

func budget(ctx context.Context) uint64 {
	deadline, ok := ctx.Deadline()
	if !ok {
		return 0
	}
	return uint64(max(time.Until(deadline), 0) / time.Microsecond)
}

// activate binds the hooks of a helper that is initialised, all or none.
func (h *Host) activate(in *instance, l *loading) error {
	hp := in.helper
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return errClosed()
	}
	if in.dead() != nil {
		return shared.ErrHelperGone.Errorf("%s has died before it was active: %w", hp.name, in.dead())
	}
	hp.face.Store(in.face)
	hp.inst.Store(in)
	if err := hp.bindLocked(); err != nil {
		return err
	}
	h.activeLocked(hp, l)
	return nil
}

// activeLocked notes that a helper's hooks are bound.
func (h *Host) activeLocked(hp *helper, l *loading) {
	hp.state, hp.lastErr = shared.StateActive, ""
	h.generation++
	hp.beginLifeLocked(l)
	h.disarmLocked(hp.name)
	h.publish(hp.loadedEventLocked())
}
