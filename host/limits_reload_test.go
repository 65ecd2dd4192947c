package host_test

import (
	"context"
	"testing"
	"time"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/host/osd"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/helper"
)

// Limits of data change under a helper, and the next commit is held against the new ones; a takeover brings them as well.
func TestReconfigure_LimitsOfData(t *testing.T) {
	for _, restart := range []bool{false, true} {
		f := newFixture(t, host.Config{})
		hosttest.Put(f.path, helper.Helper[swapState]{
			Name: "swap", Version: "1.0.0", Classes: helper.Classes{"thing"}, Hooks: helper.Hooks[swapState]{"thing.use": countSwap},
		})
		head(t, f.Host, "thing.use", hhook.Options{})
		specs := []shared.HelperSpec{{Name: "swap", Limits: shared.Limits{Slots: 16}}}
		f.boot(specs...)
		first, second := object(t, f.Host, "thing"), object(t, f.Host, "thing")
		if _, err := newThing(f); err != nil {
			t.Fatal(err)
		}
		if n := f.helper("swap").ObjectBytes; n != 16 {
			t.Fatalf("%d bytes, want the limit", n)
		}
		specs[0].Limits = shared.Limits{Slots: 24, Slot: 8}
		if restart {
			specs[0].Env = map[string]string{"A": "b"}
			f.reload(specs, "restart swap: env has changed")
		} else {
			f.reload(specs, "update swap: limits has changed")
		}
		_, err := newThing(f)
		f.must(err)
		if n := f.helper("swap").ObjectBytes; n != 24 {
			t.Errorf("%d bytes, want the new limit", n)
		}
		specs[0].Limits = shared.Limits{Slot: 7}
		f.reload(specs, "update swap: limits has changed")
		_, err = newThing(f)
		f.must(err)
		if n := f.helper("swap").ObjectBytes; n != 24 {
			t.Errorf("%d bytes, though 8 are too many for a slot now", n)
		}
		destroy(t, first)
		destroy(t, second)
	}
}

// The room for calls changes while calls are under way: those give back what they took, where they took it.
func TestReconfigure_LimitOfCalls(t *testing.T) {
	f := newFixture(t, host.Config{})
	began, release := make(chan struct{}, 3), make(chan struct{})
	hosttest.Put(f.path, plain{Name: "slow", Version: "1.0.0", MaySleep: []shared.HookPoint{"thing.use"}, Hooks: helper.Hooks[struct{}]{
		"thing.use": func(context.Context, *helper.Call, *struct{}) error { began <- struct{}{}; <-release; return nil },
	}})
	use := head(t, f.Host, "thing.use", hhook.Options{Budget: time.Minute})
	specs := []shared.HelperSpec{{Name: "slow", Timeout: time.Minute, Limits: shared.Limits{Inflight: 1}}}
	f.boot(specs...)
	run := func(ctx context.Context) <-chan error {
		return inBackground(func() error { _, err := use.Run(ctx, nil, nil); return err })
	}
	first := run(context.Background())
	hosttest.Await(t, "a call", began)
	specs[0].Limits.Inflight = 2
	f.reload(specs, "update slow: limits has changed")
	second, third := run(context.Background()), run(context.Background())
	hosttest.Await(t, "another call", began)
	hosttest.Await(t, "a third call", began)
	specs[0].Limits.Inflight = 1
	f.reload(specs, "update slow: limits has changed")
	close(release)
	for _, done := range []<-chan error{first, second, third, run(context.Background()), run(context.Background())} {
		f.must(hosttest.Await(t, "the end of a run", done))
	}
	if st := f.helper("slow"); st.Committed != 5 || len(st.Missed) > 0 {
		t.Errorf("committed %d, missed %v", st.Committed, st.Missed)
	}
}

func newThing(f *fixture) (*osd.Object, error) {
	v, err := f.Vnet("")
	if err != nil {
		return nil, err
	}
	o, err := v.NewObject(context.Background(), "thing")
	if err == nil {
		f.t.Cleanup(func() { _ = o.Destroy(context.Background()) })
	}
	return o, err
}
