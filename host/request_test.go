package host_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/helper"
	"github.com/khelp/khelp/shared/wire"
)

// A helper may have unloaded what it has had loaded, and nothing else: not itself, nor what somebody else has loaded or holds.
func TestL10_UnloadsWhatItHadLoaded(t *testing.T) {
	f := newFixture(t, host.Config{})
	ctx := context.Background()
	var asks *helper.Host
	var inInit error
	f.putInit("top", func(ctx context.Context, h *helper.Host) error {
		asks, inInit = h, h.Unload(ctx, "top")
		return errors.Join(h.Load(ctx, "brief"), h.Unload(ctx, "brief"))
	}, "base")
	f.put("user", "mate")
	for _, name := range []string{"base", "brief", "mate", "byhand"} {
		f.put(name)
	}
	f.configure("top", "user", "base", "brief", "mate", "byhand")
	f.must(f.load("byhand"))
	f.must(f.load("top"))
	wantErr(t, inInit, shared.ErrBusy, "top asks to unload itself")
	f.want("byhand=active top=active base=active")

	wantErr(t, asks.Unload(ctx, "top"), shared.ErrBusy, "itself")
	wantErr(t, asks.Unload(ctx, "base"), shared.ErrPermission, "top asks to unload base, which it has not loaded")
	wantErr(t, asks.Unload(ctx, "byhand"), shared.ErrPermission, "byhand")
	wantErr(t, asks.Unload(ctx, "ghost"), shared.ErrNotExist, "ghost")
	f.must(asks.Load(ctx, "mate"))
	f.must(f.load("user"))
	wantErr(t, asks.Unload(ctx, "mate"), shared.ErrBusy, "held by user")
	f.must(f.unload("user"))
	f.must(asks.Unload(ctx, "mate"))
	wantErr(t, asks.Unload(ctx, "mate"), shared.ErrNotExist, "mate")
	f.must(f.load("mate"))
	wantErr(t, asks.Unload(ctx, "mate"), shared.ErrPermission, "mate") // now an operator has
	// Another incarnation has loaded nothing yet.
	f.must(f.unload("mate"))
	f.must(asks.Load(ctx, "mate"))
	f.must(f.Restart(ctx, "top"))
	wantErr(t, asks.Unload(ctx, "mate"), shared.ErrPermission, "mate")
}

// That somebody else has had another loaded by the name of one that has left gives no right to it.
func TestL10_UnloadsNotItsSuccessor(t *testing.T) {
	f := newFixture(t, host.Config{})
	ctx := context.Background()
	asks := map[string]*helper.Host{}
	for _, name := range []string{"one", "two"} {
		f.putInit(name, func(_ context.Context, h *helper.Host) error { asks[name] = h; return nil })
	}
	f.put("mate")
	f.configure("one", "two", "mate")
	f.must(f.load("one"))
	f.must(f.load("two"))
	f.must(asks["one"].Load(ctx, "mate"))
	f.must(f.unload("mate"))
	f.must(asks["two"].Load(ctx, "mate"))
	wantErr(t, asks["one"].Unload(ctx, "mate"), shared.ErrPermission, "one asks to unload mate, which it has not loaded")
	f.must(asks["two"].Unload(ctx, "mate"))
	// Those that have left are forgotten.
	for range 3 {
		f.must(asks["one"].Load(ctx, "mate"))
		f.must(f.unload("mate"))
	}
	f.must(asks["one"].Load(ctx, "mate"))
	if n := host.HadLoaded(f.Host, "one"); n != 1 {
		t.Errorf("one remembers %d helpers", n)
	}
}

// A helper that is only described, or primed, asks for nothing.
func TestL10_NotBeforeInit(t *testing.T) {
	f := newFixture(t, host.Config{})
	point := head(t, f.Host, "p.x", hhook.Options{})
	f.put("mate")
	f.configure("mate")
	f.must(f.load("mate"))
	f.putRaw("early", func(*wire.Modinfo) {})
	asked := f.raw["early"].asking()
	for _, e := range f.Prime(t.Context(), specsOf("early")) {
		t.Fatal(e)
	}
	hold := &wire.ControlToHost{Body: &wire.ControlToHost_Hold{Hold: &wire.HoldRequest{Name: "mate"}}}
	getID := &wire.ControlToHost{Body: &wire.ControlToHost_GetId_{GetId_: &wire.GetIdRequest{Name: "mate"}}}
	for _, req := range []*wire.ControlToHost{
		hold,
		{Body: &wire.ControlToHost_Load{Load: &wire.LoadRequest{Name: "mate"}}},
		{Body: &wire.ControlToHost_Unload{Unload: &wire.UnloadRequest{Name: "mate"}}},
		{Body: &wire.ControlToHost_AddHook{AddHook: &wire.AddHookRequest{Hook: &wire.HookInfo{Point: "p.x"}}}},
	} {
		wantErr(t, asked(req), shared.ErrInvalid, "early asks for something before its Init")
	}
	f.must(asked(getID))
	f.initClass("")
	f.must(asked(hold))
	if st := f.helper("mate"); st.Refs != 1 || point.Enabled() {
		t.Errorf("%+v, enabled %v", st, point.Enabled())
	}
	f.must(f.unload("early"))
	f.must(f.unload("mate"))
}

// Loads, unloads, restarts, holds and starts of helpers that require one another go on side by side, some in circles and some failing.
// Invariants: nobody waits for ever; and when all has come to rest, who is loaded can be unloaded, dependants first, with no reference
// and no hook left.
func TestHammer_Loader(t *testing.T) {
	const workers, rounds = 8, 60
	f := newFixture(t, host.Config{})
	ctx := context.Background()
	points := []*hhook.Head{head(t, f.Host, "p.early", hhook.Options{})}
	all := map[string][]string{
		"a": {"b", "c"}, "b": {"c", "d"}, "c": {"d"}, "d": nil, "e": {"f"}, "f": {"e"}, "g": {"a", "bad"}, "bad": nil, "h": {"d ~> 2.0"}, "i": nil, "clock": nil,
	}
	var names []string
	for name, requires := range all {
		names = append(names, name)
		hp := hooking(name, "p.early", "p.late")
		hp.Requires = requires
		hp.Init = func(ctx context.Context, h *helper.Host) error {
			switch name {
			case "bad":
				return errors.New("no")
			case "i":
				_ = h.Load(ctx, "b") // whatever becomes of it
				_ = h.Hold(ctx, "b")
			}
			return nil
		}
		if name != "clock" {
			hosttest.Put(f.path, hp)
		}
	}
	f.configure(names...)
	f.must(f.OfferBuiltin((&clock{}).builtin()))
	var hammering sync.WaitGroup
	for worker := range workers {
		hammering.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(worker), 7))
			for range rounds {
				name := names[rnd.IntN(len(names))]
				switch rnd.IntN(9) {
				case 0, 1, 2:
					_ = f.Load(ctx, shared.HelperSpec{Name: name}, host.LoadOptions{Force: rnd.IntN(2) == 0, NoAutoload: rnd.IntN(4) == 0})
				case 3, 4:
					_ = f.Unload(ctx, name, host.UnloadOptions{Disable: true})
				case 5:
					_ = f.Restart(ctx, name)
				case 6:
					if f.Hold(name) == nil {
						_ = f.Rele(name) // gone, if it was disabled meanwhile: it cannot be, it is held
					}
				case 7:
					f.Prime(ctx, specsOf(name))
					f.InitClass(ctx, "")
				case 8:
					f.LoadAll(ctx, specsOf(name, "a", "c"))
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { hammering.Wait(); close(done) }()
	hosttest.Await(t, "the end of the hammering", done)
	points = append(points, head(t, f.Host, "p.late", hhook.Options{}))
	f.EndBoot(ctx)
	hosttest.Until(t, "all are unloaded", func() bool {
		st, err := f.Stat(ctx, "")
		f.must(err)
		for _, h := range st.Helpers {
			_ = f.Unload(ctx, h.Name, host.UnloadOptions{Disable: true})
		}
		return fmt.Sprint(len(st.Helpers)) == "0" || f.states() == "clock=disabled"
	})
	for _, point := range points {
		if point.Enabled() {
			t.Errorf("hooks left on %s: %s", point.Point(), order(point))
		}
	}
}
