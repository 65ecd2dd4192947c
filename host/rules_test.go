package host_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/host/osd"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/helper"
)

func head(t testing.TB, h *host.Host, point shared.HookPoint, opts hhook.Options) *hhook.Head {
	t.Helper()
	head, err := h.RegisterHead(point, opts)
	if err != nil {
		t.Fatal(err)
	}
	return head
}

func object(t testing.TB, h *host.Host, classes ...shared.Class) *osd.Object {
	t.Helper()
	o, err := h.NewObject(t.Context(), classes...)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func destroy(t testing.TB, o *osd.Object) {
	t.Helper()
	if err := o.Destroy(context.Background()); err != nil {
		t.Error(err)
	}
}

func wantErr(t testing.TB, err error, want error, says string) {
	t.Helper()
	if !errors.Is(err, want) || !strings.Contains(err.Error(), says) {
		t.Errorf("error = %v; want %v that says %q", err, want, says)
	}
}

func TestH1_OnePointOncePerVnet(t *testing.T) {
	h := hosttest.New(t, host.Config{})
	head(t, h, "tcp.est_in", hhook.Options{})
	_, err := h.RegisterHead("tcp.est_in", hhook.Options{})
	wantErr(t, err, shared.ErrExist, "tcp.est_in")
	if !errors.Is(err, syscall.EEXIST) {
		t.Errorf("%v is not EEXIST", err)
	}
	edge, err := h.Vnet("edge")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := edge.RegisterHead("tcp.est_in", hhook.Options{}); err != nil {
		t.Errorf("the same point in another vnet: %v", err)
	}
	var all sync.WaitGroup
	wins := make(chan struct{}, 16)
	for range 16 {
		all.Go(func() {
			if _, err := h.RegisterHead("tcp.race", hhook.Options{}); err == nil {
				wins <- struct{}{}
			}
		})
	}
	all.Wait()
	if len(wins) != 1 {
		t.Errorf("%d registered the same point", len(wins))
	}
}

// A point may come before its helpers or after, and no load that runs beside a registration falls between the two.
func TestH3_BothOrdersBind(t *testing.T) {
	h := hosttest.New(t, host.Config{})
	early := head(t, h, "tcp.est_in", hhook.Options{})
	hosttest.Load(t, h, counting(), shared.HelperSpec{})
	late := head(t, h, "tcp.est_out", hhook.Options{})
	if !early.Enabled() || !late.Enabled() {
		t.Errorf("early %v, late %v; want both", early.Enabled(), late.Enabled())
	}
	for range 20 {
		h := hosttest.New(t, host.Config{})
		var registered *hhook.Head
		var both sync.WaitGroup
		both.Go(func() { registered = head(t, h, "tcp.est_in", hhook.Options{}) })
		both.Go(func() {
			err := h.AddBuiltin(host.Builtin{Name: "racer", Hooks: map[shared.HookPoint]host.BuiltinHook{
				"tcp.est_in": func(context.Context, *host.BuiltinCall) error { return nil },
			}})
			if err != nil {
				t.Error(err)
			}
		})
		both.Wait()
		if n := len(registered.Hooks()); n != 1 {
			t.Fatalf("%d hooks, want 1", n)
		}
	}
}

func TestH3_RequiredPointMissing(t *testing.T) {
	h := hosttest.New(t, host.Config{})
	hp := counting()
	spec := shared.HelperSpec{Name: hp.Name, Hooks: []shared.HookSpec{{Point: "tcp.est_in", Required: true}}}
	err := h.Load(t.Context(), spec, host.LoadOptions{Dial: hosttest.Serve(t, hp)})
	wantErr(t, err, shared.ErrNotExist, "tcp.est_in")
	if st, _ := h.Stat(t.Context(), ""); len(st.Helpers) != 0 {
		t.Errorf("left behind: %+v", st.Helpers)
	}
}

func TestH8_VnetCloseClosesLeakedHeads(t *testing.T) {
	h := hosttest.New(t, host.Config{})
	v, err := h.Vnet("edge")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.RegisterHead("tcp.est_in", hhook.Options{}); err != nil {
		t.Fatal(err)
	}
	held, err := v.Head("tcp.est_in")
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := held.Run(t.Context(), nil, nil); !errors.Is(err, shared.ErrClosed) {
		t.Errorf("Run on the leaked head: %v", err)
	}
	if len(h.Hooks()) != 0 {
		t.Errorf("heads left: %+v", h.Hooks())
	}
}

func TestK1_IdsAreNeverUsedAgain(t *testing.T) {
	h := hosttest.New(t, host.Config{})
	seen := map[shared.HelperID]bool{}
	for range 5 {
		hosttest.Load(t, h, counting(), shared.HelperSpec{})
		id, err := h.ID("counting")
		if err != nil || id == 0 || seen[id] {
			t.Fatalf("id %d, %v; seen %v", id, err, seen)
		}
		seen[id] = true
		if err := h.Unload(t.Context(), "counting", host.UnloadOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// A load whose second hook cannot be bound takes back the first one, and nothing else.
func TestK2_AllHooksOrNone(t *testing.T) {
	h := hosttest.New(t, host.Config{})
	in, out := head(t, h, "tcp.est_in", hhook.Options{}), head(t, h, "tcp.est_out", hhook.Options{})
	pass := func(context.Context, *host.BuiltinCall) error { return nil }
	err := h.AddBuiltin(host.Builtin{Name: "there", Hooks: map[shared.HookPoint]host.BuiltinHook{"tcp.est_in": pass, "tcp.est_out": pass}})
	if err != nil {
		t.Fatal(err)
	}
	first := counting()
	first.Name = "first"
	hosttest.Load(t, h, first, shared.HelperSpec{Hooks: []shared.HookSpec{{Point: "tcp.est_out", Order: shared.Order{Place: shared.Before, Helper: "second"}}}})
	second := counting()
	second.Name = "second"
	spec := shared.HelperSpec{Name: "second", Hooks: []shared.HookSpec{{Point: "tcp.est_out", Order: shared.Order{Place: shared.Before, Helper: "first"}}}}
	err = h.Load(t.Context(), spec, host.LoadOptions{Dial: hosttest.Serve(t, second)})
	wantErr(t, err, shared.ErrInvalid, "first is before second")
	for _, head := range []*hhook.Head{in, out} {
		if n := len(head.Hooks()); n != 2 {
			t.Errorf("%s has %d hooks, want the 2 from before", head.Point(), n)
		}
	}
}

func TestK3_UnloadSaysWhoHolds(t *testing.T) {
	h := hosttest.New(t, host.Config{})
	in := head(t, h, "tcp.est_in", hhook.Options{})
	hosttest.Load(t, h, counting(), shared.HelperSpec{})
	user := helper.Helper[struct{}]{
		Name: "user", Version: "1.0.0", Requires: []string{"counting ~> 1.0"},
		Hooks: helper.Hooks[struct{}]{"tcp.est_in": func(context.Context, *helper.Call, *struct{}) error { return nil }},
	}
	hosttest.Load(t, h, user, shared.HelperSpec{})
	o1, o2 := object(t, h, "tcp"), object(t, h, "tcp")
	err := h.Unload(t.Context(), "counting", host.UnloadOptions{})
	wantErr(t, err, shared.ErrBusy, "held by 2 objects, user")
	if v, err := in.Run(t.Context(), o1, nil); err != nil || v.Rejected || len(in.Hooks()) != 2 {
		t.Errorf("after a refused unload: %+v, %v, %d hooks", v, err, len(in.Hooks()))
	}
	destroy(t, o1)
	if err := h.Unload(t.Context(), "user", host.UnloadOptions{}); err != nil {
		t.Fatal(err)
	}
	wantErr(t, h.Unload(t.Context(), "counting", host.UnloadOptions{}), shared.ErrBusy, "held by 1 object")
	waited := make(chan error, 1)
	go func() { waited <- h.Unload(t.Context(), "counting", host.UnloadOptions{Wait: 10 * time.Second}) }()
	destroy(t, o2)
	if err := <-waited; err != nil {
		t.Errorf("unload that waits: %v", err)
	}
	wantErr(t, h.Unload(t.Context(), "counting", host.UnloadOptions{}), shared.ErrNotExist, "counting")
}

func TestK4_Names(t *testing.T) {
	h := hosttest.New(t, host.Config{})
	for name, want := range map[string]error{
		strings.Repeat("a", 64): shared.ErrNameTooLong, "a/b": shared.ErrInvalid, "Ertt": shared.ErrInvalid, "a.b": shared.ErrInvalid,
		"9a": shared.ErrInvalid, "a@b": shared.ErrInvalid,
	} {
		wantErr(t, h.Load(t.Context(), shared.HelperSpec{Name: name}, host.LoadOptions{}), want, "")
	}
	err := h.Load(t.Context(), shared.HelperSpec{Name: strings.Repeat("a", 63)}, host.LoadOptions{})
	wantErr(t, err, shared.ErrNotExist, "helper path")
}

func TestK6_IDByName(t *testing.T) {
	h := hosttest.New(t, host.Config{})
	id, err := h.ID("ghost")
	wantErr(t, err, shared.ErrNotExist, "ghost")
	if id != 0 {
		t.Errorf("id %d in band", id)
	}
}

func TestL5_LoadedTwice(t *testing.T) {
	h := hosttest.New(t, host.Config{})
	hosttest.Load(t, h, counting(), shared.HelperSpec{})
	err := h.Load(t.Context(), shared.HelperSpec{Name: "counting"}, host.LoadOptions{Dial: hosttest.Serve(t, counting())})
	wantErr(t, err, shared.ErrExist, "loaded already")
}

func TestL3_Classes(t *testing.T) {
	h := hosttest.New(t, host.Config{})
	err := h.Load(t.Context(), shared.HelperSpec{Name: "counting", Classes: []shared.Class{"udp"}}, host.LoadOptions{Dial: hosttest.Serve(t, counting())})
	wantErr(t, err, shared.ErrNotExist, `class "udp"`)
}

func TestO1_AllOrNothing(t *testing.T) {
	h := hosttest.New(t, host.Config{})
	freed := make(chan uint64, 8)
	good := counting()
	good.Name = "good"
	good.New = func(_ context.Context, _ *helper.Call, s *counter) error { s.In = 7; return nil }
	good.Free = func(_ context.Context, c *helper.Call, _ *counter) { freed <- c.Object }
	hosttest.Load(t, h, good, shared.HelperSpec{})
	bad := counting()
	bad.Name = "bad"
	bad.New = func(context.Context, *helper.Call, *counter) error { return errors.New("out of tables") }
	hosttest.Load(t, h, bad, shared.HelperSpec{OnFailure: shared.Closed})

	_, err := h.NewObject(t.Context(), "tcp")
	wantErr(t, err, shared.ErrBadReply, "bad could not follow the object")
	if st, _ := h.Stat(t.Context(), ""); st.Helpers[0].Refs != 0 || st.Helpers[0].ObjectBytes != 0 || st.Helpers[1].Refs != 0 {
		t.Errorf("references stay behind: %+v", st.Helpers)
	}
	if len(freed) != 1 {
		t.Errorf("good was told of %d ends, want 1", len(freed))
	}
	<-freed

	if err := h.Unload(t.Context(), "bad", host.UnloadOptions{}); err != nil {
		t.Fatal(err)
	}
	hosttest.Load(t, h, bad, shared.HelperSpec{OnFailure: shared.Open})
	o := object(t, h, "tcp")
	if len(o.Slots()) != 1 {
		t.Errorf("%d slots, want that of good alone", len(o.Slots()))
	}
	objs, err := h.Objects(host.ObjectFilter{})
	if err != nil || objs[0].Slots[0].Values["in"] != uint64(7) {
		t.Errorf("O2: New's data is not there: %+v, %v", objs, err)
	}
	destroy(t, o)
	if id := <-freed; id != o.ID() {
		t.Errorf("Free for object %d, want %d", id, o.ID())
	}
}

// Objects older than the helper are not followed.
func TestO3_NoSlotIsSkipped(t *testing.T) {
	h := hosttest.New(t, host.Config{})
	in := head(t, h, "tcp.est_in", hhook.Options{})
	old := object(t, h, "tcp")
	defer destroy(t, old)
	other := object(t, h, "udp")
	defer destroy(t, other)
	hosttest.Load(t, h, counting(), shared.HelperSpec{})
	young := object(t, h, "tcp")
	defer destroy(t, young)
	for _, o := range []*osd.Object{old, other, young, nil} {
		if _, err := in.Run(t.Context(), o, nil); err != nil {
			t.Fatal(err)
		}
	}
	if c := in.Hooks()[0].Stats().Read(); c.Committed != 1 || c.Skipped != 3 {
		t.Errorf("%+v; want 1 committed, 3 skipped", c)
	}
}

func TestO7_HelperLimit(t *testing.T) {
	h := hosttest.New(t, host.Config{Limits: shared.Limits{Slots: 40}})
	hosttest.Load(t, h, counting(), shared.HelperSpec{OnFailure: shared.Closed}) // 16 bytes an object
	defer destroy(t, object(t, h, "tcp"))
	defer destroy(t, object(t, h, "tcp"))
	_, err := h.NewObject(t.Context(), "tcp")
	wantErr(t, err, shared.ErrBadReply, "the limit is 40")
}

func TestO9_Values(t *testing.T) {
	type state struct {
		Hits  uint32
		Rates [2]float64
		Name  [8]byte
	}
	h := hosttest.New(t, host.Config{})
	in := head(t, h, "tcp.est_in", hhook.Options{})
	hosttest.Load(t, h, helper.Helper[state]{
		Name: "values", Version: "1.0.0", Classes: []shared.Class{"tcp"},
		Hooks: helper.Hooks[state]{"tcp.est_in": func(_ context.Context, _ *helper.Call, s *state) error {
			s.Hits, s.Rates[1] = 3, 0.5
			copy(s.Name[:], "khelp")
			return nil
		}},
	}, shared.HelperSpec{})
	o := object(t, h, "tcp")
	defer destroy(t, o)
	if _, err := in.Run(t.Context(), o, nil); err != nil {
		t.Fatal(err)
	}
	objs, err := h.Objects(host.ObjectFilter{Helper: "values"})
	if err != nil {
		t.Fatal(err)
	}
	values := objs[0].Slots[0].Values
	rates, _ := values["rates"].([]any)
	if values["hits"] != uint64(3) || values["name"] != "khelp" || len(rates) != 2 || rates[1] != 0.5 {
		t.Errorf("%v", values)
	}
	_, err = h.Objects(host.ObjectFilter{Helper: "ghost"})
	wantErr(t, err, shared.ErrNotExist, "ghost")
}

// A mutable head hands each hook what the one before made of the context, and the caller the last.
func TestH9_Mutable(t *testing.T) {
	h := hosttest.New(t, host.Config{})
	point := head(t, h, "app.line", hhook.Options{Kind: hhook.Filter, Mutable: true})
	for _, name := range []string{"one", "two"} {
		hosttest.Load(t, h, helper.Helper[struct{}]{
			Name: name, Version: "1.0.0",
			Hooks: helper.Hooks[struct{}]{"app.line": func(_ context.Context, c *helper.Call, _ *struct{}) error {
				if strings.Contains(string(c.Context), "stop") {
					return c.Reject("%s stops here", name)
				}
				c.SetContext(append(append([]byte{}, c.Context...), name...))
				return nil
			}},
		}, shared.HelperSpec{})
	}
	v, err := point.Run(t.Context(), nil, []byte("zero"))
	if err != nil || string(v.Context) != "zeroonetwo" || v.Rejected {
		t.Errorf("%+v, %v", v, err)
	}
	if v, err = point.Run(t.Context(), nil, []byte("stop")); err != nil || !v.Rejected || v.Helper != "one" || v.Reason != "one stops here" {
		t.Errorf("%+v, %v", v, err)
	}
	if c := point.Hooks()[1].Stats().Read(); c.Committed != 1 || c.Skipped != 1 {
		t.Errorf("O10: the hook behind a reject counts %+v; want 1 committed, 1 skipped", c)
	}
}
