package host

import (
	"context"
	"errors"
	"net"
	"slices"
	"time"

	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// Dialer connects to a helper that runs already.
type Dialer func(ctx context.Context) (net.Conn, error)

// LoadOptions are what a load may say beside the spec.
type LoadOptions struct {
	Force      bool           // load a helper built for another API generation, or a disabled builtin, all the same; passes on to what it requires
	Classes    []shared.Class // each must be among those the helper declares
	Properties map[string]any // override the spec's Config
	NoAutoload bool           // what it requires must be active already: whoever asks may not have helpers autoloaded
	// Dial connects to a helper that runs already, without TLS, instead of starting a process: one served by helper.Run in a test, or one
	// under a debugger. The host does not end its process.
	Dial Dialer
}

// Load starts a helper, asks what it is, loads what it requires, initialises it and binds its hooks: modctl(MODCTL_LOAD) and
// khelp_register_helper. A name is looked up among the builtins, then among the boot helpers that are primed, then on the helper path; a
// command with a slash is taken as it is. It returns when the helper is active, or with nothing left behind, what it required included.
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
	_, err = h.load(ctx, spec, opts.loading())
	if err != nil {
		h.publish(Event{Type: EventLoadFailed, Helper: spec.Name, Message: err.Error()})
	}
	return err
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

	auto     bool         // no operator asked for it
	demanded bool         // it was an object, or a run
	priming  bool         // it is not to be initialised
	parent   *helper      // cannot go on before this load has ended; nil: nobody in the registry
	depth    int          // how many requirements deep
	brought  []arrival    // what was loaded because of this load, in that order
	claimed  shared.State // of the entry, before; "": it is new
}

// load loads a helper by whomever it is asked for.
func (h *Host) load(ctx context.Context, spec shared.HelperSpec, l *loading) (*helper, error) {
	hp, err := h.enter(ctx, spec, l)
	if err != nil {
		return nil, err
	}
	return hp, h.bring(ctx, hp, spec.Name != "", l)
}

// enter finds out who is meant by a spec and enters a load of it: from then on the name is taken. It waits for one that is just leaving.
// What it returns must go on with bring.
func (h *Host) enter(ctx context.Context, spec shared.HelperSpec, l *loading) (*helper, error) {
	f, named := l.face(spec)
	for {
		hp, leaving, err := h.tryEnter(f, named, l)
		if leaving == nil {
			return hp, err
		}
		if err := h.await(ctx, l.parent, leaving); err != nil {
			return nil, err
		}
	}
}

// face returns what a load takes a helper for, and whether its name was asked for, or guessed from its file.
func (l *loading) face(spec shared.HelperSpec) (f *face, named bool) {
	f = &face{spec: spec, overrides: l.properties, force: l.force, narrowed: l.classes}
	named = spec.Name != ""
	if !named {
		f.spec.Name = provisionalName(spec.Command[0])
	}
	return f, named
}

// tryEnter is enter but for the waiting: it returns whom to wait for.
func (h *Host) tryEnter(f *face, named bool, l *loading) (hp, leaving *helper, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if hp := h.leavingLocked(f.spec.Name); hp != nil {
		return nil, hp, nil
	}
	hp, err = h.enterLocked(f, named, l)
	return hp, nil, err
}

// leavingLocked returns the helper of a name if it is just about to leave.
func (h *Host) leavingLocked(name string) *helper {
	if hp := h.findLocked(name); hp != nil && hp.state == shared.StateDraining && hp.op != nil {
		return hp
	}
	return nil
}

// enterLocked is enter where nobody of that name is leaving.
func (h *Host) enterLocked(f *face, named bool, l *loading) (*helper, error) {
	if h.closed {
		return nil, errClosed()
	}
	hp := h.findLocked(f.spec.Name)
	switch {
	case hp == nil:
		hp = h.newcomerLocked(f, named, l)
	case hp.op == nil && (hp.state == shared.StatePrimed && !l.priming || hp.state == shared.StateDisabled && l.force):
		if path := h.waits.pathLocked(hp, l.parent); path != nil { // it has asked for things before its Init
			return nil, circular(path)
		}
		l.claimed = hp.state
		hp.claimLocked(f)
	default:
		return nil, hp.occupiedLocked()
	}
	hp.beginLocked(l.depth)
	return hp, h.dependLocked(l.parent, hp) // which is no circle: that was looked for, and who is new waits for nobody
}

// newcomerLocked puts a helper into the registry.
func (h *Host) newcomerLocked(f *face, named bool, l *loading) *helper {
	source := shared.SourceFilesys
	if f.spec.Load == shared.LoadBoot {
		source = shared.SourceBoot
	}
	b := h.offered[f.spec.Name]
	if b != nil && named && l.dial == nil && len(f.spec.Command) == 0 {
		source = shared.SourceBuiltin
	} else {
		b = nil
	}
	hp := h.newHelper(f, source)
	hp.builtin = b
	h.nextID++
	hp.id = h.nextID
	h.helpers = append(h.helpers, hp)
	return hp
}

// claimLocked makes a primed helper, or a disabled builtin, one that is being loaded. What the configuration says of a primed one stays.
func (hp *helper) claimLocked(f *face) {
	claimed := *hp.face.Load()
	claimed.force = claimed.force || f.force
	claimed.narrowed = f.narrowed
	if len(f.overrides) > 0 {
		claimed.overrides = f.overrides
	}
	hp.face.Store(&claimed)
	hp.state = shared.StateStarting
}

// occupiedLocked says why a name that is taken cannot be loaded.
func (hp *helper) occupiedLocked() error {
	switch {
	case hp.state == shared.StateDisabled:
		return shared.ErrPermission.Errorf("builtin %q is disabled: only a forced load brings it back", hp.name)
	case hp.state == shared.StateFailed:
		return shared.ErrExist.Errorf("helper %q is loaded already, but it has failed: unload it first (%s)", hp.name, hp.lastErr)
	case hp.state == shared.StateStarting || hp.state == shared.StatePrimed:
		return shared.ErrExist.Errorf("helper %q is being loaded already", hp.name)
	default:
		return shared.ErrExist.Errorf("helper %q is loaded already", hp.name)
	}
}

// bring loads a helper that enter has entered, and ends that operation. Named tells whether its name was asked for, or guessed from its
// file.
func (h *Host) bring(ctx context.Context, hp *helper, named bool, l *loading) error {
	err := h.bringUp(ctx, hp, named, l)
	if err != nil {
		h.mu.Lock()
		hp.failure = err
		h.unenterLocked(hp, l)
		h.mu.Unlock()
	}
	h.endOperation(hp, l.parent)
	if err != nil {
		hp.log.Debug("load failed", "error", err)
		h.rollBack(ctx, l.brought, l.parent)
		l.brought = nil
	}
	return err
}

// bringUp does what bring promises, but leaves the registry's entry of a load that failed to it.
func (h *Host) bringUp(ctx context.Context, hp *helper, named bool, l *loading) error {
	if hp.builtin != nil {
		return h.bringUpBuiltin(ctx, hp, l)
	}
	in, err := h.meetOrClaim(ctx, hp, named, l)
	if err != nil {
		return err
	}
	if err := h.initialise(ctx, in, l); err != nil {
		return in.giveUp(err)
	}
	if err := h.activate(in, l); err != nil {
		// The load has failed already, and this helper goes whatever it says.
		start, cancel := context.WithTimeout(ctx, h.cfg.StartTimeout)
		defer cancel()
		_, _ = in.finish(start, h.cfg.StopTimeout, true)
		return errors.Join(err, in.stop(start, h.cfg.StopTimeout))
	}
	hp.log.Info("loaded", "version", in.face.info.Version, "pid", in.end.PID(), "sha256", in.end.SHA256())
	return nil
}

// meetOrClaim starts a helper and asks what it is, or takes the instance that was primed for what this load wants it to be.
func (h *Host) meetOrClaim(ctx context.Context, hp *helper, named bool, l *loading) (*instance, error) {
	in := hp.inst.Load()
	if in == nil {
		return h.meet(ctx, hp, named, l.dial)
	}
	f, err := hp.face.Load().described(&in.face.info)
	if err != nil {
		return nil, in.giveUp(err)
	}
	in.face = f
	return in, nil
}

// giveUp ends an instance that has not come into use and returns why, in the words of its exit if it has exited.
func (in *instance) giveUp(err error) error {
	err = in.why(err)
	in.abort()
	return err
}

// unenterLocked undoes enter.
func (h *Host) unenterLocked(hp *helper, l *loading) {
	if l.claimed != shared.StateDisabled {
		h.withdrawLocked(hp)
		return
	}
	hp.state = shared.StateDisabled
	hp.unrequireLocked()
}

// withdrawLocked takes a helper out of the registry, with all it held.
func (h *Host) withdrawLocked(hp *helper) {
	h.helpers = slices.DeleteFunc(h.helpers, func(x *helper) bool { return x == hp })
	hp.unrequireLocked()
	if in := hp.inst.Load(); in != nil {
		h.endHoldsLocked(in)
	}
}

// rollBack unloads what a load has brought that came to nothing, the last first, unless somebody else needs it by now, or it is to be there
// from the start anyway. Waits cannot go on before that has ended; nil stands for somebody who is no helper.
func (h *Host) rollBack(ctx context.Context, brought []arrival, waits *helper) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), h.cfg.StopTimeout)
	defer cancel()
	for _, a := range slices.Backward(brought) {
		if a.helper.source == shared.SourceBoot || a.was == shared.StatePrimed {
			continue
		}
		if err := h.unload(ctx, a.helper, unloading{takenBack: true, disable: a.was == shared.StateDisabled, parent: waits}); err != nil {
			a.helper.log.Debug("stays, though the load that brought it has failed", "error", err)
		}
	}
}

// arrival is a helper that was loaded for another.
type arrival struct {
	helper *helper
	was    shared.State // "": it was not there
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
	if err := h.requireAll(ctx, hp, in.face, l); err != nil {
		return err
	}
	return in.init(ctx, props)
}

// init has the helper initialise itself, within what is left of the time for its start.
func (in *instance) init(ctx context.Context, props map[string]any) error {
	ctx, cancel := context.WithTimeout(ctx, max(in.host.cfg.StartTimeout-in.startTook, minInit))
	defer cancel()
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
	hp.state = shared.StateActive
	h.generation++
	hp.beginLifeLocked(l)
	h.disarmLocked(hp.name)
	h.publish(hp.loadedEventLocked())
}
