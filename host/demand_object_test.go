package host_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/helper"
)

// follower is the helper of a tally that counts in its data on objects, too.
func (c *tally) follower(name string, points ...shared.HookPoint) helper.Helper[counter] {
	plain := c.helper(name)
	hooks := helper.Hooks[counter]{}
	for _, p := range points {
		hooks[p] = func(_ context.Context, _ *helper.Call, s *counter) error { c.calls.Add(1); s.In++; return nil }
	}
	return helper.Helper[counter]{
		Name: name, Version: "1.0.0", Classes: helper.Classes{"tcp"}, Hooks: hooks, Init: plain.Init,
		New: func(_ context.Context, _ *helper.Call, s *counter) error { s.Out = 100; return nil },
	}
}

func TestL18_ObjectsLoadWhoFollowsThem(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := bubbleFixture(t, host.Config{})
		head := head(t, f.Host, "p.x", hhook.Options{Kind: hhook.Filter})
		var a, b tally
		hosttest.Put(f.path, a.follower("a", "p.x"))
		hosttest.Put(f.path, b.follower("b", "p.x"))
		f.onDemand("a", "b")
		run(t, head) // nobody keeps data on no object
		if head.Enabled() || f.isLoaded("a") {
			t.Error("a run loads a helper that would pass it over")
		}
		if other := object(t, f.Host, "socket"); len(other.Slots()) > 0 || f.isLoaded("a") {
			t.Error("an object of another class loads it")
		}
		a.initTakes.Store(int64(4 * time.Second))
		b.initTakes.Store(int64(3 * time.Second))
		began := time.Now()
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				o, err := f.NewObject(t.Context(), "tcp")
				if err != nil {
					t.Error(err)
					return
				}
				if len(o.Slots()) != 2 {
					t.Errorf("%d slots", len(o.Slots()))
				}
				if _, err := head.Run(context.Background(), o, nil); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if d := time.Since(began); d != 4*time.Second {
			t.Errorf("objects waited %v", d)
		}
		for name, c := range map[string]*tally{"a": &a, "b": &b} {
			if st := f.helper(name); st.Objects != 10 || st.Committed != 10 || c.inits.Load() != 1 {
				t.Errorf("%s: %+v, %d inits", name, st, c.inits.Load())
			}
		}
	})
}

func TestO1_FailedDemandLoads(t *testing.T) {
	for _, c := range []struct {
		what   string
		kind   hhook.Kind
		policy shared.Action
		slow   bool
		cause  shared.Cause // of NewObject's failure; CauseNone: the object is made
	}{
		{"filter", hhook.Filter, "", false, shared.CauseNotLoaded},
		{"filter open", hhook.Filter, shared.Open, false, shared.CauseNone},
		{"observe", hhook.Observe, "", false, shared.CauseNone},
		{"observe closed", hhook.Observe, shared.Closed, false, shared.CauseNotLoaded},
		{"slow filter", hhook.Filter, "", true, shared.CauseStarting},
		{"slow observe", hhook.Observe, "", true, shared.CauseNone},
	} {
		t.Run(c.what, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				log := &logBuffer{}
				f := bubbleFixture(t, host.Config{Logger: log.logger()})
				head(t, f.Host, "p.x", hhook.Options{Kind: c.kind})
				var a, b tally
				hosttest.Put(f.path, a.follower("a", "p.x"))
				hosttest.Put(f.path, b.follower("b", "p.x"))
				err := f.Configure(t.Context(), []shared.HelperSpec{
					{Name: "a", Load: shared.LoadDemand, OnFailure: c.policy}, {Name: "b", Load: shared.LoadDemand},
				})
				if err != nil {
					t.Fatal(err)
				}
				a.initFails.Store(true)
				if c.slow { // a requirement takes part of the time, so that the helper's own is not over when the object's is
					hosttest.Put(f.path, slowOn(&a, "base"))
					var base tally
					base.initTakes.Store(int64(8 * time.Second))
					hosttest.Put(f.path, base.helper("base"))
					if err := f.Configure(t.Context(), []shared.HelperSpec{
						{Name: "a", Load: shared.LoadDemand, OnFailure: c.policy}, {Name: "b", Load: shared.LoadDemand},
						{Name: "base", Load: shared.LoadManual},
					}); err != nil {
						t.Fatal(err)
					}
					a.initTakes.Store(int64(8 * time.Second))
				}
				began := time.Now()
				o, err := f.NewObject(t.Context(), "tcp")
				if d := time.Since(began); c.slow && d != 10*time.Second || !c.slow && d > 0 {
					t.Errorf("it took %v", d)
				}
				switch {
				case c.cause == shared.CauseNone && err != nil:
					t.Fatal(err)
				case c.cause == shared.CauseNone:
					if len(o.Slots()) != 1 || f.helper("b").Objects != 1 {
						t.Errorf("%d slots", len(o.Slots()))
					}
					destroy(t, o)
				case err == nil || !strings.Contains(err.Error(), "a could not follow the object ("+string(c.cause)+")"):
					t.Errorf("%v", err)
				}
				if refs := f.helper("b").Refs; refs != 0 {
					t.Errorf("b is left with %d references", refs)
				}
				after(20 * time.Second)
				if text := log.String(); strings.Contains(text, "[ERROR]") || strings.Contains(text, "[WARN]") {
					t.Errorf("the operator is told:\n%s", text)
				}
			})
		})
	}
}

// slowOn is the follower of a tally that requires another helper.
func slowOn(c *tally, requires string) helper.Helper[counter] {
	f := c.follower("a", "p.x")
	f.Requires = []string{requires}
	return f
}

// TestL18_ObjectsWaitForWhoIsLeaving: an object that comes while its helper leaves has it loaded again, and gets its slot.
func TestL18_ObjectsWaitForWhoIsLeaving(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := bubbleFixture(t, host.Config{})
		var a tally
		hp := a.follower("a", "p.x")
		hp.Fini = func(context.Context) error { takes(time.Second); return nil }
		hosttest.Put(f.path, hp)
		f.onDemand("a")
		destroy(t, object(t, f.Host, "tcp"))
		after(10*time.Second + 500*time.Millisecond)
		if got := f.states(); got != "a=draining" {
			t.Fatal(got)
		}
		began := time.Now()
		o := object(t, f.Host, "tcp")
		if d := time.Since(began); d != 500*time.Millisecond || len(o.Slots()) != 1 || f.helper("a").Objects != 1 {
			t.Errorf("%d slots after %v, %+v", len(o.Slots()), d, f.helper("a"))
		}
		destroy(t, o)
	})
}

// TestL18_ObjectsUnderPressure: a helper that pressure takes away again and again is there for every object all the same.
func TestL18_ObjectsUnderPressure(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := &memory{}
		m.reading.Store(&short)
		f := bubbleFixture(t, host.Config{Memory: m.read})
		var a tally
		hosttest.Put(f.path, a.follower("a", "p.x"))
		f.onDemand("a")
		for i := range 100 {
			o := object(t, f.Host, "tcp")
			if len(o.Slots()) != 1 {
				t.Fatalf("object %d has no slot", i)
			}
			destroy(t, o)
			after(time.Duration(i) * 37 * time.Millisecond)
		}
	})
}

// TestL18_CallerGivesUp: the load goes on without it.
func TestL18_CallerGivesUp(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := bubbleFixture(t, host.Config{})
		head := head(t, f.Host, "p.x", hhook.Options{Kind: hhook.Filter})
		var a, b tally
		hosttest.Put(f.path, a.helper("a", "p.x"))
		hosttest.Put(f.path, b.follower("b", "p.x"))
		f.onDemand("a", "b")
		a.initTakes.Store(int64(time.Second))
		b.initTakes.Store(int64(time.Second))
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := f.NewObject(ctx, "tcp")
		wantErr(t, err, shared.ErrBusy, "b could not follow the object (starting)")
		if v, err := head.Run(ctx, nil, nil); err != nil || !v.Rejected || v.Cause != shared.CauseStarting {
			t.Errorf("%+v, %v", v, err)
		}
		after(time.Second)
		if got := f.states(); got != "b=active a=active" {
			t.Errorf("%s", got)
		}
	})
}
