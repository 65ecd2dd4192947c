package host_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/helper"
)

// TestL18_ComesAndGoes: idle it leaves, and the next run has it back; its counts go on.
func TestL18_ComesAndGoes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := bubbleFixture(t, host.Config{})
		head := head(t, f.Host, "p.x", hhook.Options{})
		var a tally
		hosttest.Put(f.path, a.helper("a", "p.x"))
		f.onDemand("a")
		for i := range uint64(3) {
			run(t, head)
			for range 8 { // calls are use
				after(3 * time.Second)
				run(t, head)
			}
			after(9 * time.Second)
			if !f.isLoaded("a") {
				t.Fatal("it has left though it is in use")
			}
			after(3 * time.Second)
			if f.isLoaded("a") || !head.Enabled() {
				t.Fatalf("idle: loaded %v, enabled %v", f.isLoaded("a"), head.Enabled())
			}
			if n := countsOn(t, head, "a"); n.Committed != 9*(i+1) || n.Calls != n.Committed || n.Skipped != 0 {
				t.Errorf("round %d: %+v", i, n)
			}
			after(time.Hour)
		}
		if a.inits.Load() != 3 || a.calls.Load() != 27 {
			t.Errorf("%d inits, %d calls", a.inits.Load(), a.calls.Load())
		}
	})
}

// TestL18_PingPong: back too soon it stays twice as long each time, 64 times at most, until once it is not back too soon.
func TestL18_PingPong(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := bubbleFixture(t, host.Config{})
		head := head(t, f.Host, "p.x", hhook.Options{})
		var a tally
		hosttest.Put(f.path, a.helper("a", "p.x"))
		f.onDemand("a")
		stays := func() time.Duration {
			run(t, head)
			came := time.Now()
			after(0)
			for f.isLoaded("a") {
				after(100 * time.Millisecond)
			}
			return time.Since(came).Truncate(5 * time.Second) // a look each second notices the last call
		}
		for _, factor := range []int{1, 2, 4, 8, 16, 32, 64, 64, 64} {
			if got, want := stays(), seconds(10*factor); got != want {
				t.Errorf("stays %v, want %v", got, want)
			}
			after(time.Second)
		}
		after(64 * 10 * time.Second)
		for _, factor := range []int{1, 2} {
			if got, want := stays(), seconds(10*factor); got != want {
				t.Errorf("after a pause it stays %v, want %v", got, want)
			}
		}
		// What pressure or an operator takes away has not left too soon.
		after(time.Hour)
		run(t, head)
		if err := f.Unload(t.Context(), "a", host.UnloadOptions{}); err != nil {
			t.Fatal(err)
		}
		if got := stays(); got != 10*time.Second {
			t.Errorf("after an unload by hand it stays %v", got)
		}
	})
}

// TestL18_BesideRuns: while a helper comes and goes, each run is committed once or counted as missed or skipped, by one hook.
func TestL18_BesideRuns(t *testing.T) {
	for what, opts := range map[string]hhook.Options{"sync": {}, "async": {Async: true}} {
		t.Run(what, func(t *testing.T) {
			const workers, runs = 4, 300
			m := &memory{}
			m.reading.Store(&enough)
			f := newFixture(t, host.Config{Memory: m.read})
			head := head(t, f.Host, "p.x", opts)
			var a tally
			hosttest.Put(f.path, a.helper("a", "p.x"))
			f.onDemand("a")
			stop := make(chan struct{})
			often := make(chan struct{}) // has something after every few runs
			var wg, others sync.WaitGroup
			for range workers {
				wg.Go(func() {
					for i := range runs {
						run(t, head)
						if i%10 == 0 {
							often <- struct{}{}
						}
					}
				})
			}
			others.Go(func() {
				for range often {
					err := f.Unload(t.Context(), "a", host.UnloadOptions{})
					if err != nil && !errors.Is(err, shared.ErrNotExist) && !errors.Is(err, shared.ErrBusy) {
						t.Error(err)
					}
					if rand.IntN(3) == 0 {
						if err := f.load("a"); err != nil && !errors.Is(err, shared.ErrExist) {
							t.Error(err)
						}
					}
					if rand.IntN(3) == 0 {
						if err := f.Configure(t.Context(), []shared.HelperSpec{demand("a")}); err != nil {
							t.Error(err)
						}
					}
				}
			})
			others.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						if names := order(head); names != "a" {
							t.Errorf("%q stand on the head", names)
						}
						runtime.Gosched() // one processor may be all there is
					}
				}
			})
			wg.Wait()
			close(stop)
			close(often)
			others.Wait()
			sum := func() uint64 { n := countsOn(t, head, "a"); return n.Calls + n.Skipped }
			hosttest.Until(t, "all runs are counted", func() bool { return sum() >= workers*runs })
			n := countsOn(t, head, "a")
			if sum() != workers*runs || n.Committed != uint64(a.calls.Load()) {
				t.Errorf("%d runs, %d calls: %+v", workers*runs, a.calls.Load(), n)
			}
			if n.Calls != n.Committed || n.Committed == 0 {
				t.Errorf("missed: %+v", n)
			}
			t.Logf("%d inits, %+v", a.inits.Load(), n)
		})
	}
}

func TestL18_UnloadedByHandItIsDemandedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := bubbleFixture(t, host.Config{})
		head := head(t, f.Host, "p.x", hhook.Options{})
		var a tally
		hosttest.Put(f.path, a.helper("a", "p.x"))
		f.onDemand("a")
		if err := f.load("a"); err != nil {
			t.Fatal(err)
		}
		run(t, head)
		after(time.Hour)
		if st := f.helper("a"); st.Autoloaded || st.State != shared.StateActive {
			t.Errorf("loaded by hand: %+v", st)
		}
		if err := f.Unload(t.Context(), "a", host.UnloadOptions{}); err != nil {
			t.Fatal(err)
		}
		if !head.Enabled() {
			t.Error("nobody stands in")
		}
		run(t, head)
		if a.calls.Load() != 2 || countsOn(t, head, "a").Committed != 2 {
			t.Errorf("%d calls", a.calls.Load())
		}
	})
}

// TestL18_RequiredByAnother: a requirement takes the stand-in's place, and calls keep it as they would bring it back.
func TestL18_RequiredByAnother(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := bubbleFixture(t, host.Config{})
		head := head(t, f.Host, "p.x", hhook.Options{})
		var a tally
		hosttest.Put(f.path, a.helper("a", "p.x"))
		f.put("top", "a")
		f.onDemand("a")
		if err := f.load("top"); err != nil {
			t.Fatal(err)
		}
		run(t, head)
		after(time.Minute)
		if got := order(head); got != "a" || a.calls.Load() != 1 {
			t.Errorf("%q, %d calls", got, a.calls.Load())
		}
		if err := f.Unload(t.Context(), "top", host.UnloadOptions{}); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			after(5 * time.Second)
			run(t, head)
		}
		if a.inits.Load() != 1 {
			t.Errorf("%d inits", a.inits.Load())
		}
		after(12 * time.Second)
		if f.isLoaded("a") || !head.Enabled() {
			t.Errorf("idle: loaded %v, enabled %v", f.isLoaded("a"), head.Enabled())
		}
		// A run and a requirement at once.
		a.initTakes.Store(int64(500 * time.Millisecond))
		var wg sync.WaitGroup
		wg.Go(func() { run(t, head) })
		synctest.Wait()
		if err := f.load("top"); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if a.inits.Load() != 2 || a.calls.Load() != 12 {
			t.Errorf("%d inits, %d calls", a.inits.Load(), a.calls.Load())
		}
	})
}

func TestL18_Builtin(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := bubbleFixture(t, host.Config{})
		plain := head(t, f.Host, "p.x", hhook.Options{})
		var calls, inits atomic.Int64
		offer := func(name string, template []byte) {
			err := f.OfferBuiltin(host.Builtin{
				Name: name, Version: "1.0.0", Classes: helper.Classes{"tcp"}, Template: template,
				Init:  func(context.Context, map[string]any) error { inits.Add(1); return nil },
				Hooks: map[shared.HookPoint]host.BuiltinHook{"p.x": func(context.Context, *host.BuiltinCall) error { calls.Add(1); return nil }},
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		offer("plain", nil)
		offer("data", []byte{1})
		f.onDemand("plain", "data")
		if inits.Load() != 0 || order(plain) != "plain" {
			t.Errorf("%d inits, %q", inits.Load(), order(plain))
		}
		run(t, plain)
		if inits.Load() != 1 || calls.Load() != 1 {
			t.Errorf("%d inits, %d calls", inits.Load(), calls.Load())
		}
		o := object(t, f.Host, "tcp")
		if len(o.Slots()) != 1 || inits.Load() != 2 {
			t.Errorf("%d slots, %d inits", len(o.Slots()), inits.Load())
		}
		destroy(t, o)
		after(time.Hour)
		if got := f.states(); got != "plain=active data=active" {
			t.Errorf("a builtin leaves by itself: %s", got)
		}
		// What the operator has disabled nobody demands.
		for _, name := range []string{"plain", "data"} {
			if err := f.Unload(t.Context(), name, host.UnloadOptions{Disable: true}); err != nil {
				t.Fatal(err)
			}
		}
		f.onDemand("plain", "data")
		run(t, plain)
		o = object(t, f.Host, "tcp")
		if got := f.states(); got != "plain=disabled data=disabled" || plain.Enabled() {
			t.Errorf("%s, enabled %v", got, plain.Enabled())
		}
		destroy(t, o)
	})
}

func TestL18_ShutdownEndsALoad(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := bubbleFixture(t, host.Config{})
		head := head(t, f.Host, "p.x", hhook.Options{Kind: hhook.Filter})
		var a, b tally
		hosttest.Put(f.path, a.helper("a", "p.x"))
		hosttest.Put(f.path, b.follower("b", "p.x"))
		f.onDemand("a", "b")
		a.initTakes.Store(int64(time.Minute))
		b.initTakes.Store(int64(time.Minute))
		var wg sync.WaitGroup
		wg.Go(func() {
			hook := head.Hooks()[0]
			if v, err := head.Run(context.Background(), nil, nil); err != nil || v.Rejected || hook.Stats().Read().Skipped != 1 {
				t.Errorf("%+v, %v", v, err) // as with helpers that are loaded: they are drained, and passed over
			}
		})
		wg.Go(func() {
			_, err := f.NewObject(context.Background(), "tcp")
			wantErr(t, err, shared.ErrClosed, "the host is shut down")
		})
		after(100 * time.Millisecond)
		began := time.Now()
		if err := f.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if d := time.Since(began); d > 0 {
			t.Errorf("it took %v", d)
		}
		wg.Wait()
	})
}
