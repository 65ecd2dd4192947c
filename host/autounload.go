package host

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// lifetime is what decides when a helper leaves by itself: NetBSD's mod_flags and mod_autotime. It is protected by host.mu.
type lifetime struct {
	autoloaded bool      // no operator asked for it
	demanded   bool      // an object or a run did, so calls count as use
	loadedAt   time.Time // the first incarnation's
	idleSince  time.Time // from then on nobody has held it or, if it came on demand, called it
	calls      uint64    // when that was last looked at
	tried      bool      // by the policy once
	after      time.Duration
}

// pingPong remembers a helper that has left because it was idle, so that it stays longer if it is back too soon.
type pingPong struct {
	leftAt time.Time
	after  time.Duration // what it stayed idle for
	factor int           // how much longer than configured that was
}

const (
	defaultAfter    = 10 * time.Second
	defaultFloor    = 0.05
	maxPingPong     = 64          // times the configured time
	pressureEvery   = time.Second // memory is looked at while there is somebody whom pressure could cost
	callsChecks     = 8           // how often within its time a helper that came on demand is looked at
	minSweep        = 10 * time.Millisecond
	autounloadLimit = time.Second // for the helper's vote
)

// beginLifeLocked notes how a helper came to be active.
func (hp *helper) beginLifeLocked(l *loading) {
	now := time.Now()
	hp.lifetime = lifetime{loadedAt: now, idleSince: now}
	hp.autoloaded = l.auto && hp.source != shared.SourceBoot && hp.builtin == nil
	hp.demanded = l.demanded
	hp.after = hp.stayLocked(now)
	hp.host.kick()
}

// stayLocked returns how long the helper stays when it is idle: longer each time that it had left and was back within the time for which
// it had been kept.
func (hp *helper) stayLocked(now time.Time) time.Duration {
	after := cmp.Or(hp.face.Load().spec.AutounloadAfter, hp.host.cfg.Autounload.After)
	pp := hp.host.pingPongs[hp.name]
	if pp == nil {
		return after
	}
	if now.Sub(pp.leftAt) < pp.after {
		pp.factor = min(2*pp.factor, maxPingPong)
	} else {
		pp.factor = 1
	}
	return after * time.Duration(pp.factor)
}

// leftLocked notes that the helper has left because it was idle.
func (hp *helper) leftLocked() {
	pp := hp.host.pingPongs[hp.name]
	if pp == nil {
		pp = &pingPong{factor: 1}
		hp.host.pingPongs[hp.name] = pp
	}
	pp.leftAt, pp.after = time.Now(), hp.after
}

// unloadAtLocked returns when the helper is to be tried, or the zero time: never, or not before references are dropped.
func (hp *helper) unloadAtLocked() time.Time {
	switch policy := hp.autounloadPolicy(); {
	case !hp.autoloaded || !hp.isActiveLocked() || policy == shared.AutounloadNever:
		return time.Time{}
	case policy == shared.AutounloadOnce && hp.tried:
		return time.Time{}
	case policy == shared.AutounloadOnce:
		return hp.loadedAt.Add(hp.after)
	case hp.refsLocked() > 0:
		return time.Time{}
	default:
		return hp.idleSince.Add(hp.after)
	}
}

func (hp *helper) autounloadPolicy() shared.AutounloadPolicy {
	return cmp.Or(hp.face.Load().spec.Autounload, shared.AutounloadIdle)
}

// lookLocked notes whether a helper that came on demand has been called since it was last looked at.
func (hp *helper) lookLocked(now time.Time) {
	if !hp.demanded {
		return
	}
	var calls uint64
	for _, b := range hp.bindings {
		calls += b.hook.Stats().Calls()
	}
	if calls != hp.calls {
		hp.calls, hp.idleSince = calls, now
	}
}

// SetAutounload changes when helpers that nobody loaded by hand leave again, for those that are loaded from now on, and whom pressure
// costs, for all. The error is ErrInvalid.
func (h *Host) SetAutounload(a Autounload) error {
	if err := a.complete(); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cfg.Autounload = a
	h.kick()
	return nil
}

func (a *Autounload) complete() error {
	a.After = cmp.Or(a.After, defaultAfter)
	a.MemoryFloor = cmp.Or(a.MemoryFloor, defaultFloor)
	a.UnderPressure = cmp.Or(a.UnderPressure, PressureAutoloaded)
	switch {
	case a.After < 0:
		return shared.ErrInvalid.Errorf("autounload after %v is negative", a.After)
	case !(a.MemoryFloor > 0 && a.MemoryFloor < 1):
		return shared.ErrInvalid.Errorf("memory floor %v must be a share between 0 and 1", a.MemoryFloor)
	case a.UnderPressure != PressureAutoloaded && a.UnderPressure != PressureUnreferenced:
		return shared.ErrInvalid.Errorf("under pressure %q must be autoloaded or unreferenced", string(a.UnderPressure))
	}
	return nil
}

// kick has the sweeper look at the helpers again.
func (h *Host) kick() {
	select {
	case h.kicked <- struct{}{}:
	default:
	}
}

// sweep is the sweeper: NetBSD's module_thread. It sleeps while there is nobody whom it could ever unload. Its owner is the host, whose
// Shutdown waits for it.
func (h *Host) sweep() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		var expired <-chan time.Time
		if wait, some := h.untilSweep(); some {
			timer.Reset(wait)
			expired = timer.C
		}
		select {
		case <-h.life.Done():
			return
		case <-h.kicked:
		case <-expired:
			h.sweepOnce(h.life, time.Now(), h.pressed())
		}
	}
}

// untilSweep returns how long there is nothing to do, and whether there ever is.
func (h *Host) untilSweep() (wait time.Duration, some bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	wait = pressureEvery
	for _, hp := range h.helpers {
		some = some || h.expendableLocked(hp)
		if hp.autoloaded && hp.demanded && hp.isActiveLocked() {
			wait = min(wait, hp.after/callsChecks)
		}
		if at := hp.unloadAtLocked(); !at.IsZero() {
			wait = min(wait, at.Sub(now))
		}
	}
	return max(wait, minSweep), some
}

// expendableLocked reports whether pressure could cost the helper.
func (h *Host) expendableLocked(hp *helper) bool {
	return hp.builtin == nil && hp.isActiveLocked() && hp.autounloadPolicy() != shared.AutounloadNever &&
		(hp.autoloaded || h.cfg.Autounload.UnderPressure == PressureUnreferenced)
}

// sweepOnce is one pass: it unloads whoever's time has come by now, or all that may be if memory is short, dependants before whom they
// require, so that whole chains leave at once.
func (h *Host) sweepOnce(ctx context.Context, now time.Time, pressed bool) {
	h.mu.Lock()
	order := h.dependantsFirstLocked()
	for _, hp := range order {
		hp.lookLocked(now)
	}
	h.mu.Unlock()
	for _, hp := range order {
		if ctx.Err() != nil {
			return
		}
		if h.due(hp, now, pressed) {
			h.autounload(ctx, hp)
		}
	}
}

// pressed reports whether memory is short. Where that cannot be told it is not.
func (h *Host) pressed() bool {
	m, err := h.cfg.Memory()
	if err != nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.cfg.Autounload.pressed(m)
}

// due reports whether a helper is to be tried now.
func (h *Host) due(hp *helper, now time.Time, pressed bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if hp.op != nil || !h.expendableLocked(hp) || hp.refsLocked() > 0 && hp.autounloadPolicy() != shared.AutounloadOnce {
		return false
	}
	at := hp.unloadAtLocked()
	return pressed || !at.IsZero() && !now.Before(at)
}

// autounload asks a helper whether it may leave, and unloads it unless it objects or somebody holds it.
func (h *Host) autounload(ctx context.Context, hp *helper) {
	ctx, done, err := h.begin(ctx)
	if err != nil {
		return
	}
	defer done()
	h.mu.Lock()
	hp.tried = true
	since := hp.idleSince
	requires := slices.Clone(hp.requires)
	h.mu.Unlock()
	if err = h.vote(ctx, hp); err == nil {
		err = h.unload(ctx, hp, unloading{})
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		hp.idleSince = time.Now() // it is asked again when its time has passed once more
		hp.log.Debug("not unloaded by itself", "reason", err)
		return
	}
	hp.leftLocked()
	// Whom it required has been idle as long as it was itself: only it held them.
	for _, r := range requires {
		if r.refsLocked() == 0 {
			r.idleSince = maxTime(since, r.loadedAt)
		}
	}
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// vote asks a helper whether it may leave. No answer is no objection: one that hangs is the last to be kept.
func (h *Host) vote(ctx context.Context, hp *helper) error {
	in, none := hp.alive()
	if none.Cause != shared.CauseNone {
		return nil
	}
	h.mu.Lock()
	held := hp.refsLocked() > 0
	h.mu.Unlock()
	if held {
		return shared.ErrBusy.Errorf("somebody holds it")
	}
	ctx, cancel := context.WithTimeout(ctx, autounloadLimit)
	defer cancel()
	answer, err := in.session.Request(ctx, &wire.ControlToHelper{Body: &wire.ControlToHelper_Autounload{Autounload: &wire.AutounloadRequest{}}})
	if err == nil && answer.GetAutounload().GetVote() == wire.AutounloadVote_AUTOUNLOAD_VOTE_NO {
		return shared.ErrBusy.Errorf("the helper objects: %s", shared.Printable(answer.GetAutounload().GetReason(), shared.MaxText))
	}
	return nil
}

// dependantsFirstLocked returns the helpers, each before those it requires, and else the last loaded first.
func (h *Host) dependantsFirstLocked() []*helper {
	var order []*helper
	seen := map[*helper]bool{}
	var visit func(*helper)
	visit = func(hp *helper) {
		if seen[hp] {
			return
		}
		seen[hp] = true
		for _, d := range slices.Backward(hp.dependants) {
			visit(d)
		}
		order = append(order, hp)
	}
	for _, hp := range slices.Backward(h.helpers) {
		visit(hp)
	}
	return order
}

// loadedEventLocked tells of a helper that is active.
func (hp *helper) loadedEventLocked() Event {
	e := Event{Time: hp.loadedAt, Type: EventLoaded, Helper: hp.name, Message: "version " + hp.face.Load().info.Version}
	if in := hp.inst.Load(); in != nil {
		e.Incarnation = in.number
	}
	return e
}

// presentLocked returns an event for each helper that is active.
func (h *Host) presentLocked() []Event {
	var present []Event
	for _, hp := range h.helpers {
		if hp.isActiveLocked() {
			present = append(present, hp.loadedEventLocked())
		}
	}
	return present
}
