package hhook

import (
	"context"
	"testing"

	"github.com/khelp/khelp/shared"
)

// TestL18_Redirect: a call is counted for whom it was in the end, as what it was in the end.
func TestL18_Redirect(t *testing.T) {
	const last = ^shared.HelperID(0)
	for _, async := range []bool{false, true} {
		var to *Hook
		turn := func(ctx context.Context, inv *Invocation) bool {
			switch {
			case to == nil:
				inv.Skip()
				return false
			case !inv.Redirect(to):
				return false
			}
			return true
		}
		first := NewHook(HookConfig{Helper: "a", ID: last, Target: redirecting(turn)})
		second := newHook(last, "b", pass) // another's stand-in, with the same number
		h := newHead(t, Options{Async: async})
		add(t, h, first, second)

		run(t, h, nil)
		if c := first.Stats().Read(); c.Skipped != 1 || c.Calls != 0 {
			t.Errorf("gone: %+v", c)
		}
		to = newHook(7, "a", fail(shared.CauseCrash))
		run(t, h, nil)
		if a, b := first.Stats().Read(), to.Stats().Read(); a.Calls != 0 || b.Calls != 1 || b.Missed[shared.CauseCrash] != 1 {
			t.Errorf("failed: %+v, %+v", a, b)
		}
		to = NewHook(HookConfig{Helper: "a", ID: 7, NeedsOSD: true, Target: target(pass)})
		run(t, h, nil)
		run(t, h, object(1, 8))
		if b := to.Stats().Read(); b.Calls != 0 || b.Skipped != 2 {
			t.Errorf("without data: %+v", b)
		}
		run(t, h, object(1, 7))
		if b := to.Stats().Read(); b.Committed != 1 {
			t.Errorf("with data: %+v", b)
		}
		if b := second.Stats().Read(); b.Committed != 5 || b.Skipped != 0 {
			t.Errorf("the other: %+v", b)
		}
	}
}

// redirecting is a Target that finds out whom to call.
type redirecting func(ctx context.Context, inv *Invocation) bool

func (f redirecting) Call(ctx context.Context, inv *Invocation) {
	if f(ctx, inv) {
		inv.Hook.Target.Call(ctx, inv)
	}
}

func (f redirecting) Queue(ctx context.Context, inv *Invocation) {
	if f(ctx, inv) {
		inv.Hook.Target.Queue(ctx, inv)
		return
	}
	inv.Done(Outcome{}, 0)
}

// TestL18_SuccessorsOfAnotherID go on counting in the same place, and are not suspended because who was there before is.
func TestL18_SuccessorsOfAnotherID(t *testing.T) {
	var tr trace
	h := newHead(t, Options{})
	a, b := newHook(7, "a", tr.hook), newHook(7, "b", tr.hook)
	add(t, h, a, b)
	run(t, h, nil)
	h.Suspend(a)
	next := a.Successor(HookConfig{Helper: "a", ID: 7, InProc: true, Target: target(tr.hook)})
	if err := h.Replace([]*Hook{a}, []*Hook{next}); err != nil {
		t.Fatal(err)
	}
	tr.take()
	run(t, h, nil)
	if got := tr.take(); len(got) != 1 || got[0] != "b" {
		t.Errorf("of the same id: %v", got)
	}
	standIn := next.Successor(HookConfig{Helper: "a", ID: ^shared.HelperID(0), InProc: true, Target: target(tr.hook)})
	if err := h.Replace([]*Hook{next}, []*Hook{standIn}); err != nil {
		t.Fatal(err)
	}
	run(t, h, nil)
	if got := tr.take(); len(got) != 2 {
		t.Errorf("of another id: %v", got)
	}
	if c := standIn.Stats().Read(); c.Committed != 2 || c.Skipped != 1 {
		t.Errorf("%+v", c)
	}
}

// TestReplaceBack: a hook that comes back, after what was to succeed it did not fit, is not written to while a run has it.
func TestReplaceBack(t *testing.T) {
	h := newHead(t, Options{})
	entered, leave := make(chan struct{}), make(chan struct{})
	a := newHook(1, "a", func(_ context.Context, inv *Invocation) Outcome {
		close(entered)
		if got := inv.Hook.Point(); got != h.Point() {
			t.Errorf("the hook is on %s", got)
		}
		<-leave
		return Outcome{}
	})
	add(t, h, a)
	done := make(chan struct{})
	go func() { run(t, h, nil); close(done) }()
	<-entered
	next := a.Successor(a.HookConfig)
	for _, step := range [][2]*Hook{{a, next}, {next, a}} {
		if err := h.Replace(step[:1], step[1:]); err != nil {
			t.Error(err)
		}
	}
	if got := next.Point(); got != h.Point() {
		t.Errorf("its successor was on %s", got)
	}
	close(leave)
	<-done
}

// TestDraining waits for those only that were there when it was asked for.
func TestDraining(t *testing.T) {
	h := newHead(t, Options{})
	a, b := newHook(1, "a", pass), newHook(2, "b", pass)
	add(t, h, a)
	h.Remove(a)
	drain := h.Draining()
	entered, leave := make(chan struct{}), make(chan struct{})
	b.Target = target(func(context.Context, *Invocation) Outcome { close(entered); <-leave; return Outcome{} })
	add(t, h, b)
	done := make(chan struct{})
	go func() { run(t, h, nil); close(done) }()
	<-entered
	h.Remove(b)
	if err := drain(t.Context()); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if h.Drain(ctx) == nil {
		t.Error("it has not waited for a run that is under way")
	}
	close(leave)
	<-done
}
