package host_test

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/shared"
)

// name draws the name of a helper, more often than not one that is there.
func (s *simulation) name() string {
	if len(s.helpers) > 0 && rapid.IntRange(0, 2).Draw(s.T, "one that is there") > 0 {
		return s.one(s.helpers).name
	}
	return rapid.SampledFrom(modelNames).Draw(s.T, "name")
}

// one draws one of some helpers, by name so that traces can be read.
func (s *simulation) one(helpers []*modelHelper) *modelHelper {
	names := make([]string, len(helpers))
	for i, h := range helpers {
		names[i] = h.name
	}
	return s.find(rapid.SampledFrom(names).Draw(s.T, "helper"))
}

// actions are what can be done to a loader, those that shall happen often under several names.
func (s *simulation) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"load": s.doLoad, "load again": s.doLoad, "load once more": s.doLoad,
		"force":     func(*rapid.T) { s.loads(how{force: true}) },
		"load only": func(*rapid.T) { s.loads(how{alone: true}) },
		"unload":    s.doUnload, "unload again": s.doUnload,
		"disable": func(*rapid.T) {
			name := rapid.SampledFrom(modelBuiltins).Draw(s.T, "name")
			err := s.h.Unload(s.ctx, name, host.UnloadOptions{Disable: true})
			s.same("disable of "+name, err, s.unload(s.find(name), true))
		},
		"hold": func(*rapid.T) {
			name := s.name()
			s.same("hold of "+name, s.h.Hold(name), s.hold(name))
		},
		"rele": s.doRele, "rele again": s.doRele,
		"prime": func(*rapid.T) {
			name := rapid.SampledFrom(modelNames).Draw(s.T, "name")
			want := map[string]error{}
			if err := s.prime(name); err != nil {
				want[name] = err
			}
			spec := s.asked(name)
			s.sameAll("prime", s.h.Prime(s.ctx, []shared.HelperSpec{spec}), want)
		},
		"init class": s.doInitClass,
		"end boot":   func(*rapid.T) { s.endBoot(); s.h.EndBoot(s.ctx) },
		"sweep": func(*rapid.T) {
			pressed := rapid.IntRange(0, 3).Draw(s.T, "pressed") == 0
			s.sweep(pressed)
			host.Sweep(s.h, maxIdle, pressed)
		},
		"new object": func(*rapid.T) {
			class := rapid.SampledFrom(modelClasses).Draw(s.T, "class")
			o, err := s.h.NewObject(s.ctx, class)
			if err != nil {
				s.Fatal(err)
			}
			s.objects = append(s.objects, &modelObject{o, s.newObject(class)})
		},
		"destroy": s.doDestroy, "destroy again": s.doDestroy,
		"crash":   s.doCrash,
		"restart": s.doRestart, "restart again": s.doRestart,
		"replace the program": func(*rapid.T) {
			s.put(rapid.SampledFrom(modelPrograms).Draw(s.T, "name"))
		},
		"remove the program": func(*rapid.T) {
			if name := rapid.SampledFrom(modelPrograms).Draw(s.T, "name"); rapid.IntRange(0, 3).Draw(s.T, "remove") == 0 {
				s.fixture.path.Remove(name)
				delete(s.path, name)
			}
		},
		"change a builtin": func(*rapid.T) {
			name := rapid.SampledFrom(modelBuiltins).Draw(s.T, "name")
			def, next := s.builtins[name], s.define(name, modelBuiltins)
			def.init, def.fini = next.init, next.fini
			s.builtins[name] = def
		},
		"reconfigure": s.doReconfigure,
		"listen": func(*rapid.T) {
			s.sub.Close()
			s.sub, s.events = s.h.Subscribe(), s.present()
		},
	}
}

// maxIdle is longer than anybody stays who is idle, also after coming and going.
const maxIdle = 1000 * 3600 * 1e9

func (s *simulation) doLoad(*rapid.T) { s.loads(how{}) }

func (s *simulation) loads(how how) {
	name := s.name()
	err := s.h.Load(s.ctx, s.asked(name), host.LoadOptions{Force: how.force, NoAutoload: how.alone})
	s.same(fmt.Sprintf("load of %s %+v", name, how), err, s.operatorLoads(name, how))
}

func (s *simulation) doUnload(*rapid.T) {
	name := s.name()
	err := s.h.Unload(s.ctx, name, host.UnloadOptions{})
	s.same("unload of "+name, err, s.unload(s.find(name), false))
}

func (s *simulation) doRele(*rapid.T) {
	name := s.name()
	for _, h := range s.helpers {
		if h.holds > 0 {
			name = h.name
		}
	}
	s.same("rele of "+name, s.h.Rele(name), s.rele(name))
}

// doInitClass initialises a class of which at most one process is primed, for several would go side by side.
func (s *simulation) doInitClass(rt *rapid.T) {
	class := rapid.SampledFrom([]shared.Class{"", "tcp", "udp"}).Draw(s.T, "class")
	builtins, others := s.primed(class)
	if len(builtins) > 1 || len(others) > 1 {
		return
	}
	want := s.initClass(class)
	s.sameAll("init of class "+string(class), s.h.InitClass(s.ctx, class), want)
}

func (s *simulation) doDestroy(*rapid.T) {
	if len(s.objects) == 0 {
		return
	}
	i := rapid.IntRange(0, len(s.objects)-1).Draw(s.T, "object")
	o := s.objects[i]
	s.objects = slices.Delete(s.objects, i, i+1)
	if err := o.Destroy(s.ctx); err != nil {
		s.Fatal(err)
	}
	for _, h := range o.on {
		h.objects--
	}
}

func (s *simulation) doCrash(*rapid.T) {
	var processes []*modelHelper
	for _, h := range s.helpers {
		if !h.builtin && !h.dead && (h.state == shared.StateActive || h.state == shared.StatePrimed) {
			processes = append(processes, h)
		}
	}
	if len(processes) == 0 {
		return
	}
	h := s.one(processes)
	s.fixture.path.Crash(h.name)
	s.crash(h)
	hosttest.Until(s.fixture.t, "the news of its death", func() bool {
		st, err := s.h.Stat(context.Background(), h.name)
		return err == nil && st.Helpers[0].LastError != ""
	})
}

func (s *simulation) doRestart(*rapid.T) {
	name := s.name()
	if slices.Contains(modelPrograms, name) && rapid.Bool().Draw(s.T, "with another program") {
		s.put(name)
	}
	err := s.h.Restart(s.ctx, name)
	s.same("restart of "+name, err, s.restart(s.find(name), func(*modelHelper) {}))
}

func (s *simulation) doReconfigure(*rapid.T) {
	specs := s.specs()
	plan, err := s.h.Plan(specs)
	if err != nil {
		s.Fatal(err)
	}
	changes, err := s.h.Reconfigure(s.ctx, specs)
	if err != nil {
		s.Fatal(err)
	}
	want, rank := s.reconfigure(specs), 0
	for i, c := range changes {
		w, ok := want[c.Helper]
		if !ok || w.action != c.Action {
			s.Fatalf("%s %s (%s), want %+v", c.Action, c.Helper, c.Reason, w)
		}
		if w.rank < rank {
			s.Fatalf("%s %s comes too late in %v", c.Action, c.Helper, changes)
		}
		rank = w.rank
		if blocked := slices.Sorted(slices.Values(c.BlockedBy)); !slices.Equal(blocked, w.blocked) {
			s.Fatalf("%s %s is blocked by %q, want %q", c.Action, c.Helper, blocked, w.blocked)
		}
		s.same(string(c.Action)+" of "+c.Helper, c.Err, w.err)
		if c.Err = nil; i >= len(plan) || !cmp.Equal(plan[i], c) {
			s.Fatalf("the plan was %v, and the changes are %v", plan, changes)
		}
	}
	if len(changes) != len(want) || len(plan) != len(changes) {
		s.Fatalf("plan %v, changes %v, want %v", plan, changes, want)
	}
}
