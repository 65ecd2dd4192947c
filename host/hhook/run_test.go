package hhook

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/khelp/khelp/host/osd"
	"github.com/khelp/khelp/shared"
)

// counts checks a hook's counters.
func counts(t *testing.T, hook *Hook, committed, missed, skipped uint64) {
	t.Helper()
	c := hook.Stats().Read()
	if c.Committed != committed || c.Calls-c.Committed != missed || c.Skipped != skipped {
		t.Errorf("%s: %d committed, %v missed, %d skipped; want %d, %d, %d",
			hook.Helper, c.Committed, c.Missed, c.Skipped, committed, missed, skipped)
	}
}

func TestH9_ObserveGoesOn(t *testing.T) {
	h := newHead(t, Options{})
	a, b, c := newHook(1, "a", reject), newHook(2, "b", fail(shared.CauseCrash)), newHook(3, "c", pass)
	b.Policy.OnFailure = shared.Closed
	add(t, h, a, b, c)
	if v := run(t, h, nil); v.Rejected || v.Err() != nil {
		t.Errorf("%+v", v)
	}
	counts(t, a, 1, 0, 0)
	counts(t, b, 0, 1, 0)
	counts(t, c, 1, 0, 0)
}

func TestH9_FirstRejectEndsTheChain(t *testing.T) {
	h := newHead(t, Options{Kind: Filter})
	a, b, c, d := newHook(1, "a", pass), newHook(2, "b", reject), newHook(3, "c", pass), newHook(4, "d", reject)
	add(t, h, a, b, c, d)
	v := run(t, h, nil)
	if !v.Rejected || v.Helper != "b" || v.Reason != "no" || v.Cause != shared.CauseNone {
		t.Errorf("%+v", v)
	}
	if err := v.Err(); !errors.Is(err, shared.ErrRejected) || err.Error() != "rejected by b: no" {
		t.Errorf("%v", err)
	}
	counts(t, a, 1, 0, 0)
	counts(t, b, 1, 0, 0) // a reject commits
	counts(t, c, 0, 0, 1)
	counts(t, d, 0, 0, 1)
}

func TestH9_FailuresOnFilters(t *testing.T) {
	for _, tc := range []struct {
		policy Policy
		reject bool
	}{
		{Policy{}, true},
		{Policy{OnFailure: shared.Open}, false},
		{Policy{OnFailure: shared.Open, OnCause: map[shared.Cause]shared.Action{shared.CauseTimeout: shared.Closed}}, true},
		{Policy{OnCause: map[shared.Cause]shared.Action{shared.CauseTimeout: shared.Open}}, false},
	} {
		h := newHead(t, Options{Kind: Filter})
		a, b := newHook(1, "a", fail(shared.CauseTimeout)), newHook(2, "b", pass)
		a.Policy = tc.policy
		add(t, h, a, b)
		v := run(t, h, nil)
		if v.Rejected != tc.reject {
			t.Errorf("%+v: %+v", tc.policy, v)
		}
		counts(t, a, 0, 1, 0)
		if !tc.reject {
			counts(t, b, 1, 0, 0)
			continue
		}
		counts(t, b, 0, 0, 1)
		if v.Cause != shared.CauseTimeout || v.Helper != "a" || v.Reason != "broken" || v.Err().Error() != "rejected because a failed (timeout): broken" {
			t.Errorf("%+v: %v", v, v.Err())
		}
	}
}

func TestH9_MutableHeadsPassTheNewContextOn(t *testing.T) {
	replace := func(text string, cause shared.Cause) target {
		return func(_ context.Context, inv *Invocation) Outcome {
			return Outcome{Cause: cause, Context: append(slices.Clone(inv.Context), text...)}
		}
	}
	for _, mutable := range []bool{true, false} {
		h := newHead(t, Options{Kind: Filter, Mutable: mutable})
		b := newHook(2, "b", replace("-b", shared.CauseCrash)) // a call that failed replaces nothing
		b.Policy.OnFailure = shared.Open
		var seen string
		add(t, h, newHook(1, "a", replace("-a", shared.CauseNone)), b, newHook(3, "c", func(_ context.Context, inv *Invocation) Outcome {
			seen = string(inv.Context)
			return Outcome{Reject: true}
		}))
		v := run(t, h, nil)
		if mutable && (seen != "msg-a" || string(v.Context) != "msg-a") {
			t.Errorf("the last hook saw %q, the caller has %q", seen, v.Context)
		}
		if !mutable && (seen != "msg" || v.Context != nil) {
			t.Errorf("not mutable: the last hook saw %q, the caller has %q", seen, v.Context)
		}
	}
}

func TestO3_NoSlotNoCall(t *testing.T) {
	for _, opts := range []Options{{}, {Async: true}} {
		h := newHead(t, opts)
		var slots []*osd.Slot
		keep := func(_ context.Context, inv *Invocation) Outcome { slots = append(slots, inv.Slot); return Outcome{} }
		a, b := newHook(1, "a", keep), newHook(2, "b", keep)
		a.NeedsOSD = true
		add(t, h, a, b)
		with := object(1, 1)
		run(t, h, with)
		run(t, h, object(2))
		run(t, h, nil)
		counts(t, a, 1, 0, 2)
		counts(t, b, 3, 0, 0)
		if !slices.Equal(slots, []*osd.Slot{with.Slot(1), nil, nil, nil}) {
			t.Errorf("async %v: slots %v", opts.Async, slots)
		}
	}
}

// later is a Target that keeps what is queued.
type later struct {
	queued []Invocation
}

func (l *later) Call(context.Context, *Invocation) {}

func (l *later) Queue(_ context.Context, inv *Invocation) { l.queued = append(l.queued, *inv) }

func TestH10_QueuedInvocationsCountAtTheirEndAndHoldTheirList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHead(t, Options{Async: true})
		l := &later{}
		hook := NewHook(HookConfig{Helper: "a", ID: 1, Target: l})
		add(t, h, hook)
		start := time.Now()
		obj := object(1)
		for range 3 {
			run(t, h, obj)
		}
		if len(l.queued) != 3 || !l.queued[0].Queued() || !obj.TryLock() {
			t.Fatalf("%d were queued, or the object's turn was kept", len(l.queued))
		}
		if got := l.queued[0].Deadline.Sub(start); got != shared.DefaultBudget {
			t.Errorf("the deadline is %v after entry", got)
		}
		counts(t, hook, 0, 0, 0)
		h.Remove(hook)
		drained := make(chan error, 1)
		go func() { drained <- h.Drain(t.Context()) }()
		for i := range l.queued {
			synctest.Wait()
			if len(drained) != 0 {
				t.Fatalf("drained with %d queued", 3-i)
			}
			l.queued[i].Done(Outcome{Cause: []shared.Cause{"", shared.CauseCrash, ""}[i]}, time.Millisecond)
		}
		if err := <-drained; err != nil {
			t.Error(err)
		}
		counts(t, hook, 2, 1, 0)
		if p50 := hook.Stats().Read().P50; p50 < time.Millisecond || p50 > time.Millisecond*9/8 {
			t.Errorf("p50 %v", p50)
		}
	})
}

func TestH11_RunReturnsWithinTheBudgetThoughTheTurnIsNeverFree(t *testing.T) {
	for _, tc := range []struct {
		name   string
		kind   Kind
		inProc bool
		policy Policy
		reject bool
	}{
		{"observe", Observe, false, Policy{}, false},
		{"filter", Filter, false, Policy{}, true},
		{"filter in process", Filter, true, Policy{}, true},
		{"open filter", Filter, false, Policy{OnFailure: shared.Open}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const budget = 150 * time.Millisecond
				h := newHead(t, Options{Kind: tc.kind, Budget: budget})
				hook := func(id shared.HelperID, needs bool) *Hook {
					return NewHook(HookConfig{Helper: "h", ID: id, InProc: tc.inProc, Policy: tc.policy, NeedsOSD: needs, Target: target(pass)})
				}
				first, slotless, last := hook(1, false), hook(2, true), hook(3, false)
				add(t, h, first, slotless, last)
				obj := object(1)
				if !obj.TryLock() {
					t.Fatal("the turn is not free")
				}
				start := time.Now()
				v := run(t, h, obj)
				if got := time.Since(start); got < budget || got > budget+20*time.Millisecond {
					t.Errorf("returned after %v, the budget is %v", got, budget)
				}
				if v.Rejected != tc.reject || tc.reject && v.Cause != shared.CauseTimeout {
					t.Errorf("%+v", v)
				}
				counts(t, first, 0, 1, 0)
				counts(t, slotless, 0, 0, 1)
				if tc.reject {
					counts(t, last, 0, 0, 1)
				} else {
					counts(t, last, 0, 1, 0)
				}
				obj.Unlock()
				run(t, h, obj)
				counts(t, first, 1, 1, 0)
			})
		})
	}
}

// The budget is counted from entry: what waiting for the turn took is gone from the hook's.
func TestH11_WaitingForTheTurnCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHead(t, Options{Budget: time.Second})
		var left time.Duration
		add(t, h, NewHook(HookConfig{Helper: "a", ID: 1, Target: target(func(_ context.Context, inv *Invocation) Outcome {
			left = time.Until(inv.Deadline)
			return Outcome{}
		})}))
		obj := object(1)
		obj.TryLock()
		time.AfterFunc(700*time.Millisecond, obj.Unlock)
		run(t, h, obj)
		if left != 300*time.Millisecond {
			t.Errorf("%v are left of 1s after 700ms", left)
		}
	})
}

func TestO5_RunsOnOneObjectTakeTurnsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHead(t, Options{})
		release := make(chan struct{})
		entered := make(chan uint64, 10)
		add(t, h, newHook(1, "a", func(_ context.Context, inv *Invocation) Outcome {
			entered <- uint64(inv.Context[0])
			<-release
			return Outcome{}
		}))
		one, two := object(1), object(2)
		var runs sync.WaitGroup
		start := func(obj *osd.Object, mark byte) {
			runs.Go(func() {
				if _, err := h.Run(t.Context(), obj, []byte{mark}); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		for mark := range byte(4) {
			start(one, mark)
		}
		start(two, 100)
		if got := []uint64{<-entered, <-entered}; !slices.Equal(got, []uint64{0, 100}) || len(entered) != 0 {
			t.Fatalf("%v entered, want the first of each object", got)
		}
		release <- struct{}{}
		release <- struct{}{}
		for want := uint64(1); want < 4; want++ {
			synctest.Wait()
			if got := <-entered; got != want || len(entered) != 0 {
				t.Errorf("%d entered, want %d alone", got, want)
			}
			release <- struct{}{}
		}
		runs.Wait()
	})
}

func TestInProcessDurationsAreSampled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHead(t, Options{})
		hook := newHook(1, "a", func(context.Context, *Invocation) Outcome { <-time.After(time.Millisecond); return Outcome{} })
		add(t, h, hook)
		for range 2 * sampleEvery {
			run(t, h, nil)
		}
		timed := uint64(0)
		for i := range hook.stats.latency.buckets {
			timed += hook.stats.latency.buckets[i].Load()
		}
		if timed != 2 {
			t.Errorf("%d of %d calls were timed, want 2", timed, 2*sampleEvery)
		}
	})
}
