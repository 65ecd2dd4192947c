package host_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/helper"
)

// specsOf returns specs by name only.
func specsOf(names ...string) []shared.HelperSpec {
	specs := make([]shared.HelperSpec, len(names))
	for i, name := range names {
		specs[i] = shared.HelperSpec{Name: name, Load: shared.LoadBoot}
	}
	return specs
}

// prime configures and primes helpers.
func (f *fixture) prime(names ...string) {
	f.t.Helper()
	f.configure(names...)
	for _, e := range f.Prime(context.Background(), specsOf(names...)) {
		f.t.Fatal(e)
	}
}

func (f *fixture) initClass(class shared.Class) {
	f.t.Helper()
	for _, e := range f.InitClass(context.Background(), class) {
		f.t.Error(e)
	}
}

// putClassed puts a helper on the path that follows a class, and tells when it is initialised.
func (f *fixture) putClassed(name string, class shared.Class, inits chan<- string, requires ...string) {
	hosttest.Put(f.path, plain{
		Name: name, Version: "1.0.0", Classes: helper.Classes{class}, Requires: requires,
		Init: func(context.Context, *helper.Host) error { inits <- name; return nil },
	})
}

func told(inits chan string) string {
	var names []string
	for len(inits) > 0 {
		names = append(names, <-inits)
	}
	return strings.Join(names, " ")
}

// Boot helpers are launched and described first, then initialised class by class, and who is left is ended and logged.
func TestL12_ClassByClass(t *testing.T) {
	log := &logBuffer{}
	f := newFixture(t, host.Config{Logger: log.logger()})
	point := head(t, f.Host, "tcp.est_in", hhook.Options{})
	inits := make(chan string, 10)
	f.putClassed("base", "misc", inits)
	f.putClassed("vegas", "tcp", inits, "base")
	f.putClassed("lonely", "udp", inits)
	hp := hooking("follower", "tcp.est_in")
	hp.Classes = helper.Classes{"socket", "tcp"}
	hosttest.Put(f.path, hp)
	f.must(f.OfferBuiltin(host.Builtin{
		Name: "clock", Version: "1.0.0", Classes: []shared.Class{"tcp"},
		Init: func(context.Context, map[string]any) error { inits <- "clock"; return nil },
	}))
	f.prime("vegas", "base", "lonely", "follower", "clock")
	f.want("vegas=primed base=primed lonely=primed follower=primed clock=primed")
	if point.Enabled() || told(inits) != "" {
		t.Error("a primed helper has hooks, or is initialised")
	}
	for name, source := range map[string]shared.Source{"vegas": shared.SourceBoot, "clock": shared.SourceBuiltin} {
		if st := f.helper(name); st.Source != source || st.Refs != 0 || st.Version != "1.0.0" {
			t.Errorf("%+v; want its source %s", st, source)
		}
	}
	wantErr(t, f.Hold("vegas"), shared.ErrBusy, "primed")
	f.initClass("tcp")
	if got := told(inits); got != "clock base vegas" {
		t.Errorf("initialised: %s; want the builtin, then vegas behind whom it requires", got)
	}
	f.want("vegas=active base=active lonely=primed follower=active clock=active")
	if st := f.helper("base"); st.Autoloaded || st.Source != shared.SourceBoot || st.Refs != 1 {
		t.Errorf("%+v; want a boot helper that is claimed, not one that is autoloaded", st)
	}
	f.initClass("tcp") // there is none left
	if got := told(inits); got != "" {
		t.Errorf("initialised again: %s", got)
	}
	f.EndBoot(context.Background())
	f.want("vegas=active base=active follower=active clock=active")
	if want := "lonely: primed at start, but claimed by nobody: ended"; !strings.Contains(log.String(), want) {
		t.Errorf("no %q in %s", want, log.String())
	}
	for _, name := range []string{"vegas", "base", "lonely", "follower"} {
		if n := f.path.Starts(name); n != 1 {
			t.Errorf("%s was started %d times", name, n)
		}
	}
}

// The end of the boot takes nobody away who is claimed at that moment.
func TestL12_ClaimedAtTheEnd(t *testing.T) {
	const n = 60
	f := newFixture(t, host.Config{})
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("h%d", i))
		f.put(names[i])
	}
	f.prime(names...)
	var both sync.WaitGroup
	both.Go(func() { f.EndBoot(context.Background()) })
	both.Go(func() {
		for _, name := range slices.Backward(names) {
			if err := f.load(name); err != nil {
				t.Error(err)
			}
		}
	})
	both.Wait()
	for _, name := range names {
		if st := f.helper(name); st.State != shared.StateActive {
			t.Errorf("%s is %s", name, st.State)
		}
	}
}

// A builtin that nobody has claimed is offered as before.
func TestL12_UnclaimedBuiltin(t *testing.T) {
	f := newFixture(t, host.Config{})
	f.must(f.OfferBuiltin(host.Builtin{Name: "clock", Version: "1.0.0"}))
	f.prime("clock")
	f.EndBoot(context.Background())
	f.want("")
	f.must(f.load("clock"))
}

// A primed builtin that is disabled is not offered any more.
func TestL12_DisabledBeforeItWasClaimed(t *testing.T) {
	f := newFixture(t, host.Config{})
	f.must(f.OfferBuiltin(host.Builtin{Name: "clock", Version: "1.0.0"}))
	f.prime("clock")
	f.must(f.Unload(context.Background(), "clock", host.UnloadOptions{Disable: true}))
	f.initClass("")
	f.want("clock=disabled")
}

// Init of one waits for that of another only if it requires it: here each waits until all have begun.
func TestL12_SideBySide(t *testing.T) {
	const n = 40 // more than come up at once
	f := newFixture(t, host.Config{})
	began, release := make(chan struct{}, n), make(chan struct{})
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("h%d", i))
		f.putInit(names[i], blocked(began, release))
	}
	f.prime(names...)
	done := inBackground(func() error { f.initClass(""); return nil })
	for range n {
		hosttest.Await(t, "an Init", began)
	}
	close(release)
	f.must(hosttest.Await(t, "InitClass", done))
	if st, err := f.Stat(t.Context(), ""); err != nil || slices.ContainsFunc(st.Helpers, func(h host.HelperStat) bool { return h.State != shared.StateActive }) {
		t.Error(f.states())
	}
}

// Many that require one behind them do not keep it from coming up.
func TestL12_ManyWaitForTheLast(t *testing.T) {
	const n = 60
	f := newFixture(t, host.Config{})
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("h%d", i))
		f.put(names[i], "last")
	}
	f.put("last")
	names = append(names, "last")
	f.configure(names...)
	done := make(chan []*host.BootError, 1)
	go func() { done <- f.LoadAll(context.Background(), specsOf(names...)) }()
	for _, e := range hosttest.Await(t, "LoadAll", done) {
		t.Error(e)
	}
	if st := f.helper("last"); st.Autoloaded || st.Refs != n {
		t.Errorf("%+v", st)
	}
	st, err := f.Stat(t.Context(), "")
	f.must(err)
	for i, h := range st.Helpers {
		if h.Name != names[i] {
			t.Errorf("%s stands at %d, want %s: the order is that given", h.Name, i, names[i])
		}
	}
}

// What fails at the start is told, is gone, and is in nobody's way.
func TestL12_Failures(t *testing.T) {
	f := newFixture(t, host.Config{})
	f.put("good")
	f.put("user", "bad")
	f.putInit("bad", func(context.Context, *helper.Host) error { return errors.New("no licence") })
	f.put("needy", "good", "ghost")
	f.configure("good", "user", "bad", "needy")
	failed := f.Prime(context.Background(), specsOf("good", "missing", "user", "bad", "good", "needy", "Wrong"))
	var names []string
	for _, e := range failed {
		names = append(names, e.Helper)
	}
	if got := strings.Join(names, " "); got != "missing good Wrong" {
		t.Errorf("failed: %s, %v", got, failed)
	}
	wantErr(t, failed[0], shared.ErrNotExist, "missing")
	wantErr(t, failed[1], shared.ErrExist, "good")
	failed = f.Prime(context.Background(), specsOf("good"))
	if len(failed) != 1 {
		t.Fatal("a helper is primed twice")
	}
	wantErr(t, failed[0], shared.ErrExist, "primed already")

	byName := map[string]error{}
	for _, e := range f.InitClass(context.Background(), "") {
		byName[e.Helper] = e.Err
	}
	if len(byName) != 3 {
		t.Errorf("failed: %v", byName)
	}
	wantErr(t, byName["bad"], shared.ErrInvalid, "Init: no licence")
	wantErr(t, byName["user"], shared.ErrInvalid, "user requires bad: Init: no licence")
	wantErr(t, byName["needy"], shared.ErrNotExist, "needy requires ghost")
	f.want("good=active") // it was brought by needy first, perhaps, but would have been there in any case
	if n := f.path.Starts("good"); n != 1 {
		t.Errorf("good was started %d times", n)
	}
	if got := f.went(host.EventLoadFailed); len(strings.Split(got, ", ")) != 3 {
		t.Errorf("events: %s", got)
	}
}

// A primed helper may be unloaded.
func TestL12_UnloadPrimed(t *testing.T) {
	f := newFixture(t, host.Config{})
	f.put("ertt")
	f.prime("ertt")
	f.must(f.unload("ertt"))
	f.want("")
	f.initClass("")
	f.want("")
}

// The host may end at any time.
func TestL12_ShutdownWhilePrimed(t *testing.T) {
	f := newFixture(t, host.Config{})
	f.put("ertt")
	f.must(f.OfferBuiltin(host.Builtin{Name: "clock", Version: "1.0.0", Fini: func(context.Context) error {
		t.Error("Fini of what was never initialised")
		return nil
	}}))
	f.prime("ertt", "clock")
	f.must(f.Shutdown(context.Background()))
	f.want("")
	failed := f.InitClass(context.Background(), "")
	if len(failed) != 1 {
		t.Fatal(failed)
	}
	wantErr(t, failed[0], shared.ErrClosed, "shut down")
}
