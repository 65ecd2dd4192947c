package host_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/shared"
)

// A builtin gets other properties where it stands: with its id, its place among the hooks, its objects and whoever holds it.
func TestReinit_InPlace(t *testing.T) {
	f := newFixture(t, host.Config{})
	use := head(t, f.Host, "thing.use", hhook.Options{Kind: hhook.Filter})
	var mu sync.Mutex   // the two are loaded side by side; protects the following
	var refuse [2]error // of the next Inits
	var inits, finis int
	for _, name := range []string{"one", "two"} {
		f.must(f.OfferBuiltin(host.Builtin{
			Name: name, Version: "1.0.0", Classes: []shared.Class{"thing"}, Template: []byte{0},
			Properties: []shared.Property{{Name: "x", Type: shared.PropertyInt}},
			Hooks:      map[shared.HookPoint]host.BuiltinHook{"thing.use": func(_ context.Context, c *host.BuiltinCall) error { c.Data[0]++; return nil }},
			Init: func(context.Context, map[string]any) error {
				mu.Lock()
				defer mu.Unlock()
				err := refuse[0]
				refuse[0], refuse[1] = refuse[1], nil
				inits++
				return err
			},
			Fini: func(context.Context) error { finis++; return nil },
		}))
	}
	specs := func(x int64) []shared.HelperSpec {
		return []shared.HelperSpec{{Name: "one", Config: map[string]any{"x": x}, OnFailure: shared.Closed}, {Name: "two"}}
	}
	f.boot(specs(1)...)
	o := object(t, f.Host, "thing")
	f.must(f.Hold("one"))
	before := f.helper("one")
	run := func() error {
		v, err := use.Run(t.Context(), o, nil)
		f.must(err)
		return v.Err()
	}
	f.must(run())
	f.reload(specs(2), "restart one: config has changed")
	f.must(run())
	if st := f.helper("one"); st.ID != before.ID || st.Refs != before.Refs || st.Committed != 2 || order(use) != "one two" || inits != 3 || finis != 1 {
		t.Errorf("%+v, order %s, %d Inits, %d Finis", st, order(use), inits, finis)
	}

	refuse = [2]error{errors.New("no device")}
	done, err := f.Reconfigure(t.Context(), specs(3))
	f.must(err)
	wantErr(t, done[0].Err, shared.ErrInvalid, "Init: no device")
	f.must(run())
	f.want("one=active two=active")

	refuse = [2]error{errors.New("no device"), errors.New("nor the old one")}
	done, err = f.Reconfigure(t.Context(), specs(3))
	f.must(err)
	wantErr(t, done[0].Err, shared.ErrInvalid, "nor the old one")
	f.want("one=failed two=active")
	if st := f.helper("one"); st.Refs != before.Refs || st.LastError == "" {
		t.Errorf("%+v", st)
	}
	if err := run(); err == nil {
		t.Error("a filter that has failed and is closed lets pass")
	}
	finis = 0
	f.reload(specs(3), "restart one: config has changed")
	f.must(run())
	if finis != 0 {
		t.Error("what was not initialised was asked to finish")
	}
	if b := o.Slot(before.ID).Bytes(); b[0] != 4 {
		t.Errorf("the object's data is %v, want 4 runs", b)
	}
	f.must(f.Rele("one"))
	destroy(t, o)
}

// What cannot be right is refused before anything ends, and what a builtin requires follows its spec.
func TestReinit_ChecksFirst(t *testing.T) {
	f := newFixture(t, host.Config{})
	c := &clock{}
	f.must(f.OfferBuiltin(c.builtin()))
	f.must(f.OfferBuiltin(host.Builtin{Name: "tick", Version: "1.0.0"}))
	specs := []shared.HelperSpec{{Name: "clock"}, {Name: "tick", Load: shared.LoadManual}}
	f.boot(specs...)
	for _, bad := range []shared.HelperSpec{
		{Name: "clock", Config: map[string]any{"nothing": int64(1)}}, {Name: "clock", Version: "~> 9.0"},
		{Name: "clock", Requires: []shared.Requirement{{Name: "tick"}, {Name: "ghost"}}},
	} {
		done, err := f.Reconfigure(t.Context(), []shared.HelperSpec{bad, specs[1]})
		f.must(err)
		if done[0].Err == nil || c.finis != 0 {
			t.Errorf("%+v: %v, %d Finis", bad, done[0].Err, c.finis)
		}
		f.want("clock=active")
	}
	specs[0].Requires = []shared.Requirement{{Name: "tick"}}
	f.reload(specs, "restart clock: requires has changed")
	f.want("clock=active tick=active")
	if st := f.helper("tick"); st.Refs != 1 {
		t.Errorf("%+v", st)
	}
	specs[0].Requires = nil
	f.reload(specs, "restart clock: requires has changed")
	if st := f.helper("tick"); st.Refs != 0 {
		t.Errorf("%+v", st)
	}
	c.refuse = errors.New("in use")
	specs[0].Requires = []shared.Requirement{{Name: "tick"}}
	done, err := f.Reconfigure(t.Context(), specs)
	f.must(err)
	wantErr(t, done[0].Err, shared.ErrBusy, "in use")
	if st := f.helper("tick"); st.Refs != 0 {
		t.Errorf("%+v", st)
	}
	c.refuse = nil
}
