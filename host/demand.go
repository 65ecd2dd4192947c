package host

import (
	"context"
	"errors"
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

// forgive has a load tried again at once.
func (d *demand) forgive() { d.err, d.delay, d.retryAt = nil, 0, time.Time{} }

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
	defer h.unlockAndSay()
	if d.loading != l {
		return // arrivedLocked has told them
	}
	d.loading, l.helper, l.err = nil, hp, err
	if err != nil {
		d.delay = min(max(2*d.delay, demandDelay), demandDelayMax)
		d.err, d.retryAt = err, time.Now().Add(d.delay)
		h.sayLocked(func() { h.log.Debug("autoload failed", "helper", d.name, "error", err) })
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
