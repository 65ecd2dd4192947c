package host_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/host/osd"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/helper"
)

var (
	modelPrograms = []string{"p0", "p1", "p2", "p3", "p4", "p5", "p6"}
	modelBuiltins = []string{"b0", "b1", "b2", "b3"}
	modelNames    = slices.Concat(modelPrograms, modelBuiltins, []string{"none"})
	modelClasses  = []shared.Class{"tcp", "udp"}
)

const (
	modelDepth = 3
	modelNeeds = 3
	modelSteps = 30_000 // of all runs together
	modelLimit = 20 * time.Second
	// Events are told before what they tell of returns, or is seen.
	modelPatience = 2 * time.Second
)

// simulation is a host beside its model.
type simulation struct {
	*model
	*rapid.T
	h       *host.Host
	fixture *fixture
	sub     *host.Subscription
	ids     map[shared.HelperID]string
	last    shared.HelperID // the highest that has been seen
	now     map[string]shared.HelperID
	seen    map[string]int // how often errors and events have
	objects []*modelObject
	ctx     context.Context
}

type modelObject struct {
	*osd.Object
	on []*modelHelper
}

// TestModelOfTheLoader does at random what can be done to a loader, over requirements at random, and holds it against the model after
// every step.
func TestModelOfTheLoader(t *testing.T) {
	hosttest.CheckLeaks(t)
	want := modelSteps
	if testing.Short() || raceEnabled {
		want /= 5
	}
	began, steps, runs, broken := time.Now(), 0, 0, false
	seen := map[string]int{}
	for steps < want && !t.Failed() {
		rapid.Check(t, func(rt *rapid.T) {
			if steps >= want && !broken { // else rapid looks for the shortest way to break it
				return
			}
			runs++
			defer func() { broken = broken || rt.Failed() }()
			s := newSimulation(t, rt)
			s.seen = seen
			defer s.end()
			actions := s.actions()
			for name, do := range actions {
				actions[name] = func(*rapid.T) { steps++; s.events = nil; s.unordered = false; do(rt) }
			}
			actions[""] = func(*rapid.T) { s.check() }
			rt.Repeat(actions)
		})
	}
	if steps < want && !t.Failed() {
		t.Errorf("%d steps, want %d", steps, want)
	}
	t.Logf("%d steps in %d runs, %v: %v", steps, runs, time.Since(began), seen)
	for _, what := range []string{
		"EEXIST", "ENOENT", "EBUSY", "EINVAL", "EPERM", "EDEADLK", "EMLINK", "EPROGMISMATCH", "EPIPE",
		"primed", "loaded", "load_failed", "unloaded", "disabled", "failed", "replaced", "refused",
	} {
		if seen[what] == 0 && want == modelSteps && !t.Failed() {
			t.Errorf("%s has never happened", what)
		}
	}
}

func newSimulation(t *testing.T, rt *rapid.T) *simulation {
	under := rapid.SampledFrom([]host.UnderPressure{host.PressureAutoloaded, host.PressureUnreferenced}).Draw(rt, "under pressure")
	path := hosttest.NewPath(t)
	h, err := host.New(host.Config{
		Attach: path.Attach, MaxDepth: modelDepth, MaxRequires: modelNeeds,
		Autounload: host.Autounload{After: time.Hour, UnderPressure: under},
		Memory:     func() (host.Memory, error) { return host.Memory{}, nil },
	})
	if err != nil {
		rt.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), modelLimit)
	rt.Cleanup(cancel)
	s := &simulation{
		T: rt, h: h, fixture: &fixture{Host: h, t: t, path: path}, sub: h.Subscribe(), ctx: ctx,
		ids: map[shared.HelperID]string{}, now: map[string]shared.HelperID{},
		model: &model{
			path: map[string]definition{}, builtins: map[string]definition{}, catalogue: map[string]shared.HelperSpec{},
			maxDepth: modelDepth, maxNeeds: modelNeeds, unreferenced: under == host.PressureUnreferenced,
		},
	}
	for _, name := range modelPrograms {
		s.put(name)
	}
	for _, name := range modelBuiltins {
		s.offer(name)
	}
	specs := s.specs()
	if err := h.Configure(ctx, specs); err != nil {
		rt.Fatal(err)
	}
	for _, spec := range specs {
		s.catalogue[spec.Name] = spec
	}
	return s
}

// end shuts the host down. Nothing that was done to it may keep it from that.
func (s *simulation) end() {
	if err := s.h.Shutdown(s.ctx); err != nil {
		s.Errorf("shutdown: %v", err)
	}
	s.sub.Close()
}

func (s *simulation) define(name string, among []string) definition {
	if h := s.find(name); h != nil { // whoever requires it more often than others, for circles
		for _, d := range s.dependants(h) {
			among = slices.Concat(among, slices.Repeat([]string{d.name}, len(modelNames)))
		}
	}
	behave := rapid.SampledFrom([]behaviour{fine, fine, fine, fine, fine, fine, fine, fine, fine, fine, fine, fine, refuses, crashes})
	d := definition{
		version:  rapid.SampledFrom([]string{"1.0.0", "1.2.3", "2.0.0"}).Draw(s.T, "version"),
		requires: s.requirements(among),
		class:    rapid.SampledFrom(modelClasses).Draw(s.T, "class"),
		osd:      rapid.Bool().Draw(s.T, "osd"),
		init:     behave.Draw(s.T, "init"),
		fini:     min(behave.Draw(s.T, "fini"), refuses),
		stays:    rapid.IntRange(0, 4).Draw(s.T, "stays") == 0,
	}
	d.requires = slices.DeleteFunc(d.requires, func(r shared.Requirement) bool { return r.Name == name })
	return d
}

func (s *simulation) requirements(among []string) []shared.Requirement {
	var out []shared.Requirement
	most := rapid.SampledFrom([]int{0, 0, 0, 1, 1, 1, 1, 2, 2, 5}).Draw(s.T, "requirements")
	for range most {
		r := shared.Requirement{Name: rapid.SampledFrom(among).Draw(s.T, "requires")}
		if rapid.IntRange(0, 9).Draw(s.T, "constrained") == 0 {
			r.Constraint = "~> 1.0"
		}
		if !slices.ContainsFunc(out, func(x shared.Requirement) bool { return x.Name == r.Name }) {
			out = append(out, r)
		}
	}
	return out
}

// put puts another helper of a name on the path.
func (s *simulation) put(name string) {
	def := s.define(name, modelNames)
	s.path[name] = def
	var requires []string
	for _, r := range def.requires {
		requires = append(requires, strings.TrimSpace(r.Name+" "+r.Constraint))
	}
	if def.osd {
		putModel[counts](s, name, def, requires)
	} else {
		putModel[struct{}](s, name, def, requires)
	}
}

func putModel[S any](s *simulation, name string, def definition, requires []string) {
	hosttest.Put(s.fixture.path, helper.Helper[S]{
		Name: name, Version: def.version, Classes: []shared.Class{def.class}, Requires: requires,
		Init: func(ctx context.Context, _ *helper.Host) error {
			if def.init == crashes {
				s.fixture.path.Crash(name)
				<-ctx.Done()
			}
			return def.init.err()
		},
		Fini: func(context.Context) error { return def.fini.err() },
		Autounload: func(context.Context) error {
			if def.stays {
				return errors.New("I stay")
			}
			return nil
		},
	})
}

func (b behaviour) err() error {
	if b == fine {
		return nil
	}
	return shared.ErrInvalid.Errorf("no")
}

// offer offers a builtin. What its functions do may change later.
func (s *simulation) offer(name string) {
	among := slices.Concat(modelBuiltins, modelBuiltins, []string{"p0", "none"})
	def := s.define(name, among)
	s.builtins[name] = def
	b := host.Builtin{
		Name: name, Version: def.version, Classes: []shared.Class{def.class}, Requires: def.requires,
		Init: func(context.Context, map[string]any) error {
			if s.builtins[name].init == crashes {
				panic("no")
			}
			return s.builtins[name].init.err()
		},
		Fini: func(context.Context) error { return s.builtins[name].fini.err() },
	}
	if def.osd {
		b.Template = make([]byte, 8)
	}
	if err := s.h.OfferBuiltin(b); err != nil {
		s.Fatal(err)
	}
}

// specs are a configuration of some of the helpers. At most one more is to be loaded with it, for those load side by side.
func (s *simulation) specs() []shared.HelperSpec {
	specs := []shared.HelperSpec{}
	booted := false
	for _, name := range modelNames {
		if rapid.IntRange(0, 7).Draw(s.T, "configured") == 0 {
			continue
		}
		spec := shared.HelperSpec{Name: name, Load: shared.LoadManual}
		if !booted && rapid.IntRange(0, 3).Draw(s.T, "boot") == 0 {
			spec.Load = shared.LoadBoot
			booted = s.find(name) == nil
		}
		spec.Autounload = rapid.SampledFrom([]shared.AutounloadPolicy{"", "", shared.AutounloadOnce, shared.AutounloadNever}).Draw(s.T, "policy")
		spec.Limits.Inflight = rapid.SampledFrom([]int{0, 0, 0, 8}).Draw(s.T, "in flight")
		if old, ok := s.catalogue[name]; ok && rapid.Bool().Draw(s.T, "same") {
			spec.Requires = old.Requires
		} else if rapid.IntRange(0, 9).Draw(s.T, "more") == 0 {
			spec.Requires = s.requirements(modelNames)
		}
		specs = append(specs, spec)
	}
	return specs
}

// check holds the host against the model: events, generation and every helper.
func (s *simulation) check() {
	s.checkEvents()
	st, err := s.h.Stat(s.ctx, "")
	if err != nil {
		s.Fatal(err)
	}
	if st.Generation != s.generation {
		s.Errorf("generation %d, want %d", st.Generation, s.generation)
	}
	var got, want []string
	for _, x := range st.Helpers {
		got = append(got, fmt.Sprintf("%s %s %s %s refs=%d auto=%v requires=%v restarts=%d incarnation=%d objects=%d scheduled=%v",
			x.Name, x.Version, x.State, x.Source, x.Refs, x.Autoloaded, x.Requires, x.Restarts, x.Incarnation, x.Objects, !x.AutounloadAt.IsZero()))
	}
	for _, x := range s.helpers {
		want = append(want, s.text(x))
	}
	if !slices.Equal(got, want) {
		s.Fatalf("the host has\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
	s.checkIDs(st.Helpers)
}

func (s *simulation) text(x *modelHelper) string {
	refs, needs := s.refs(x), []string{}
	for _, n := range x.needs {
		needs = append(needs, n.name)
	}
	if x.state == shared.StateDisabled {
		refs = -1
	}
	scheduled := x.auto && x.state == shared.StateActive
	switch x.spec.Autounload {
	case shared.AutounloadNever:
		scheduled = false
	case shared.AutounloadOnce:
		scheduled = scheduled && !x.tried
	default:
		scheduled = scheduled && refs == 0
	}
	return fmt.Sprintf("%s %s %s %s refs=%d auto=%v requires=%v restarts=%d incarnation=%d objects=%d scheduled=%v",
		x.name, x.version, x.state, x.source, refs, x.auto, needs, x.restarts, x.incarnation, x.objects, scheduled)
}

// checkIDs sees to it that an id is one helper's for good, and that who comes gets one that is higher than all before.
func (s *simulation) checkIDs(helpers []host.HelperStat) {
	now := map[string]shared.HelperID{}
	newest := s.last
	for _, x := range helpers {
		now[x.Name] = x.ID
		if name, known := s.ids[x.ID]; known && name != x.Name {
			s.Fatalf("id %d was %s's and is %s's", x.ID, name, x.Name)
		}
		if s.now[x.Name] != x.ID && x.ID <= s.last {
			s.Fatalf("%s came with id %d, but %d has been seen", x.Name, x.ID, s.last)
		}
		s.ids[x.ID] = x.Name
		newest = max(newest, x.ID)
		if id, err := s.h.ID(x.Name); err != nil || id != x.ID {
			s.Fatalf("id of %s: %d, %v; stat says %d", x.Name, id, err, x.ID)
		}
	}
	s.last, s.now = newest, now
}

func (s *simulation) checkEvents() {
	var got []string
	ctx, cancel := context.WithTimeout(s.ctx, modelPatience)
	defer cancel()
	for range s.events {
		e, err := s.sub.Next(ctx)
		if err != nil {
			s.Fatalf("events %q, want %q: %v", got, s.events, err)
		}
		got = append(got, string(e.Type)+" "+e.Helper)
		s.seen[string(e.Type)]++
	}
	want := slices.Clone(s.events)
	if s.unordered {
		slices.Sort(got)
		slices.Sort(want)
	}
	if !slices.Equal(got, want) {
		s.Fatalf("events %q, want %q", got, want)
	}
}

// same holds what the host has said against what the model says.
func (s *simulation) same(what string, got, want error) {
	s.seen[shared.ErrWord(want)]++
	if !errors.Is(got, want) || (got == nil) != (want == nil) {
		s.Fatalf("%s: %v, want %v", what, got, want)
	}
}

// sameAll does that for helpers that were initialised together.
func (s *simulation) sameAll(what string, got []*host.BootError, want map[string]error) {
	by := map[string]error{}
	for _, e := range got {
		by[e.Helper] = e
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		s.same(what+" "+name, by[name], want[name])
	}
	if len(by) != len(want) {
		s.Fatalf("%s: failed %v, want %v", what, by, want)
	}
}
