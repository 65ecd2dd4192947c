package host_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/host/hosttest/testkit"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/helper"
)

// Each change of who is loaded is another generation; what came to nothing is none.
func TestL15_Generation(t *testing.T) {
	f := newFixture(t, host.Config{})
	ctx := context.Background()
	f.put("top", "base")
	f.put("base")
	f.putInit("failing", func(context.Context, *helper.Host) error { return errors.New("no") })
	f.configure("top", "base")
	c := &clock{}
	var last uint64
	step := func(what string, bumps uint64, do func() error) {
		t.Helper()
		f.must(do())
		if g := f.Generation(); g != last+bumps {
			t.Errorf("%s: generation %d after %d, want %d more", what, g, last, bumps)
		}
		last = f.Generation()
		if st, err := f.Stat(ctx, ""); err != nil || st.Generation != last {
			t.Errorf("%s: stat says %d, %v", what, st.Generation, err)
		}
	}
	fails := func(err error) error {
		if err == nil {
			t.Error("it did not fail")
		}
		return nil
	}
	step("load", 1, func() error { return f.load("base") })
	step("load that fails", 0, func() error { return fails(f.load("failing")) })
	step("load twice", 0, func() error { return fails(f.load("base")) })
	step("hold", 0, func() error { return f.Hold("base") })
	step("refused unload", 0, func() error { return fails(f.unload("base")) })
	step("rele", 0, func() error { return f.Rele("base") })
	step("replace", 1, func() error { return f.Restart(ctx, "base") })
	step("unload", 1, func() error { return f.unload("base") })
	step("load with a requirement", 2, func() error { return f.load("top") })
	step("builtin", 1, func() error { return f.AddBuiltin(c.builtin()) })
	step("disable", 1, func() error { return f.Unload(ctx, "clock", disable) })
	step("forced load", 1, func() error { return f.Load(ctx, shared.HelperSpec{Name: "clock"}, host.LoadOptions{Force: true}) })
	f.put("boot")
	step("prime", 0, func() error { f.prime("boot"); return nil })
	step("init", 1, func() error { f.initClass(""); return nil })
}

// follow plays the first n things that a subscriber hears, and checks that each fits what it has heard before. It reports whether more
// may come.
func follow(t *testing.T, s *host.Subscription, n int) bool {
	defer s.Close()
	there := map[string]host.EventType{}
	for range n {
		e, err := s.Next(context.Background())
		if errors.Is(err, shared.ErrClosed) {
			return false
		}
		if err != nil {
			t.Error(err)
			return false
		}
		before := there[e.Helper]
		ok := true
		switch e.Type {
		case host.EventLoaded:
			ok = before != host.EventLoaded && before != host.EventFailed
		case host.EventUnloaded, host.EventReplaced:
			ok = before != "" && before != host.EventUnloaded
		case host.EventFailed:
			ok = before == host.EventLoaded || before == host.EventReplaced
		case host.EventLost:
			t.Error("events were lost")
			return false
		}
		if !ok {
			t.Errorf("%s %s after %q", e.Helper, e.Type, before)
		}
		there[e.Helper] = e.Type
	}
	return true
}

// Subscribers come while helpers come and go, are refused their leave, die and are replaced: they hear of each thing once.
func TestL19_UnderConcurrentLoads(t *testing.T) {
	f := newFixture(t, host.Config{})
	ctx := context.Background()
	var changing, following sync.WaitGroup
	for i := range 4 {
		name := fmt.Sprintf("h%d", i)
		hp := plain{Name: name, Version: "1.0.0"}
		var stays atomic.Bool
		hp.Fini = func(context.Context) error {
			if stays.Load() {
				return errors.New("not yet")
			}
			return nil
		}
		hosttest.Put(f.path, hp)
		changing.Go(func() {
			for round := range 12 {
				err := f.load(name)
				stays.Store(true)
				wantErr(t, f.unload(name), shared.ErrBusy, "not yet")
				stays.Store(false)
				switch round % 4 {
				case 1:
					err = errors.Join(err, f.Restart(ctx, name))
				case 2:
					f.path.Crash(name)
					err = errors.Join(err, testkit.Poll(func() error {
						st, err := f.Stat(ctx, name)
						if err == nil && st.Helpers[0].State != shared.StateFailed {
							err = fmt.Errorf("it is %s, not failed", st.Helpers[0].State)
						}
						return err
					}))
				}
				if err = errors.Join(err, f.unload(name)); err != nil {
					t.Errorf("%s, round %d: %v", name, round, err)
					return
				}
			}
		})
	}
	for n := range 8 { // each comes again and again, and stays for a while
		following.Go(func() {
			for follow(t, f.Subscribe(), 6+n) {
			}
		})
	}
	changing.Wait()
	f.must(f.Shutdown(ctx))
	following.Wait()
}

// What is under way when a subscriber comes is still as it was.
func TestL19_PresentState(t *testing.T) {
	start := time.Now()
	f := newFixture(t, host.Config{})
	for _, name := range []string{"active", "failed", "boot", "gone"} {
		f.put(name)
	}
	asked, goOn := make(chan struct{}), make(chan struct{})
	began, release := make(chan struct{}), make(chan struct{})
	hosttest.Put(f.path, plain{Name: "leaving", Version: "1.0.0", Fini: func(context.Context) error {
		close(asked)
		<-goOn
		return nil
	}})
	f.putInit("coming", blocked(began, release))
	f.prime("boot")
	for _, name := range []string{"active", "failed", "gone", "leaving"} {
		f.must(f.load(name))
	}
	f.must(f.unload("gone"))
	f.must(f.AddBuiltin((&clock{}).builtin()))
	f.must(f.Unload(t.Context(), "clock", disable))
	f.path.Crash("failed")
	f.await("boot=primed active=active failed=failed leaving=active clock=disabled")
	coming := inBackground(func() error { return f.load("coming") })
	leaving := inBackground(func() error { return f.unload("leaving") })
	hosttest.Await(t, "Init", began)
	hosttest.Await(t, "Fini", asked)

	s := f.Subscribe()
	defer s.Close()
	ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
	defer cancel()
	heard := func(want string) {
		t.Helper()
		e, err := s.Next(ctx)
		if got := string(e.Type) + " " + e.Helper; err != nil || got != want {
			t.Errorf("heard %s, %v; want %s", got, err, want)
		}
		if e.Time.Before(start) || e.Time.After(time.Now()) {
			t.Errorf("%s was at %v", want, e.Time)
		}
	}
	for _, want := range []string{"primed boot", "loaded active", "loaded failed", "failed failed", "loaded leaving", "disabled clock"} {
		heard(want)
	}
	close(goOn)
	f.must(hosttest.Await(t, "unload", leaving))
	close(release)
	f.must(hosttest.Await(t, "load", coming))
	heard("unloaded leaving")
	heard("loaded coming")
}

// While one Init hangs, everything else goes on.
func TestL20_NobodyWaitsForAHungInit(t *testing.T) {
	f := newFixture(t, host.Config{})
	ctx := context.Background()
	point := head(t, f.Host, "tcp.est_in", hhook.Options{})
	began, release := make(chan struct{}), make(chan struct{})
	hosttest.Put(f.path, helper.Helper[counter]{
		Name: "hung", Version: "1.0.0", Classes: helper.Classes{"tcp"}, Init: blocked(began, release),
		Hooks: helper.Hooks[counter]{"tcp.est_in": func(context.Context, *helper.Call, *counter) error { return nil }},
		Stat:  func(context.Context) map[string]float64 { return map[string]float64{"early": 1} },
	})
	f.put("free")
	hosttest.Put(f.path, counting())
	f.must(f.load("counting"))
	load := inBackground(func() error { return f.load("hung") })
	hosttest.Await(t, "Init", began)

	if st, err := f.Stat(ctx, "hung"); err != nil || st.Helpers[0].State != shared.StateStarting || len(st.Helpers[0].Values) != 0 {
		t.Errorf("%+v, %v; want it starting, and not asked for figures", st, err)
	}
	f.want("counting=active hung=starting")
	o := object(t, f.Host, "tcp")
	if len(o.Slots()) != 1 {
		t.Errorf("%d slots, want that of counting", len(o.Slots()))
	}
	if v, err := point.Run(ctx, o, nil); err != nil || v.Rejected {
		t.Errorf("%+v, %v", v, err)
	}
	destroy(t, o)
	f.must(f.load("free"))
	f.must(f.Restart(ctx, "counting"))
	head(t, f.Host, "tcp.late", hhook.Options{})
	if _, err := f.ID("free"); err != nil {
		t.Error(err)
	}
	f.must(f.Hold("free"))
	f.must(f.Rele("free"))
	f.must(f.unload("free"))
	wantErr(t, f.unload("hung"), shared.ErrBusy, "hung is starting")
	wantErr(t, f.Hold("hung"), shared.ErrBusy, "starting")
	wantErr(t, f.Restart(ctx, "hung"), shared.ErrBusy, "starting")
	close(release)
	f.must(hosttest.Await(t, "load", load))
	if st, err := f.Stat(ctx, "hung"); err != nil || st.Helpers[0].Values["early"] != 1 {
		t.Errorf("%+v, %v", st, err)
	}
}

// testStart is the time for a start that is expected to be over.
const testStart = 300 * time.Millisecond

// The end of the host, and of the time for a start, cut a hung Init short.
func TestL20_AHungInitIsCutShort(t *testing.T) {
	f := newFixture(t, host.Config{StartTimeout: testStart})
	f.putInit("hung", func(ctx context.Context, _ *helper.Host) error { <-ctx.Done(); return ctx.Err() })
	wantErr(t, f.load("hung"), shared.ErrTimeout, "Init")
	f.want("")

	f = newFixture(t, host.Config{})
	began := make(chan struct{})
	f.putInit("hung", blocked(began, nil))
	load := inBackground(func() error { return f.load("hung") })
	hosttest.Await(t, "Init", began)
	f.must(f.Shutdown(context.Background()))
	wantErr(t, hosttest.Await(t, "load", load), shared.ErrTimeout, "shut down")
}
