package host_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/host/osd"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/helper"
)

// What is under way on helpers has limits of hammerStuck here, so whoever is caught in a circle is free again after that. A call that takes
// longer than hammerLimit has been; a hook takes up to a second, and a few may have to be waited for.
const (
	hammerStuck   = 30 * time.Second
	hammerLimit   = 10 * time.Second
	hammerHelpers = 7
	hammerWorkers = 6
	hammerOps     = 1500 // of each worker
)

var hammerPoints = []shared.HookPoint{"tcp.est_in", "tcp.est_out", "tcp.close"}

// storm is a host whose helpers ask it for things all the time, about one another and themselves, while others ask too.
type storm struct {
	*fixture
	heads []*hhook.Head
	names []string
	calm  atomic.Bool // helpers ask no more, and refuse nothing
	asked atomic.Int64

	mu      sync.Mutex // protects the following fields
	objects []*osd.Object
	seen    map[string]int // what became of what was asked for
	longest string         // what took longest
	took    time.Duration
}

// note notes what became of something that must end in time.
func (st *storm) note(what, whom string, began time.Time, err error) {
	took, word := time.Since(began), shared.ErrWord(err)
	if err == nil {
		word = "done"
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.seen[what+" "+word]++
	if took <= st.took {
		return
	}
	st.took, st.longest = took, fmt.Sprintf("%s %s took %v: %v", what, whom, took, err)
	if took > hammerLimit {
		st.t.Error(st.longest)
	}
}

func newStorm(t *testing.T, cfg host.Config) *storm {
	path := hosttest.NewPath(t)
	cfg.Attach, cfg.Autoload = path.Attach, shared.AutoloadScope{Path: true}
	cfg.Autounload.After = time.Hour
	cfg.StartTimeout, cfg.DrainTimeout, cfg.StopTimeout = hammerStuck, hammerStuck, hammerStuck
	h, err := host.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	st := &storm{fixture: &fixture{Host: h, t: t, path: path}, seen: map[string]int{}, names: []string{"b0", "b1"}}
	for i, point := range hammerPoints {
		st.heads = append(st.heads, head(t, h, point, hhook.Options{Async: i == 1, Kind: []hhook.Kind{hhook.Observe, hhook.Observe, hhook.Filter}[i]}))
	}
	for _, name := range st.names {
		b := host.Builtin{Name: name, Version: "1.0.0", Classes: []shared.Class{"tcp"}, Template: []byte{0}, Hooks: map[shared.HookPoint]host.BuiltinHook{
			"tcp.est_in": func(_ context.Context, c *host.BuiltinCall) error { c.Data[0]++; return nil },
		}}
		if err := h.OfferBuiltin(b); err != nil {
			t.Fatal(err)
		}
	}
	var specs []shared.HelperSpec
	for i := range hammerHelpers {
		name := fmt.Sprintf("h%d", i)
		st.names = append(st.names, name)
		specs = append(specs, shared.HelperSpec{Name: name, Load: shared.LoadManual})
	}
	for _, name := range st.names[2:] {
		st.put(name)
	}
	if err := st.timed("configure", "", func(ctx context.Context) error { return h.Configure(ctx, specs) }); err != nil {
		t.Fatal(err)
	}
	return st
}

// any returns the name of a helper.
func (st *storm) any() string { return st.names[rand.N(len(st.names))] }

// put puts a helper on the path that requires others: one in a few also requires one that requires it.
func (st *storm) put(name string) {
	var requires []string
	for range rand.N(3) {
		if other := st.any(); (other < name || other != name && rand.N(8) == 0) && !slices.Contains(requires, other) {
			requires = append(requires, other)
		}
	}
	var with atomic.Pointer[helper.Host]
	ask := func(ctx context.Context) error {
		if st.calm.Load() {
			return nil
		}
		for range rand.N(4) {
			st.ask(ctx, with.Load())
		}
		if rand.N(6) == 0 {
			return shared.ErrInvalid.Errorf("not now")
		}
		return nil
	}
	hook := func(ctx context.Context, _ *helper.Call, c *counts) error {
		c.N++
		if rand.N(4) == 0 && !st.calm.Load() {
			st.ask(ctx, with.Load())
		}
		return nil
	}
	hosttest.Put(st.path, helper.Helper[counts]{
		Name: name, Version: "1.0.0", Classes: []shared.Class{[]shared.Class{"tcp", "udp", "ip"}[rand.N(3)]}, Requires: requires,
		Hooks:    helper.Hooks[counts]{"tcp.est_in": hook, "tcp.est_out": hook},
		MaySleep: []shared.HookPoint{"tcp.est_in", "tcp.est_out"},
		Init: func(ctx context.Context, h *helper.Host) error {
			with.Store(h)
			return ask(ctx)
		},
		Fini: ask, Autounload: ask,
	})
}

// ask has a helper ask its host for something. What it gets is its own affair, but it has to get it in time.
func (st *storm) ask(ctx context.Context, h *helper.Host) {
	if h == nil {
		return
	}
	other := st.any()
	var what string
	var err error
	began := time.Now()
	switch rand.N(8) {
	case 0, 1:
		what, err = "load", h.Load(ctx, other)
	case 2:
		what, err = "unload", h.Unload(ctx, other)
	case 3:
		what, err = "hold", h.Hold(ctx, other)
		if err == nil && rand.N(20) > 0 { // or nobody would ever leave
			what, err = "rele", h.Rele(ctx, other)
		}
	case 4:
		what, err = "load", h.Load(ctx, other)
		if err == nil {
			what, err = "unload", h.Unload(ctx, other)
		}
	case 5:
		what, err = "add a hook", helper.AddHook(ctx, h, helper.HookDecl[counts]{
			Point: "tcp.close", MaySleep: true, Func: func(context.Context, *helper.Call, *counts) error { return nil },
		})
	case 6:
		what, err = "remove a hook", h.RemoveHook(ctx, "tcp.close", nil)
	case 7:
		what = "get the id of"
		_, err = h.GetID(ctx, other)
	}
	st.asked.Add(1)
	st.note("asked to "+what, other, began, err)
}

// timed does something that must end in time. What comes of it does not matter, but for the end of the host.
func (st *storm) timed(what, whom string, do func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 4*hammerStuck)
	defer cancel()
	began := time.Now()
	err := do(ctx)
	st.note(what, whom, began, err)
	return err
}

// work does things until there have been enough, or the host is shut down.
func (st *storm) work(ops int) {
	for range ops {
		name := st.any()
		what, do := st.op(name)
		if errors.Is(st.timed(what, name, do), shared.ErrClosed) {
			return
		}
	}
}

// begin lets all work at once and returns how to wait for them.
func (st *storm) begin(ops int) *sync.WaitGroup {
	var wg sync.WaitGroup
	for range hammerWorkers {
		wg.Go(func() { st.work(ops) })
	}
	return &wg
}

// settle ends all that holds helpers, and unloads them.
func (st *storm) settle() {
	st.calm.Store(true)
	for st.object() != nil {
		if err := st.timed("destroy", "", st.destroyObject); err != nil {
			st.t.Error(err)
		}
	}
	_ = st.timed("reconfigure", "", func(ctx context.Context) error { _, err := st.Reconfigure(ctx, nil); return err })
	for _, name := range st.names {
		for st.Rele(name) == nil {
		}
	}
	st.unloadAll()
	// Helpers that hold those that require them stay until one of them thinks better of it, or dies.
	for _, name := range st.names {
		st.path.Crash(name)
	}
	hosttest.Until(st.t, "the news of their deaths", func() bool { return !regexp.MustCompile("h[0-9]=active").MatchString(st.states()) })
	st.unloadAll()
	for _, left := range host.Left(st.Host) {
		if left != "b0 is disabled, held by [], requires 0" && left != "b1 is disabled, held by [], requires 0" {
			st.t.Error(left)
		}
	}
}

func (st *storm) unloadAll() {
	for range st.names { // each pass frees those that the last to leave required, or held
		for _, name := range st.names {
			_ = st.timed("unload", name, func(ctx context.Context) error { return st.Unload(ctx, name, host.UnloadOptions{Disable: true}) })
		}
	}
}

func (st *storm) shutdown() {
	if err := st.timed("shutdown", "", st.Shutdown); err != nil {
		st.t.Errorf("shutdown: %v", err)
	}
	for _, left := range host.Left(st.Host) {
		st.t.Error(left)
	}
}

// TestL20_NothingIsEverStuck: whatever helpers ask for and whenever, nobody waits for himself, and at the end nothing is left.
func TestL20_NothingIsEverStuck(t *testing.T) {
	hosttest.CheckLeaks(t)
	ops := hammerOps
	if testing.Short() || raceEnabled {
		ops /= 3
	}
	st := newStorm(t, host.Config{})
	began := time.Now()
	st.begin(ops).Wait()
	st.settle()
	st.shutdown()
	t.Logf("%d operations and %d requests of helpers in %v; %s; %v", ops*hammerWorkers, st.asked.Load(), time.Since(began), st.longest, st.seen)
}

// TestL20_ShutdownAmidAll: the host ends in order at any time.
func TestL20_ShutdownAmidAll(t *testing.T) {
	hosttest.CheckLeaks(t)
	for after := range int64(5) {
		st := newStorm(t, host.Config{})
		wg := st.begin(1 << 20)
		hosttest.Until(t, "helpers that ask", func() bool { return st.asked.Load() >= 20*after })
		st.shutdown()
		wg.Wait()
		st.settleObjects()
	}
}

// settleObjects ends the objects that are left when the host is gone.
func (st *storm) settleObjects() {
	for st.object() != nil {
		_ = st.timed("destroy", "", st.destroyObject)
	}
}
