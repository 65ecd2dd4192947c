package host_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/helper"
)

// Unloading gives up the requirements and does not unload them.
func TestL8_RequirementsAreLetGo(t *testing.T) {
	f := newFixture(t, host.Config{})
	f.put("vegas", "ertt")
	f.put("cubic", "ertt")
	f.put("ertt", "clock")
	f.put("clock")
	f.configure("vegas", "cubic", "ertt", "clock")
	f.must(f.load("vegas"))
	f.must(f.load("cubic"))
	wantErr(t, f.unload("ertt"), shared.ErrBusy, "held by vegas, cubic")
	f.must(f.unload("vegas"))
	wantErr(t, f.unload("ertt"), shared.ErrBusy, "held by cubic")
	f.must(f.unload("cubic"))
	f.want("ertt=active clock=active")
	if ertt, clock := f.helper("ertt"), f.helper("clock"); ertt.Refs != 0 || clock.Refs != 1 {
		t.Errorf("refs %d and %d, want 0 and 1", ertt.Refs, clock.Refs)
	}
	f.must(f.unload("ertt"))
	f.must(f.unload("clock"))
}

// A helper that has died gives up nothing before it is unloaded: it may be started again.
func TestL8_ACrashLetsNobodyGo(t *testing.T) {
	f := newFixture(t, host.Config{})
	f.put("vegas", "ertt")
	f.put("ertt")
	f.configure("vegas", "ertt")
	f.must(f.load("vegas"))
	f.path.Crash("vegas")
	f.await("vegas=failed ertt=active")
	wantErr(t, f.unload("ertt"), shared.ErrBusy, "held by vegas")
	f.must(f.unload("vegas"))
	f.must(f.unload("ertt"))
}

// What Init and Fini say is heard.
func TestL9_InitAndFini(t *testing.T) {
	h := hosttest.New(t, host.Config{})
	in := head(t, h, "tcp.est_in", hhook.Options{})
	hp := counting()
	hp.Init = func(context.Context, *helper.Host) error { return shared.ErrPermission.Errorf("no licence") }
	err := h.Load(t.Context(), shared.HelperSpec{Name: hp.Name}, host.LoadOptions{Dial: hosttest.Serve(t, hp)})
	wantErr(t, err, shared.ErrPermission, "Init: no licence")
	if in.Enabled() {
		t.Error("hooks of a helper whose Init failed")
	}

	refuse := true
	hp = counting()
	hp.Fini = func(context.Context) error {
		if refuse {
			return errors.New("still writing")
		}
		return nil
	}
	hosttest.Load(t, h, hp, shared.HelperSpec{})
	wantErr(t, h.Unload(t.Context(), hp.Name, host.UnloadOptions{}), shared.ErrBusy, "still writing")
	if st, err := h.Stat(t.Context(), hp.Name); err != nil || st.Helpers[0].State != shared.StateActive || !in.Enabled() {
		t.Errorf("after the refusal: %+v, %v, enabled %v", st, err, in.Enabled())
	}
	refuse = false
	if err := h.Unload(t.Context(), hp.Name, host.UnloadOptions{}); err != nil {
		t.Error(err)
	}
}

// A helper that refuses to finish is back in its old places.
func TestL9_OldPlaces(t *testing.T) {
	f := newFixture(t, host.Config{})
	point := head(t, f.Host, "tcp.est_in", hhook.Options{})
	var refuse error
	for _, name := range []string{"one", "two", "three"} {
		hp := hooking(name, "tcp.est_in", "tcp.est_out")
		if name == "two" {
			hp.Fini = func(context.Context) error { return refuse }
		}
		hosttest.Put(f.path, hp)
		f.must(f.load(name))
	}
	refuse = errors.New("still writing")
	wantErr(t, f.unload("two"), shared.ErrBusy, "the helper refuses to finish: still writing")
	late := head(t, f.Host, "tcp.est_out", hhook.Options{})
	if order(point) != "one two three" || order(late) != "one two three" {
		t.Errorf("order %s, on the late head %s", order(point), order(late))
	}
	for range 3 {
		if _, err := point.Run(t.Context(), nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	if st := f.helper("two"); st.State != shared.StateActive || st.Committed != 3 || st.Skipped != 0 {
		t.Errorf("%+v; want 3 committed", st)
	}
	refuse = nil
	f.must(f.unload("two"))
	if order(point) != "one three" {
		t.Errorf("order %s", order(point))
	}
}

// Of an Init that fails nothing stays: no hook, no hold, no reference.
func TestL9_NothingOfAFailedInitStays(t *testing.T) {
	f := newFixture(t, host.Config{})
	point := head(t, f.Host, "tcp.est_in", hhook.Options{})
	f.put("base")
	f.put("held")
	hp := hooking("top", "tcp.est_in")
	hp.Requires = []string{"base"}
	hp.Init = func(ctx context.Context, h *helper.Host) error {
		err := helper.AddHook(ctx, h, helper.HookDecl[struct{}]{Point: "tcp.est_in", UData: []byte("more"), Func: pass})
		if err = errors.Join(err, h.Hold(ctx, "held"), h.Hold(ctx, "held")); err != nil {
			t.Error(err)
		}
		if st, err := f.Stat(ctx, "held"); err != nil || st.Helpers[0].Refs != 2 {
			t.Errorf("%+v, %v; want 2 references while it initialises", st, err)
		}
		return errors.New("no licence")
	}
	hosttest.Put(f.path, hp)
	f.must(f.load("base"))
	f.must(f.load("held"))
	wantErr(t, f.load("top"), shared.ErrInvalid, "Init: no licence")
	f.want("base=active held=active")
	if base, held := f.helper("base"), f.helper("held"); base.Refs != 0 || held.Refs != 0 {
		t.Errorf("references stay behind: base %d, held %d", base.Refs, held.Refs)
	}
	if point.Enabled() {
		t.Error("hooks stay behind")
	}
	f.must(f.unload("held"))
}

func TestL14_HoldsCount(t *testing.T) {
	f := newFixture(t, host.Config{})
	f.put("ertt")
	wantErr(t, f.Hold("ertt"), shared.ErrNotExist, "ertt")
	wantErr(t, f.Rele("ertt"), shared.ErrNotExist, "ertt")
	f.must(f.load("ertt"))
	wantErr(t, f.Rele("ertt"), shared.ErrInvalid, "no hold to release")
	f.must(f.Hold("ertt"))
	f.must(f.Hold("ertt"))
	wantErr(t, f.unload("ertt"), shared.ErrBusy, "held by 2 holds")
	f.must(f.Rele("ertt"))
	wantErr(t, f.unload("ertt"), shared.ErrBusy, "held by 1 hold")
	if st := f.helper("ertt"); st.Refs != 1 {
		t.Errorf("refs %d, want 1", st.Refs)
	}
	f.must(f.Rele("ertt"))
	wantErr(t, f.Rele("ertt"), shared.ErrInvalid, "no hold to release")
	f.must(f.unload("ertt"))
}

// A helper's holds are its own, and end with its process; an operator's stay when the helper that is held crashes.
func TestL14_HoldsOfHelpers(t *testing.T) {
	f := newFixture(t, host.Config{})
	f.put("ertt")
	var holder *helper.Host
	f.putInit("holder", func(ctx context.Context, h *helper.Host) error {
		holder = h
		return errors.Join(h.Hold(ctx, "ertt"), h.Hold(ctx, "ertt"))
	})
	ctx := context.Background()
	wantErr(t, f.load("holder"), shared.ErrNotExist, "ertt")
	f.must(f.load("ertt"))
	f.must(f.load("holder"))
	wantErr(t, f.unload("ertt"), shared.ErrBusy, "held by 2 holds of holder")
	wantErr(t, f.Rele("ertt"), shared.ErrInvalid, "no hold to release") // that would not be the operator's
	f.must(f.Hold("ertt"))
	wantErr(t, f.unload("ertt"), shared.ErrBusy, "held by 1 hold, 2 holds of holder")
	f.must(holder.Rele(ctx, "ertt"))
	f.must(holder.Rele(ctx, "ertt"))
	wantErr(t, holder.Rele(ctx, "ertt"), shared.ErrInvalid, "holder does not hold ertt")
	wantErr(t, holder.Hold(ctx, "holder"), shared.ErrInvalid, "cannot hold itself")
	wantErr(t, holder.Hold(ctx, "ghost"), shared.ErrNotExist, "ghost")
	f.must(holder.Hold(ctx, "ertt"))
	if refs := f.helper("ertt").Refs; refs != 2 {
		t.Errorf("refs %d, want 2", refs)
	}
	f.path.Crash("holder")
	f.await("ertt=active holder=failed")
	if refs := f.helper("ertt").Refs; refs != 1 {
		t.Errorf("refs %d when the holder has died, want the operator's", refs)
	}
	wantErr(t, f.unload("ertt"), shared.ErrBusy, "held by 1 hold")
	f.path.Crash("ertt")
	f.await("ertt=failed holder=failed")
	wantErr(t, f.unload("ertt"), shared.ErrBusy, "held by 1 hold")
	f.must(f.Rele("ertt"))
	f.must(f.unload("ertt"))
}

// An unload may wait: for the last reference, whoever held it, and not for ever.
func TestL14_UnloadWaits(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := bubbleFixture(t, host.Config{})
		f.put("ertt")
		f.put("vegas", "ertt")
		f.configure("ertt", "vegas")
		f.must(f.load("vegas"))
		f.must(f.Hold("ertt"))
		ctx := context.Background()
		wantErr(t, f.Unload(ctx, "ertt", host.UnloadOptions{Wait: time.Millisecond}), shared.ErrBusy, "held by vegas, 1 hold, still after 1ms")
		f.want("vegas=active ertt=active")
		gaveUp, giveUp := context.WithCancel(ctx)
		giveUp()
		wantErr(t, f.Unload(gaveUp, "ertt", host.UnloadOptions{Wait: time.Hour}), shared.ErrCanceled, "waiting for")
		waiting := inBackground(func() error { return f.Unload(ctx, "ertt", host.UnloadOptions{Wait: time.Hour}) })
		synctest.Wait() // it waits for both
		f.must(f.Rele("ertt"))
		synctest.Wait()
		f.want("vegas=active ertt=active")
		f.must(f.unload("vegas"))
		f.must(hosttest.Await(t, "unload", waiting))
		f.want("")
		f.must(f.AddBuiltin(host.Builtin{Name: "clock", Version: "1.0.0"}))
		f.must(f.Hold("clock"))
		wantErr(t, f.Unload(ctx, "clock", host.UnloadOptions{Wait: time.Hour}), shared.ErrBusy, "builtin")
	})
}
