package host_test

import (
	"context"
	"testing"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/helper"
)

// followed is a version of a helper that keeps data on things.
func followed(version string, data uint32, init initFunc) helper.Helper[swapState] {
	return helper.Helper[swapState]{
		Name: "swap", Version: version, Classes: helper.Classes{"thing"}, DataVersion: data,
		Hooks: helper.Hooks[swapState]{"thing.use": countSwap}, Init: init,
	}
}

// held returns an Init that waits, and what it waits with.
func held() (began, release chan struct{}, init initFunc) {
	began, release = make(chan struct{}, 1), make(chan struct{})
	return began, release, blocked(began, release)
}

// TestO8_NoTakeoverOfOtherData: an object that is made while the new process initialises itself has data that it would not understand.
func TestO8_NoTakeoverOfOtherData(t *testing.T) {
	for name, next := range map[string]func(initFunc) func(*hosttest.Path){
		"another version": func(init initFunc) func(*hosttest.Path) {
			return func(p *hosttest.Path) { hosttest.Put(p, followed("2.0.0", 2, init)) }
		},
		"none": func(init initFunc) func(*hosttest.Path) {
			return func(p *hosttest.Path) { hosttest.Put(p, plain{Name: "swap", Version: "2.0.0", Init: init}) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, host.Config{})
			hosttest.Put(f.path, followed("1.0.0", 1, nil))
			f.must(f.load("swap"))
			began, release, init := held()
			next(init)(f.path)
			done := inBackground(func() error { return f.Restart(context.Background(), "swap") })
			hosttest.Await(t, "Init", began)
			o := object(t, f.Host, "thing")
			close(release)
			wantErr(t, hosttest.Await(t, "the takeover", done), shared.ErrIncompatible, "1 object holds data")
			if st := f.helper("swap"); st.Version != "1.0.0" || st.Incarnation != 1 {
				t.Errorf("%+v", st)
			}
			destroy(t, o)
		})
	}
}

// A helper that comes to require a certain version while another process initialises itself keeps that from taking over, also before it
// is active itself.
func TestReplace_KeepsToWhatIsRequiredBySwitch(t *testing.T) {
	for _, active := range []bool{true, false} {
		f := newFixture(t, host.Config{})
		f.put("base")
		f.must(f.load("base"))
		began, release, init := held()
		hosttest.Put(f.path, plain{Name: "base", Version: "2.0.0", Init: init})
		done := inBackground(func() error { return f.Restart(context.Background(), "base") })
		hosttest.Await(t, "Init of base", began)
		topBegan, topRelease, topInit := held()
		f.putInit("top", topInit, "base ~> 1.0")
		loaded := inBackground(func() error { return f.load("top") })
		hosttest.Await(t, "Init of top", topBegan)
		if active {
			close(topRelease)
			f.must(hosttest.Await(t, "top", loaded))
		}
		close(release)
		wantErr(t, hosttest.Await(t, "the takeover", done), shared.ErrIncompatible, "top requires it")
		if !active {
			close(topRelease)
			f.must(hosttest.Await(t, "top", loaded))
		}
		if st := f.helper("base"); st.Version != "1.0.0" {
			t.Errorf("base has version %s", st.Version)
		}
	}
}

// A takeover that fails at the switch leaves nothing of the new process: no requirements, and it is asked to finish what it has begun.
func TestReplace_UndoneAtTheSwitch(t *testing.T) {
	f := newFixture(t, host.Config{})
	head(t, f.Host, "thing.use", hhook.Options{})
	f.put("base")
	f.put("kept")
	hp := hooking("swap", "thing.use", "thing.gone")
	hp.Requires = []string{"kept"}
	hosttest.Put(f.path, hp)
	specs := []shared.HelperSpec{{Name: "swap"}, {Name: "base", Load: shared.LoadManual}, {Name: "kept", Load: shared.LoadManual}}
	f.boot(specs...)
	finished := make(chan struct{}, 1)
	hp.Requires = []string{"base"}
	hp.Fini = func(context.Context) error { finished <- struct{}{}; return nil }
	hosttest.Put(f.path, hp)
	specs[0].Hooks = []shared.HookSpec{{Point: "thing.gone", Required: true}}
	specs[0].Env = map[string]string{"A": "b"}
	done, err := f.Reconfigure(t.Context(), specs)
	f.must(err)
	wantErr(t, done[0].Err, shared.ErrNotExist, "thing.gone")
	select {
	case <-finished:
	default:
		t.Error("the new process was not asked to finish")
	}
	f.want("swap=active kept=active")
	if st := f.helper("kept"); st.Refs != 1 {
		t.Errorf("kept has %d references, want swap's", st.Refs)
	}
	f.must(f.unload("swap"))
}
