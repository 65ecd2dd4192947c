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
)

// reconfigure makes specs the configured ones; each step must succeed.
func (f *fixture) reconfigure(specs ...shared.HelperSpec) {
	f.t.Helper()
	changes, err := f.Reconfigure(context.Background(), specs)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, c := range changes {
		if c.Err != nil {
			f.t.Errorf("%+v", c)
		}
	}
}

func demand(name string) shared.HelperSpec {
	return shared.HelperSpec{Name: name, Load: shared.LoadDemand}
}

func TestL18_ReconfiguredAway(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := bubbleFixture(t, host.Config{})
		head := head(t, f.Host, "p.x", hhook.Options{Kind: hhook.Filter})
		var a tally
		hosttest.Put(f.path, a.helper("a", "p.x"))
		f.reconfigure(demand("a"))
		if !head.Enabled() {
			t.Fatal("nobody stands in")
		}
		f.reconfigure()
		if head.Enabled() {
			t.Error("somebody stands in for who is configured no more")
		}
		f.reconfigure(demand("a"))
		run(t, head)
		f.reconfigure()
		if head.Enabled() || f.isLoaded("a") {
			t.Errorf("loaded: enabled %v, %s", head.Enabled(), f.states())
		}
		// A run on its way through an older list finds the helper gone, which is no failure.
		f.reconfigure(demand("a"))
		hooks := head.Hooks()
		f.reconfigure()
		inv := hhook.Invocation{Hook: hooks[0], Deadline: time.Now().Add(time.Second)}
		hooks[0].Target.Call(t.Context(), &inv)
		if inv.Out.Cause != shared.CauseNone || hooks[0].Stats().Read().Skipped != 1 {
			t.Errorf("%+v", inv.Out)
		}
	})
}

// TestL18_ReconfiguredBesideALoad: what is under way goes on, and counts do, too.
func TestL18_ReconfiguredBesideALoad(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := bubbleFixture(t, host.Config{})
		head := head(t, f.Host, "p.x", hhook.Options{Kind: hhook.Filter})
		var a tally
		a.initFails.Store(true)
		hosttest.Put(f.path, a.helper("a", "p.x"))
		f.reconfigure(demand("a"))
		if v := run(t, head); v.Cause != shared.CauseNotLoaded {
			t.Errorf("%+v", v)
		}
		a.initFails.Store(false)
		a.initTakes.Store(int64(500 * time.Millisecond))
		spec := demand("a")
		spec.OnFailure = shared.Open
		f.reconfigure(spec) // has it tried again at once
		done := make(chan struct{})
		go func() { run(t, head); close(done) }()
		synctest.Wait()
		spec.OnFailure = shared.Closed
		changes, err := f.Reconfigure(context.Background(), []shared.HelperSpec{spec})
		if err != nil || len(changes) != 1 || changes[0].Err != nil {
			t.Errorf("%+v, %v", changes, err)
		}
		<-done
		if n := countsOn(t, head, "a"); n.Committed != 1 || n.Missed[shared.CauseNotLoaded] != 1 || a.inits.Load() != 2 {
			t.Errorf("%+v, %d inits", n, a.inits.Load())
		}
	})
}

// TestL18_FromDemandToBoot: until the helper is there somebody stands in for it, and then it stays.
func TestL18_FromDemandToBoot(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := bubbleFixture(t, host.Config{})
		head := head(t, f.Host, "p.x", hhook.Options{Kind: hhook.Filter})
		var a tally
		hosttest.Put(f.path, a.helper("a", "p.x"))
		f.reconfigure(demand("a"))
		a.initTakes.Store(int64(500 * time.Millisecond))
		var changes []host.Change
		done := inBackground(func() (err error) {
			changes, err = f.Reconfigure(context.Background(), []shared.HelperSpec{{Name: "a", Load: shared.LoadBoot}})
			return err
		})
		synctest.Wait()
		if !head.Enabled() {
			t.Error("while it is loaded nobody stands in")
		}
		run(t, head)
		if err := <-done; err != nil || len(changes) != 1 || changes[0].Err != nil {
			t.Errorf("%+v, %v", changes, err)
		}
		after(time.Hour)
		if st := f.helper("a"); st.Autoloaded || a.calls.Load() != 1 {
			t.Errorf("%+v", st)
		}
		if err := f.Unload(t.Context(), "a", host.UnloadOptions{}); err != nil {
			t.Fatal(err)
		}
		if head.Enabled() {
			t.Error("it is demanded still")
		}
		// And from demand to boot while it is loaded.
		f.reconfigure()
		f.reconfigure(demand("a"))
		run(t, head)
		f.reconfigure(shared.HelperSpec{Name: "a", Load: shared.LoadBoot})
		after(time.Hour)
		if !f.isLoaded("a") {
			t.Error("a boot helper has left by itself")
		}
	})
}

// TestL18_AnotherProgram: what stands in is renewed by what the helper says of itself each time it leaves.
func TestL18_AnotherProgram(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := bubbleFixture(t, host.Config{})
		x := head(t, f.Host, "p.x", hhook.Options{})
		y := head(t, f.Host, "p.y", hhook.Options{})
		var a, b tally
		hosttest.Put(f.path, a.helper("a", "p.x"))
		f.onDemand("a")
		hosttest.Put(f.path, b.helper("a", "p.a", "p.x", "p.y")) // its hook on p.x has another number
		run(t, x)
		if b.calls.Load() != 1 || a.calls.Load() != 0 {
			t.Errorf("%d calls", b.calls.Load())
		}
		after(20 * time.Second)
		if f.isLoaded("a") || !x.Enabled() || !y.Enabled() {
			t.Errorf("%s, enabled: %v, %v", f.states(), x.Enabled(), y.Enabled())
		}
		// The next one has nothing on p.x any more: that is no failure.
		hosttest.Put(f.path, b.helper("a", "p.y"))
		run(t, x)
		if n := x.Hooks(); len(n) != 0 || b.calls.Load() != 1 {
			t.Errorf("%d hooks, %d calls", len(n), b.calls.Load())
		}
		// One that cannot be described is stood in for as before, and told of.
		after(20 * time.Second)
		f.path.Remove("a")
		changes, err := f.Reconfigure(t.Context(), []shared.HelperSpec{{Name: "a", Load: shared.LoadDemand, OnFailure: shared.Open}})
		if err != nil || len(changes) != 1 || changes[0].Err == nil || !y.Enabled() {
			t.Errorf("%+v, %v, enabled %v", changes, err, y.Enabled())
		}
	})
}

// TestL9_RefusedUnloadOfADemandHelper: runs that came meanwhile are delivered to who stays, and the hooks are in their old places.
func TestL9_RefusedUnloadOfADemandHelper(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := bubbleFixture(t, host.Config{})
		head := head(t, f.Host, "p.x", hhook.Options{Kind: hhook.Filter})
		var a, b, c tally
		hp := a.helper("a", "p.x")
		hp.Fini = func(context.Context) error {
			takes(500 * time.Millisecond)
			return errors.New("in the middle of something")
		}
		hosttest.Put(f.path, hp)
		hosttest.Put(f.path, b.helper("b", "p.x"))
		hosttest.Put(f.path, c.helper("c", "p.x"))
		f.onDemand("a", "b", "c")
		run(t, head)
		if got := order(head); got != "a b c" {
			t.Errorf("%s", got)
		}
		refused := make(chan error, 1)
		go func() { refused <- f.Unload(context.Background(), "a", host.UnloadOptions{}) }()
		synctest.Wait()
		late, err := f.Vnet("late")
		if err != nil {
			t.Fatal(err)
		}
		lateHead, err := late.RegisterHead("p.x", hhook.Options{})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if v := run(t, head); v.Rejected || time.Since(began) != 500*time.Millisecond {
			t.Errorf("%+v after %v", v, time.Since(began))
		}
		wantErr(t, <-refused, shared.ErrBusy, "in the middle of something")
		for _, h := range []*hhook.Head{head, lateHead} {
			run(t, h)
			if got := order(h); got != "a b c" {
				t.Errorf("%s%s", got, h.In())
			}
		}
		if n := countsOn(t, head, "a"); n.Committed != 3 || n.Calls != 3 || n.Skipped != 0 || a.inits.Load() != 1 || a.calls.Load() != 4 {
			t.Errorf("%+v, %d inits, %d calls", n, a.inits.Load(), a.calls.Load())
		}
		if st := f.helper("a"); st.State != shared.StateActive || st.Calls != 4 {
			t.Errorf("%+v", st)
		}
	})
}
