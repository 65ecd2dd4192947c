package host

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/shared"
)

// demand is a helper that is configured to be loaded when the first object of its classes, or the first run of one of its points, asks for
// it. While it is not loaded, stand-ins on the heads keep its places; a helper that needs data on objects has none, for without an object
// of its own it would be passed over anyway. The fields are protected by host.mu.
type demand struct {
	host *Host // this and the name do not change
	name string
	face *face // by what was last known of it

	hooks map[*hhook.Head][]*hhook.Hook // the stand-ins, kept for the next time
	armed bool                          // they stand on the heads

	loading *demandLoad // nil: none is under way
	err     error       // what the last load came to
	retryAt time.Time   // not before this is it tried again after a failure
	delay   time.Duration
}

// demandLoad is a load that somebody waits for.
type demandLoad struct {
	done   chan struct{} // closed when the following are set
	helper *helper
	err    error
}

// How long a helper that cannot be loaded on demand is left alone.
const (
	demandDelay    = time.Second
	demandDelayMax = 30 * time.Second
)

// pendingLocked reports whether the helper would have to be loaded first.
func (d *demand) pendingLocked() bool {
	hp := d.host.findLocked(d.name)
	return hp == nil || !hp.bound && hp.state == shared.StateStarting
}

// standsInLocked returns the demand's stand-ins for a head; they are not yet added to it.
func (d *demand) standsInLocked(head *hhook.Head) []*hhook.Hook {
	if d.face.info.NeedsOSD {
		return nil
	}
	if hooks, ok := d.hooks[head]; ok {
		return hooks
	}
	var hooks []*hhook.Hook
	for _, info := range d.face.info.Hooks {
		if info.Point == head.Point() {
			cfg := d.face.hookConfig(head, info)
			cfg.ID = standInID
			cfg.Target = &standIn{demand: d, head: head, hook: info}
			hooks = append(hooks, hhook.NewHook(cfg))
		}
	}
	if len(hooks) > 0 {
		d.hooks[head] = hooks
	}
	return hooks
}

// standInID puts stand-ins where the helper will stand when it is loaded: behind those that are.
const standInID = ^shared.HelperID(0)

// standInsLocked returns the stand-ins of a helper that are on heads now.
func (h *Host) standInsLocked(name string) map[*hhook.Head][]*hhook.Hook {
	if d := h.demands[name]; d != nil && d.armed {
		return d.hooks
	}
	return nil
}

// disarmLocked notes that a helper's own hooks have taken the places of its stand-ins.
func (h *Host) disarmLocked(name string) {
	if d := h.demands[name]; d != nil {
		d.armed, d.err, d.delay, d.retryAt = false, nil, 0, time.Time{}
	}
}

// armLocked has a helper that is about to leave demanded again from then on, and returns the stand-ins to be put into its place.
func (h *Host) armLocked(hp *helper) map[*hhook.Head][]*hhook.Hook {
	d := h.demands[hp.name]
	if d == nil || h.closed || d.armed {
		return nil
	}
	f := *hp.face.Load()
	f.overrides, f.narrowed, f.force, f.spec = nil, nil, false, d.face.spec
	return d.renewLocked(&f)
}

// renewLocked arms a demand by what is known of the helper now, and returns its stand-ins for the heads there are.
func (d *demand) renewLocked(f *face) map[*hhook.Head][]*hhook.Hook {
	d.face, d.hooks, d.armed = f, map[*hhook.Head][]*hhook.Hook{}, true
	d.host.eachHeadLocked(func(head *hhook.Head) { d.standsInLocked(head) })
	return d.hooks
}

// enlistLocked enters a helper that is to be loaded on demand.
func (h *Host) enlistLocked(f *face) {
	d := &demand{host: h, name: f.spec.Name}
	h.demands[f.spec.Name] = d
	hp := h.findLocked(f.spec.Name)
	standIns := d.renewLocked(f)
	if hp != nil && hp.bound {
		d.armed = false
		return
	}
	h.unbindLocked(nil, standIns)
}

// addStandInsLocked puts stand-ins onto a head that has just been made. One whose order fits in nowhere has none there: the helper itself
// will not either, and its load will say so.
func (h *Host) addStandInsLocked(head *hhook.Head) {
	for _, d := range h.demands {
		if !d.armed {
			continue
		}
		if err := head.Add(d.standsInLocked(head)...); err != nil {
			delete(d.hooks, head)
			h.log.Warn("no stand-in for a helper that loads on demand", "helper", d.name, "point", string(head.Point()), "error", err)
		}
	}
}

// delistLocked ends a demand; what is loaded stays.
func (h *Host) delistLocked(name string) {
	for head, hooks := range h.standInsLocked(name) {
		head.Remove(hooks...)
	}
	delete(h.demands, name)
}

// followLocked returns the demands that an object of some classes makes.
func (h *Host) followLocked(classes []shared.Class) []*demand {
	var demanded []*demand
	for _, d := range h.demands {
		if d.pendingLocked() && d.face.follows(classes) {
			demanded = append(demanded, d)
		}
	}
	slices.SortFunc(demanded, func(a, b *demand) int { return strings.Compare(a.name, b.name) })
	return demanded
}

// load has the helper loaded, if it is not, and returns it. It waits as long as ctx and deadline allow; the load goes on without whoever
// gives up. After a failure the next try is put off, and the last error stands until then.
func (d *demand) load(ctx context.Context, deadline time.Time) (*helper, shared.Cause, error) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	l, hp, err := d.begin()
	switch {
	case err != nil:
		return nil, shared.CauseNotLoaded, err
	case hp != nil:
		return hp, shared.CauseNone, nil
	}
	select {
	case <-l.done:
		if l.err != nil {
			return nil, shared.CauseNotLoaded, l.err
		}
		return l.helper, shared.CauseNone, nil
	case <-ctx.Done():
		return nil, shared.CauseStarting, shared.ErrTimeout.Errorf("%s is still being loaded: %w", d.name, ctx.Err())
	}
}

// begin joins the load under way, or begins one; or returns the helper if it is there.
func (d *demand) begin() (*demandLoad, *helper, error) {
	h := d.host
	h.mu.Lock()
	defer h.mu.Unlock()
	if hp := h.findLocked(d.name); hp != nil && hp.bound {
		return nil, hp, nil
	}
	switch {
	case h.closed:
		return nil, nil, errClosed()
	case h.demands[d.name] != d:
		return nil, nil, shared.ErrNotExist.Errorf("%s is not configured any more", d.name)
	case d.loading != nil:
		return d.loading, nil, nil
	case time.Now().Before(d.retryAt):
		return nil, nil, d.err
	}
	l := &demandLoad{done: make(chan struct{})}
	d.loading = l
	spec := d.face.spec
	h.busy.Go(func() { d.run(spec, l) })
	return l, nil, nil
}

// run loads the helper. Its owner is the host, which waits for it in Shutdown.
func (d *demand) run(spec shared.HelperSpec, l *demandLoad) {
	h := d.host
	ctx, cancel := context.WithCancelCause(context.Background())
	stop := context.AfterFunc(h.life, func() { cancel(errClosed()) })
	defer cancel(nil)
	defer stop()
	l.helper, l.err = h.loadDemanded(ctx, spec)
	h.mu.Lock()
	defer h.mu.Unlock()
	d.loading = nil
	if l.err != nil {
		d.delay = min(max(2*d.delay, demandDelay), demandDelayMax)
		d.err, d.retryAt = l.err, time.Now().Add(d.delay)
		h.log.Debug("autoload failed", "helper", d.name, "error", l.err)
	}
	close(l.done)
}

// loadDemanded loads a helper; that somebody else does so already is fine.
func (h *Host) loadDemanded(ctx context.Context, spec shared.HelperSpec) (*helper, error) {
	for {
		l := &loading{auto: true, demanded: true}
		hp, err := h.enter(ctx, spec, l)
		if err == nil {
			return hp, h.bring(ctx, hp, true, l)
		}
		other, bound := h.lookAt(spec.Name)
		switch {
		case !errors.Is(err, shared.ErrExist):
			return nil, err
		case bound:
			return other, nil
		case other == nil:
			continue // it has come to nothing in the meantime
		}
		if err := h.await(ctx, nil, other); err != nil {
			return nil, err
		}
	}
}

// lookAt returns the helper of a name, nil if there is none, and whether its hooks are bound.
func (h *Host) lookAt(name string) (hp *helper, bound bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	hp = h.findLocked(name)
	return hp, hp != nil && hp.bound
}

// standIn stands on a head for a hook of a helper that is loaded by being called.
type standIn struct {
	demand *demand
	head   *hhook.Head
	hook   shared.HookInfo
}

// Call loads the helper, as far as the head's budget allows, and calls its hook.
func (t *standIn) Call(ctx context.Context, inv *hhook.Invocation) {
	hook, out := t.summon(ctx, inv)
	switch {
	case hook == nil:
		inv.Out = out
	case inv.Redirect(hook):
		hook.Target.Call(ctx, inv)
	}
}

// Queue loads the helper and queues a call of its hook. The one who makes the first call of all waits, so that none is lost.
func (t *standIn) Queue(ctx context.Context, inv *hhook.Invocation) {
	hook, out := t.summon(ctx, inv)
	switch {
	case hook == nil:
		inv.Done(out, 0)
	case inv.Redirect(hook):
		hook.Target.Queue(ctx, inv)
	default:
		inv.Done(hhook.Outcome{}, 0)
	}
}

// summon returns the hook that it stands for, or the failure that there is none.
func (t *standIn) summon(ctx context.Context, inv *hhook.Invocation) (*hhook.Hook, hhook.Outcome) {
	hp, cause, err := t.demand.load(ctx, deadlineOf(inv))
	if err != nil {
		return nil, hhook.Failed(cause, err)
	}
	hp.host.mu.Lock()
	defer hp.host.mu.Unlock()
	for _, b := range hp.bindings {
		if b.head == t.head && sameFunction(b.hook.HookConfig, t.hook) {
			return b.hook, hhook.Outcome{}
		}
	}
	return nil, hhook.Failed(shared.CauseNotLoaded, shared.ErrNotExist.Errorf("%s has no hook on %s any more", hp.name, t.head.Point()))
}

func sameFunction(a hhook.HookConfig, b shared.HookInfo) bool {
	return a.Index == b.Index && string(a.UData) == string(b.UData)
}

// awaitDemands loads whom an object of some classes demands, side by side, and returns those that failed.
func (h *Host) awaitDemands(ctx context.Context, classes []shared.Class) []birth {
	h.mu.Lock()
	demanded := h.followLocked(classes)
	h.mu.Unlock()
	if len(demanded) == 0 {
		return nil
	}
	// Several are rare, and the first waits for all: nothing is gained by a goroutine for each, but that they start at once.
	for _, d := range demanded {
		_, _, _ = d.begin() // what it comes to is asked below
	}
	deadline := time.Now().Add(h.cfg.StartTimeout)
	var failed []birth
	for _, d := range demanded {
		if _, cause, err := d.load(ctx, deadline); err != nil {
			failed = append(failed, d.stillborn(cause, err))
		}
	}
	return failed
}

// stillborn is the part in the making of an object of a helper that could not be loaded.
func (d *demand) stillborn(cause shared.Cause, err error) birth {
	h := d.host
	h.mu.Lock()
	defer h.mu.Unlock()
	kind := hhook.Observe
	h.eachHeadLocked(func(head *hhook.Head) {
		hooks := slices.ContainsFunc(d.face.info.Hooks, func(i shared.HookInfo) bool { return i.Point == head.Point() })
		if hooks && head.Options().Kind == hhook.Filter {
			kind = hhook.Filter
		}
	})
	return birth{
		name: d.name, kind: kind, policy: d.face.policy(shared.HookSpec{}),
		out: hhook.Failed(cause, err),
	}
}
