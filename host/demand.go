package host

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/shared"
)

// demand is a helper that is configured to be loaded when the first object of its classes, or the first run of one of its points, asks for
// it. While it is not loaded, stand-ins on the heads keep its places; a helper that needs data on objects has none, for without an object
// of its own it would be passed over anyway. The fields are protected by host.mu.
type demand struct {
	host  *Host // this and the name do not change
	name  string
	face  *face // by what was last known of it
	place int   // among those configured

	hooks hooksByHead // the stand-ins
	armed bool        // they stand on the heads
	era   int         // how often there have been others

	loading *demandLoad // nil: none is under way
	err     error       // what the last load came to
	retryAt time.Time   // not before this is it tried again after a failure
	delay   time.Duration
}

// demandLoad is a load that somebody waits for.
type demandLoad struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when the following are set
	helper *helper
	err    error
}

// How long a helper that cannot be loaded on demand is left alone.
const (
	demandDelay    = time.Second
	demandDelayMax = 30 * time.Second
)

// pendingLocked reports whether the helper would have to be loaded first. One that the operator has disabled is not missed.
func (d *demand) pendingLocked() bool {
	hp := d.host.findLocked(d.name)
	return hp == nil || !hp.bound && hp.state != shared.StateDisabled
}

// standInsLocked returns new stand-ins for a head, not yet added to it, which go on counting where those hooks have got to that are the
// same functions.
func (d *demand) standInsLocked(head *hhook.Head, old []*hhook.Hook) []*hhook.Hook {
	if d.face.info.NeedsOSD {
		return nil
	}
	var hooks []*hhook.Hook
	for _, info := range d.face.info.Hooks {
		if info.Point == head.Point() {
			cfg := d.face.hookConfig(head, info)
			cfg.ID = standInID
			cfg.Target = &standIn{demand: d, head: head, hook: info, era: d.era}
			hooks = append(hooks, hhook.NewHook(cfg))
		}
	}
	return successors(hooks, old)
}

// standInID puts stand-ins where the helper will stand when it is loaded: behind those that are.
const standInID = ^shared.HelperID(0)

// standInsLocked returns the stand-ins of a helper that are on heads now.
func (h *Host) standInsLocked(name string) hooksByHead {
	if d := h.demands[name]; d != nil && d.armed {
		return d.hooks
	}
	return nil
}

// hooksByHead are hooks by where they stand, or are to stand.
type hooksByHead map[*hhook.Head][]*hhook.Hook

func hooksOf(bindings []binding) hooksByHead {
	hooks := hooksByHead{}
	for _, b := range bindings {
		hooks[b.head] = append(hooks[b.head], b.hook)
	}
	return hooks
}

// disarmLocked notes that a helper's own hooks have taken the places of its stand-ins.
func (h *Host) disarmLocked(name string) {
	if d := h.demands[name]; d != nil {
		d.armed = false
		d.forgive()
	}
}

// arrivedLocked tells those who wait for a load that the helper is there, whoever had it loaded. A load for them that could not begin yet
// is not to come after the helper has left again.
func (h *Host) arrivedLocked(hp *helper) {
	d := h.demands[hp.name]
	if d == nil || d.loading == nil {
		return
	}
	l := d.loading
	d.loading, l.helper = nil, hp
	close(l.done)
	l.cancel()
}

// stepAsideLocked puts stand-ins into the places of the hooks of a helper that begins to leave and is loaded on demand, so that from then
// on runs wait until it has left, and have it loaded again. It reports false if they are to be passed over instead.
func (hp *helper) stepAsideLocked() bool {
	d := hp.host.demands[hp.name]
	if d == nil || !hp.bound || hp.builtin != nil || hp.host.closed {
		return false
	}
	standIns := hp.host.armLocked(hp)
	own := hooksOf(hp.bindings)
	for head, hooks := range own {
		if len(standIns[head]) == 0 || head.Replace(hooks, standIns[head]) != nil {
			delete(standIns, head)
			head.Suspend(hooks...) // what it has added at run time, or needs data for, nobody can stand in for
		}
	}
	for head, hooks := range standIns {
		if len(own[head]) == 0 && head.Add(hooks...) != nil {
			delete(standIns, head)
		}
	}
	hp.bound, hp.aside = false, d.era
	hp.noteDrainsLocked()
	return true
}

// stepInLocked ends what stepAsideLocked began: the helper stays.
func (hp *helper) stepInLocked() {
	standIns := hp.host.standInsLocked(hp.name)
	var next []binding
	hp.host.eachHeadLocked(func(head *hhook.Head) {
		old := slices.Concat(standIns[head], hp.hooksOn(head))
		hooks := hp.successorsLocked(head, old)
		if err := head.Replace(old, hooks); err != nil {
			if !errors.Is(err, shared.ErrClosed) {
				hp.log.Error("the hooks of a helper that stays do not fit in any more", "point", string(head.Point()), "error", err)
			}
			return
		}
		head.Resume(hooks...)
		for _, hook := range hooks {
			next = append(next, binding{head, hook})
		}
	})
	hp.succeededLocked(next)
	hp.aside = 0
	hp.host.disarmLocked(hp.name)
	hp.host.arrivedLocked(hp)
}

// forgive has a load tried again at once.
func (d *demand) forgive() { d.err, d.delay, d.retryAt = nil, 0, time.Time{} }

// armLocked has a helper that is about to leave demanded again from then on, and returns the stand-ins to be put into its place.
func (h *Host) armLocked(hp *helper) hooksByHead {
	d := h.demands[hp.name]
	if d == nil || h.closed || d.armed {
		return nil
	}
	base := face{spec: d.face.spec}
	if f, err := base.described(&hp.face.Load().info); err == nil { // else what was loaded by force is not what would be
		d.face = f
	}
	return d.renewLocked(hooksOf(hp.bindings))
}

// renewLocked arms a demand, and returns its stand-ins for the heads there are, which succeed what has stood there for the helper.
func (d *demand) renewLocked(old hooksByHead) hooksByHead {
	d.hooks, d.armed, d.era = hooksByHead{}, true, d.era+1
	d.host.eachHeadLocked(func(head *hhook.Head) {
		if hooks := d.standInsLocked(head, old[head]); len(hooks) > 0 {
			d.hooks[head] = hooks
		}
	})
	return d.hooks
}

// enlistLocked enters a helper that is to be loaded on demand, or what is known and asked of one that was entered before. What is under
// way for it goes on.
func (h *Host) enlistLocked(f *face, place int) {
	d := h.demands[f.spec.Name]
	if d == nil {
		d = &demand{host: h, name: f.spec.Name}
		h.demands[f.spec.Name] = d
	}
	d.face, d.place = f, place
	d.forgive()
	if hp := h.findLocked(f.spec.Name); hp != nil && (hp.bound || hp.state == shared.StateDisabled) {
		return
	}
	old := h.standInsLocked(f.spec.Name)
	replaceHooks(old, d.renewLocked(old))
}

// addStandInsLocked puts stand-ins onto a head that has just been made. One whose order fits in nowhere has none there: the helper itself
// will not either, and its load will say so.
func (h *Host) addStandInsLocked(head *hhook.Head) {
	byPlace := func(a, b *demand) int { return cmp.Compare(a.place, b.place) }
	for _, d := range slices.SortedFunc(maps.Values(h.demands), byPlace) {
		if !d.armed {
			continue
		}
		hooks := d.standInsLocked(head, nil)
		if len(hooks) == 0 {
			continue
		}
		if err := head.Add(hooks...); err != nil {
			h.log.Warn("no stand-in for a helper that loads on demand", "helper", d.name, "point", string(head.Point()), "error", err)
			continue
		}
		d.hooks[head] = hooks
	}
}

// delistLocked ends a demand; what is loaded stays.
func (h *Host) delistLocked(name string) {
	for head, hooks := range h.standInsLocked(name) {
		head.Remove(hooks...)
	}
	delete(h.demands, name)
}

// demandedLocked returns who has to be loaded before an object of some classes can be made, but for those that have failed already.
func (h *Host) demandedLocked(classes []shared.Class, failed map[string]bool) []*demand {
	var demanded []*demand
	for _, d := range h.demands {
		if d.face.follows(classes) && !failed[d.name] && d.pendingLocked() {
			demanded = append(demanded, d)
		}
	}
	slices.SortFunc(demanded, func(a, b *demand) int { return strings.Compare(a.name, b.name) })
	return demanded
}

// load has the helper loaded, if it is not, and returns it. It waits as long as ctx and deadline allow; the load goes on without whoever
// gives up. After a failure the next try is put off, and the last error stands until then. The era is the stand-in's who asks.
func (d *demand) load(ctx context.Context, deadline time.Time, era int) (*helper, shared.Cause, error) {
	l, hp, err := d.begin(era)
	switch {
	case err != nil:
		return nil, shared.CauseNotLoaded, err
	case hp != nil:
		return hp, shared.CauseNone, nil
	}
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case <-l.done:
		if l.err != nil {
			return nil, shared.CauseNotLoaded, l.err
		}
		return l.helper, shared.CauseNone, nil
	case <-timer.C:
		return nil, shared.CauseStarting, shared.ErrTimeout.Errorf("%s is still being loaded", d.name)
	case <-ctx.Done():
		return nil, shared.CauseStarting, shared.ErrTimeout.Errorf("%s is still being loaded: %w", d.name, ctx.Err())
	}
}

// errDelisted is what a run gets that was on its way when its helper was taken out of the configuration.
var errDelisted = errors.New("it is not configured any more")

// noEra is for an object, which is not content with a helper that is leaving.
const noEra = int(^uint(0) >> 1)

// begin joins the load under way, or begins one; or returns the helper if it is there. To who asks from before the helper began to leave
// it is: it waits for those.
func (d *demand) begin(era int) (*demandLoad, *helper, error) {
	h := d.host
	h.mu.Lock()
	defer h.mu.Unlock()
	if hp := h.findLocked(d.name); hp != nil && (hp.bound || era < hp.aside) {
		return nil, hp, nil
	}
	switch {
	case h.closed:
		return nil, nil, errClosed()
	case d.loading != nil:
		return d.loading, nil, nil
	case h.demands[d.name] != d:
		return nil, nil, errDelisted
	case time.Now().Before(d.retryAt):
		return nil, nil, d.err
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	l := &demandLoad{done: make(chan struct{}), cancel: func() { cancel(nil) }}
	d.loading = l
	spec := d.face.spec
	stop := context.AfterFunc(h.life, func() { cancel(errClosed()) })
	h.busy.Go(func() {
		defer l.cancel()
		defer stop()
		d.run(ctx, spec, l)
	})
	return l, nil, nil
}

// run loads the helper. Its owner is the host, which waits for it in Shutdown.
func (d *demand) run(ctx context.Context, spec shared.HelperSpec, l *demandLoad) {
	h := d.host
	hp, err := h.loadDemanded(ctx, spec)
	h.mu.Lock()
	defer h.mu.Unlock()
	if d.loading != l {
		return // arrivedLocked has told them
	}
	d.loading, l.helper, l.err = nil, hp, err
	if err != nil {
		d.delay = min(max(2*d.delay, demandDelay), demandDelayMax)
		d.err, d.retryAt = err, time.Now().Add(d.delay)
		h.log.Debug("autoload failed", "helper", d.name, "error", err)
	}
	close(l.done)
}

// loadDemanded loads a helper; that somebody else does so already is fine.
func (h *Host) loadDemanded(ctx context.Context, spec shared.HelperSpec) (*helper, error) {
	for {
		l := &loading{auto: true, demanded: true}
		hp, err := h.enter(ctx, spec, l)
		if err == nil {
			return hp, h.bring(ctx, hp, l)
		}
		other, bound, busy := h.look(spec.Name)
		switch {
		case !errors.Is(err, shared.ErrExist):
			return nil, err
		case bound:
			return other, nil
		case other == nil:
			continue // it has come to nothing in the meantime
		case !busy:
			return nil, err
		}
		if _, err := h.await(ctx, nil, other); err != nil {
			return nil, err
		}
	}
}

// look returns the helper of a name, whether its hooks are on the heads, and whether something is under way on it.
func (h *Host) look(name string) (hp *helper, bound, busy bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if hp = h.findLocked(name); hp == nil {
		return nil, false, false
	}
	return hp, hp.bound, hp.op != nil
}

// standIn stands on a head for a hook of a helper that is loaded by being called.
type standIn struct {
	demand *demand
	head   *hhook.Head
	hook   shared.HookInfo
	era    int
}

// Call loads the helper, as far as the head's budget allows, and calls its hook.
func (t *standIn) Call(ctx context.Context, inv *hhook.Invocation) {
	if hook := t.summon(ctx, inv); hook != nil && inv.Redirect(hook) {
		hook.Target.Call(ctx, inv)
	}
}

// Queue loads the helper and queues a call of its hook. The one who makes the first call of all waits, so that none is lost.
func (t *standIn) Queue(ctx context.Context, inv *hhook.Invocation) {
	if hook := t.summon(ctx, inv); hook != nil && inv.Redirect(hook) {
		hook.Target.Queue(ctx, inv)
		return
	}
	inv.Done(inv.Out, 0)
}

// summon returns the hook that it stands for. If there is none that is a failure of the invocation, unless there is not to be one.
func (t *standIn) summon(ctx context.Context, inv *hhook.Invocation) *hhook.Hook {
	hp, cause, err := t.demand.load(ctx, deadlineOf(inv), t.era)
	switch {
	case errors.Is(err, errDelisted), err != nil && t.demand.host.life.Err() != nil:
		inv.Skip()
		return nil
	case err != nil:
		inv.Out = hhook.Failed(cause, err)
		return nil
	}
	hook := t.hookOf(hp)
	if hook == nil { // its program is another by now
		inv.Skip()
	}
	return hook
}

// hookOf returns the helper's hook that it stands for. Another program may have another number for the same function.
func (t *standIn) hookOf(hp *helper) *hhook.Hook {
	hp.host.mu.Lock()
	defer hp.host.mu.Unlock()
	var alike *hhook.Hook
	for _, b := range hp.bindings {
		if b.head != t.head || string(b.hook.UData) != string(t.hook.UData) {
			continue
		}
		if b.hook.Index == t.hook.Index {
			return b.hook
		}
		alike = cmp.Or(alike, b.hook)
	}
	return alike
}

func sameFunction(a hhook.HookConfig, b shared.HookInfo) bool {
	return a.Index == b.Index && string(a.UData) == string(b.UData)
}

// demandWait is the wait of an object for those whom it demands.
type demandWait struct {
	host     *Host
	deadline time.Time
	failed   map[string]bool // whom the object can do without
	held     []*helper       // who was there before the others, and is not to leave meanwhile; protected by host.mu
}

// await loads some, side by side. The error is that of one that the object cannot do without.
func (w *demandWait) await(ctx context.Context, demanded []*demand) error {
	failed := make([]*birth, len(demanded)) // nil: it is there
	var wg sync.WaitGroup
	for i, d := range demanded {
		wg.Go(func() {
			hp, cause, err := d.load(ctx, w.deadline, noEra)
			switch {
			case err == nil:
				w.hold(hp)
			case !errors.Is(err, errDelisted):
				failed[i] = d.stillborn(cause, err)
			}
		})
	}
	wg.Wait()
	for _, b := range failed {
		if b == nil {
			continue
		}
		if err := b.verdict(); err != nil {
			return err
		}
		w.failed[b.name] = true
		w.host.log.Debug("an object is not followed", "helper", b.name, "cause", b.out.Cause, "error", b.out.Err)
	}
	return nil
}

// hold takes a reference of the object in the making.
func (w *demandWait) hold(hp *helper) {
	w.host.mu.Lock()
	defer w.host.mu.Unlock()
	if hp.bound {
		hp.objects++
		w.held = append(w.held, hp)
	}
}

func (w *demandWait) end() {
	w.host.mu.Lock()
	defer w.host.mu.Unlock()
	for _, hp := range w.held {
		hp.dropObjectLocked()
	}
}

// stillborn is the part in the making of an object of a helper that could not be loaded.
func (d *demand) stillborn(cause shared.Cause, err error) *birth {
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
	return &birth{
		name: d.name, kind: kind, policy: d.face.policy(shared.HookSpec{}),
		out: hhook.Failed(cause, err),
	}
}
