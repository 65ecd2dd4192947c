package host

import (
	"cmp"
	"context"
	"maps"
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
	idleSince  time.Time // if nobody holds it: from then on nobody has held it or, if it came on demand, called it
	leaving    time.Time // what it leaves behind has been idle since then, as far as it is concerned; zero: since it has left
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
	hp.calls = hp.callsLocked()
	hp.host.backSoonLocked(hp.name, now)
	hp.after = hp.stayLocked()
	hp.host.kick()
}

// backSoonLocked has a helper stay longer that had left and is back within the time for which it had been kept.
func (h *Host) backSoonLocked(name string, now time.Time) {
	pp := h.pingPongs[name]
	switch {
	case pp == nil:
	case now.Sub(pp.leftAt) < pp.after:
		pp.factor = min(2*pp.factor, maxPingPong)
	default:
		delete(h.pingPongs, name)
	}
}

// stayLocked returns how long the helper stays when it is idle.
func (hp *helper) stayLocked() time.Duration {
	after := cmp.Or(hp.face.Load().spec.AutounloadAfter, hp.host.cfg.Autounload.After)
	if pp := hp.host.pingPongs[hp.name]; pp != nil {
		after *= time.Duration(pp.factor)
	}
	return after
}

// forgetPingPongsLocked forgets those that have stayed away for as long as they had stayed, and of some names those that are not loaded.
func (h *Host) forgetPingPongsLocked(now time.Time, gone func(name string) bool) {
	maps.DeleteFunc(h.pingPongs, func(name string, pp *pingPong) bool {
		return h.findLocked(name) == nil && (now.Sub(pp.leftAt) >= pp.after || gone(name))
	})
}

// leftLocked notes that the helper has left because it was idle.
func (hp *helper) leftLocked() {
	pp := hp.host.pingPongs[hp.name]
	if pp == nil {
		pp = &pingPong{factor: 1}
		hp.host.pingPongs[hp.name] = pp
	}
	pp.leftAt, pp.after = time.Now(), hp.after
	hp.host.forgetPingPongsLocked(time.Now(), func(string) bool { return false })
}

// unloadAtLocked returns when the helper is to be tried, or the zero time: never, or not before references are dropped.
func (hp *helper) unloadAtLocked() time.Time {
	switch policy := hp.autounloadPolicy(); {
	case !hp.autoloaded || !hp.isActiveLocked() || hp.op != nil || policy == shared.AutounloadNever:
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

// lookLocked notes whether a helper that calls bring back has been called since it was last looked at.
func (hp *helper) lookLocked(now time.Time) {
	if calls := hp.callsLocked(); calls != hp.calls && hp.demandableLocked() {
		hp.calls, hp.idleSince = calls, now
	}
}

// demandableLocked reports whether calls count as use: they brought the helper, or would bring it back.
func (hp *helper) demandableLocked() bool { return hp.demanded || hp.host.demands[hp.name] != nil }

func (hp *helper) callsLocked() (calls uint64) {
	for _, b := range hp.bindings {
		calls += b.hook.Stats().Calls()
	}
	return calls
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
	a.After = cmp.Or(a.After, shared.DefaultAutounloadAfter)
	a.MemoryFloor = cmp.Or(a.MemoryFloor, shared.DefaultMemoryFloor)
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
	var looked time.Time // the last time; zero: there was nobody to look at
	for {
		var expired <-chan time.Time
		looked = h.lookedFrom(looked)
		if !looked.IsZero() {
			timer.Reset(time.Until(h.nextLook(looked)))
			expired = timer.C
		}
		select {
		case <-h.life.Done():
			return
		case <-h.kicked:
		case <-expired:
			looked = time.Now()
			h.sweepOnce(h.life, looked, h.pressed())
		}
	}
}

// lookedFrom returns from when on to count until the next look: from the last one, from now if there was nobody to look at until now, and
// the zero time while there is nobody.
func (h *Host) lookedFrom(last time.Time) time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case !slices.ContainsFunc(h.helpers, h.expendableLocked):
		return time.Time{}
	case last.IsZero():
		return time.Now()
	default:
		return last
	}
}

// nextLook returns when there is something to do. It depends on the last look and not on the present time, so that nobody who kicks puts
// it off.
func (h *Host) nextLook(last time.Time) time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	next := last.Add(pressureEvery)
	for _, hp := range h.helpers {
		at := hp.unloadAtLocked()
		if at.IsZero() {
			continue
		}
		next = earlier(next, at)
		if hp.demandableLocked() {
			next = earlier(next, last.Add(hp.after/callsChecks))
		}
	}
	return later(next, last.Add(minSweep))
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
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
		if try, expired := h.due(hp, now, pressed); try {
			h.autounload(ctx, hp, expired)
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

// due reports whether a helper is to be tried now, and whether because its time has come.
func (h *Host) due(hp *helper, now time.Time, pressed bool) (try, expired bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if hp.op != nil || !h.expendableLocked(hp) {
		return false, false
	}
	at := hp.unloadAtLocked()
	expired = !at.IsZero() && !now.Before(at)
	return expired || pressed && hp.refsLocked() == 0, expired
}

// autounload asks a helper whether it may leave, and unloads it unless it objects or somebody holds it.
func (h *Host) autounload(ctx context.Context, hp *helper, expired bool) {
	ctx, done, err := h.begin(ctx)
	if err != nil {
		return
	}
	defer done()
	h.mu.Lock()
	hp.tried = hp.tried || expired
	since := hp.idleSince
	h.mu.Unlock()
	if err = h.vote(ctx, hp); err == nil {
		// Whom it requires has been idle as long as it has been itself, as far as it is concerned: so chains leave in one pass.
		err = h.unload(ctx, hp, unloading{expired: expired, since: since})
	}
	h.mu.Lock()
	defer h.unlockAndSay()
	switch {
	case hp.isActiveLocked():
		hp.idleSince = later(hp.idleSince, time.Now()) // it is asked again when its time has passed once more
		h.sayLocked(func() { hp.log.Debug("not unloaded by itself", "reason", err) })
	case expired:
		hp.leftLocked()
	}
}

func later(a, b time.Time) time.Time {
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
