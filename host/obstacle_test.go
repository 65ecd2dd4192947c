package host_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/shared"
)

// A requirement whose name is taken by something else than is configured is an error, and no reason to try for ever.
func TestL6_RequirementIsSomethingElse(t *testing.T) {
	other := []shared.HelperSpec{{Name: "b", Command: []string{"/other/b"}, Load: shared.LoadManual}, {Name: "a", Load: shared.LoadManual}}
	for what, take := range map[string]func(*fixture){
		"primed": func(f *fixture) { f.prime("b") },
		"disabled": func(f *fixture) {
			f.must(f.AddBuiltin(host.Builtin{Name: "b", Version: "1.0.0"}))
			f.must(f.Unload(context.Background(), "b", disable))
		},
	} {
		t.Run(what, func(t *testing.T) {
			f := newFixture(t, host.Config{})
			f.put("a", "b")
			f.put("b")
			take(f)
			f.must(f.Configure(t.Context(), other))
			before := f.states()
			wantErr(t, f.load("a"), shared.ErrExist, "a requires b: ")
			f.want(before)
		})
	}
}

func TestLoadAll_SpecsOfNothing(t *testing.T) {
	f := newFixture(t, host.Config{})
	for _, failed := range [][]*host.BootError{
		f.LoadAll(t.Context(), []shared.HelperSpec{{}}), f.Prime(t.Context(), []shared.HelperSpec{{}}),
	} {
		if len(failed) != 1 {
			t.Fatalf("%v", failed)
		}
		wantErr(t, failed[0], shared.ErrInvalid, "helper name is empty")
	}
}

// reentrant is a log whose sink asks the host for something, as one that adds a field to each line may.
type reentrant struct{ ask func() }

func (w *reentrant) Write(p []byte) (int, error) {
	if w.ask != nil {
		w.ask()
	}
	return len(p), nil
}

var _ io.Writer = (*reentrant)(nil)

// Whoever takes the log may ask the host.
func TestL20_LogsThatAskTheHost(t *testing.T) {
	w := &reentrant{}
	f := newFixture(t, host.Config{Logger: hclog.New(&hclog.LoggerOptions{Output: w, Level: hclog.Trace})})
	var asked atomic.Int64
	w.ask = func() { f.Generation(); asked.Add(1) }
	f.put("a")
	f.must(f.load("a"))
	f.path.Crash("a")
	f.await("a=failed")
	f.must(f.unload("a"))
	f.prime("a")
	f.path.Crash("a")
	f.EndBoot(t.Context())
	f.want("")
	if asked.Load() == 0 {
		t.Error("nothing was logged")
	}
}

// So may whoever takes the log of what the host does by itself, or of what comes to nothing.
func TestL20_LogsOfFailuresThatAskTheHost(t *testing.T) {
	for what, fail := range map[string]func(*fixture){
		"a helper that objects to leaving": func(f *fixture) {
			asked := make(chan struct{})
			a := plain{Name: "a", Version: "1.0.0"}
			a.Autounload = func(ctx context.Context) error {
				select {
				case asked <- struct{}{}:
				case <-ctx.Done():
				}
				return errors.New("a warm cache")
			}
			hosttest.Put(f.path, a)
			f.must(f.Configure(f.t.Context(), []shared.HelperSpec{{Name: "a", Load: shared.LoadManual, AutounloadAfter: time.Millisecond}}))
			f.autoload("a")
			hosttest.Await(f.t, "the first time it is asked", asked)
			hosttest.Await(f.t, "the second", asked)
		},
		"a load on demand that fails": func(f *fixture) {
			head := head(f.t, f.Host, "p.x", hhook.Options{})
			var a tally
			hosttest.Put(f.path, a.helper("a", "p.x"))
			a.initFails.Store(true)
			f.onDemand("a")
			run(f.t, head)
		},
		"a builtin that takes no properties any more": func(f *fixture) {
			var broken atomic.Bool
			f.must(f.OfferBuiltin(host.Builtin{
				Name: "b", Version: "1.0.0", Properties: []shared.Property{{Name: "x", Type: shared.PropertyInt}},
				Init: func(context.Context, map[string]any) error {
					if broken.Load() {
						return errors.New("no device")
					}
					return nil
				},
			}))
			f.boot(shared.HelperSpec{Name: "b"})
			broken.Store(true)
			_, err := f.Reconfigure(f.t.Context(), []shared.HelperSpec{{Name: "b", Config: map[string]any{"x": int64(1)}}})
			f.must(err)
			f.want("b=failed")
		},
	} {
		t.Run(what, func(t *testing.T) {
			w := &reentrant{}
			f := newFixture(t, host.Config{Logger: hclog.New(&hclog.LoggerOptions{Output: w, Level: hclog.Trace})})
			w.ask = func() { f.Generation() }
			fail(f)
			answered := inBackground(func() error { _, err := f.Stat(context.Background(), ""); return err })
			f.must(hosttest.Await(t, "an answer of the host", answered))
		})
	}
}

// Close does not wait for a helper that is taken back because the load that brought it has been cut short, by its caller or by Close.
func TestCloseDuringARollBack(t *testing.T) {
	for by, want := range map[string]error{"its caller": shared.ErrTimeout, "Close": shared.ErrClosed} {
		t.Run("by "+by, func(t *testing.T) {
			path := hosttest.NewPath(t)
			h, err := host.New(host.Config{Attach: path.Attach, StopTimeout: time.Hour, Autoload: shared.AutoloadScope{Path: true}})
			if err != nil {
				t.Fatal(err)
			}
			began, never, asked := make(chan struct{}), make(chan struct{}), make(chan struct{})
			hosttest.Put(path, plain{Name: "a", Version: "1.0.0", Requires: []string{"b"}, Init: blocked(began, never)})
			hosttest.Put(path, plain{Name: "b", Version: "1.0.0", Fini: func(ctx context.Context) error {
				close(asked)
				<-ctx.Done()
				return nil
			}})
			ctx, giveUp := context.WithCancel(context.Background())
			defer giveUp()
			loaded := inBackground(func() error { return h.Load(ctx, shared.HelperSpec{Name: "a"}, host.LoadOptions{}) })
			hosttest.Await(t, "Init", began)
			if by == "its caller" {
				giveUp()
				hosttest.Await(t, "Fini of what is taken back", asked)
			}
			if err := hosttest.Await(t, "the end", inBackground(h.Close)); err != nil {
				t.Error(err)
			}
			wantErr(t, hosttest.Await(t, "the load", loaded), want, "")
		})
	}
}

// What sits in its Init is seen, and unloading it with patience waits for it.
func TestL20_StartingIsSeen(t *testing.T) {
	f := newFixture(t, host.Config{})
	began, release := make(chan struct{}), make(chan struct{})
	hp := hooking("slow", "tcp.est_in")
	hp.Version, hp.Init = "1.2.3", blocked(began, release)
	hosttest.Put(f.path, hp)
	loaded := inBackground(func() error { return f.load("slow") })
	hosttest.Await(t, "Init", began)
	st := f.helper("slow")
	if st.State != shared.StateStarting || st.Version != "1.2.3" || st.Incarnation != 1 || len(st.Hooks) != 1 {
		t.Errorf("%+v", st)
	}
	wantErr(t, f.unload("slow"), shared.ErrBusy, "slow is starting")
	wantErr(t, f.Unload(t.Context(), "slow", host.UnloadOptions{Wait: time.Millisecond}), shared.ErrBusy, "slow is starting")
	unloaded := inBackground(func() error { return f.Unload(context.Background(), "slow", host.UnloadOptions{Wait: time.Minute}) })
	close(release)
	f.must(hosttest.Await(t, "the load", loaded))
	f.must(hosttest.Await(t, "the unload", unloaded))
	f.want("")
}

// An operator finds out from the log, and from the helper's, why a load came to nothing.
func TestFailedLoadsAreLogged(t *testing.T) {
	f := newFixture(t, host.Config{})
	wantErr(t, f.load("nothing"), shared.ErrNotExist, "")
	records, sub, err := f.Logs("nothing")
	f.must(err)
	sub.Close()
	if n := len(records); n != 1 || records[0].Level != "warn" || !strings.Contains(records[0].Message, "load failed") {
		t.Errorf("%+v", records)
	}
}
