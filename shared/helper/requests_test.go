package helper

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/khelp/khelp/host/hosttest/testkit"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// reply answers a request of the helper.
func (p *peer) reply(m *wire.ControlToHost, err error) {
	p.t.Helper()
	answer := &wire.Answer{Status: wire.StatusOf(err), Result: &wire.Answer_GetId{GetId: &wire.GetIdResult{HelperId: 9}}}
	if err := p.control.Send(&wire.ControlToHelper{Id: m.GetId(), Body: &wire.ControlToHelper_Answer{Answer: answer}}); err != nil {
		p.t.Fatal(err)
	}
}

// request returns the next request of the helper, which must be of this kind.
func (p *peer) request(kind string) *wire.ControlToHost {
	p.t.Helper()
	m := p.recv()
	if got := fmt.Sprintf("%T", m.GetBody()); got != "*wire.ControlToHost_"+kind {
		p.t.Fatalf("%s instead of %s: %v", got, kind, m)
	}
	return m
}

func closing() HookDecl[counts] { return HookDecl[counts]{Point: "tcp.close", Func: countOut} }

// initialised starts the helper that counts, and returns its Host.
func initialised(t *testing.T) (*peer, *Host) {
	t.Helper()
	hosts := make(chan *Host, 1)
	h := countHelper()
	h.Init = func(_ context.Context, host *Host) error { hosts <- host; return nil }
	p := start(t, h)
	if err := p.init(nil); err != nil {
		t.Fatal(err)
	}
	return p, testkit.Await(t, "Init", hosts)
}

func TestL10_InitAsksTheHost(t *testing.T) {
	h := countHelper()
	h.Init = func(ctx context.Context, host *Host) error {
		if err := host.Load(ctx, "ertt"); err != nil {
			return err
		}
		if err := AddHook(ctx, host, closing()); !errors.Is(err, shared.ErrInvalid) {
			return fmt.Errorf("AddHook: %w, want the host's ErrInvalid", err)
		}
		if err := AddHook(ctx, host, closing()); err != nil {
			return fmt.Errorf("AddHook after one that the host refused: %w", err)
		}
		if err := host.Unload(ctx, "segs"); !errors.Is(err, shared.ErrBusy) || err.Error() != "segs is starting" {
			return fmt.Errorf("unloading itself: %w, want ErrBusy", err)
		}
		return errors.Join(host.Hold(ctx, "ertt"), host.Rele(ctx, "ertt"), host.Unload(ctx, "ertt"), host.RemoveHook(ctx, "tcp.est_in", nil))
	}
	p := start(t, h)
	id := p.ask(initRequest(nil))
	p.reply(p.request("Load"), nil)
	refused := p.request("AddHook")
	p.reply(refused, shared.ErrInvalid)
	added := p.request("AddHook")
	p.reply(added, nil)
	p.reply(p.request("Unload"), shared.ErrBusy.Errorf("segs is starting"))
	p.reply(p.request("Hold"), nil)
	p.reply(p.request("Rele"), nil)
	unload := p.request("Unload")
	if unload.GetUnload().GetName() != "ertt" {
		t.Errorf("%v", unload)
	}
	p.reply(unload, nil)
	p.reply(p.request("RemoveHook"), nil)
	if m := p.recv(); m.GetId() != id || m.GetAnswer().GetStatus().Err() != nil {
		t.Fatalf("Init: %v", m)
	}
	data := make([]byte, 16)
	replies := p.exchange(
		hook(1, refused.GetAddHook().GetHook().GetIndex(), 10, data, nil), hook(2, added.GetAddHook().GetHook().GetIndex(), 11, data, nil),
		hook(3, 0, 12, data, nil)) // the one on tcp.est_in
	want(t, replies[0], shared.CodeNotExist, nil)
	if replies[1].Code != shared.CodeOK || replies[1].Data[8] != 1 {
		t.Errorf("the added hook: %+v", replies[1])
	}
	want(t, replies[2], shared.CodeNotExist, nil)
}

// Init's requests go side by side too, and the answers come in any order, while the host asks after the helper's health.
func TestInitAsksTheHostFromManyGoroutines(t *testing.T) {
	const n = 20
	h := countHelper()
	h.Init = func(ctx context.Context, host *Host) error {
		failed := make(chan error, n)
		for i := range n {
			go func() { failed <- host.Load(ctx, fmt.Sprintf("h%d", i)) }()
		}
		var errs []error
		for range n {
			errs = append(errs, <-failed)
		}
		return errors.Join(errs...)
	}
	p := start(t, h)
	id := p.ask(initRequest(nil))
	var asked []*wire.ControlToHost
	for range n {
		asked = append(asked, p.request("Load"))
	}
	if err := p.answer(healthRequest()).GetStatus().Err(); err != nil {
		t.Errorf("Health: %v", err)
	}
	for i := range asked {
		p.reply(asked[n-1-i], nil)
	}
	if m := p.recv(); m.GetId() != id || m.GetAnswer().GetStatus().Err() != nil {
		t.Fatalf("Init: %v", m)
	}
}

// A hook that may sleep asks the host, of one object while others' hooks run.
func TestHooksThatMaySleepAskTheHost(t *testing.T) {
	hosts := make(chan *Host, 1)
	var host *Host
	h := Helper[number]{
		Name: "asker", Classes: Classes{"tcp"}, MaySleep: []shared.HookPoint{"a.ask"},
		Init: func(_ context.Context, h *Host) error { hosts <- h; return nil },
		Hooks: Hooks[number]{
			"a.ask": func(ctx context.Context, _ *Call, s *number) error {
				id, err := host.GetID(ctx, "ertt")
				s.N = uint64(id)
				added := HookDecl[number]{Point: "c.new", Func: func(_ context.Context, _ *Call, s *number) error { s.N = 7; return nil }}
				return errors.Join(err, host.Load(ctx, "vegas"), host.Hold(ctx, "vegas"), AddHook(ctx, host, added),
					host.RemoveHook(ctx, "a.ask", nil), host.Rele(ctx, "vegas"), host.Unload(ctx, "vegas"))
			},
			"b.quick": func(_ context.Context, _ *Call, s *number) error { s.N++; return nil },
		},
	}
	p := start(t, h)
	if err := p.init(nil); err != nil {
		t.Fatal(err)
	}
	host = testkit.Await(t, "Init", hosts)
	p.calls(hook(1, 0, 10, encoded(1), nil))
	p.reply(p.request("GetId_"), nil)
	load := p.request("Load")
	want(t, p.exchange(hook(2, 1, 11, encoded(1), nil))[0], shared.CodeOK, encoded(2))
	p.reply(load, nil)
	p.reply(p.request("Hold"), nil)
	added := p.request("AddHook")
	early := hook(3, added.GetAddHook().GetHook().GetIndex(), 12, encoded(1), nil) // before the answer
	want(t, p.exchange(early)[0], shared.CodeOK, encoded(7))
	p.reply(added, nil)
	p.reply(p.request("RemoveHook"), nil)
	p.reply(p.request("Rele"), nil)
	p.reply(p.request("Unload"), nil)
	want(t, p.replies(1)[1], shared.CodeOK, encoded(9))
	want(t, p.exchange(hook(4, 0, 13, encoded(1), nil))[0], shared.CodeNotExist, nil) // it has removed itself
}

// late asks for something with a context that ends before the host answers, and returns the request.
func (p *peer) late(kind string, f func(ctx context.Context) error) *wire.ControlToHost {
	p.t.Helper()
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	failed := make(chan error, 1)
	go func() { failed <- f(ctx) }()
	m := p.request(kind)
	cancel()
	if err := testkit.Await(p.t, "the end", failed); !errors.Is(err, shared.ErrCanceled) {
		p.t.Fatalf("%v, want ErrCanceled", err)
	}
	return m
}

// settle returns when the helper has read what was sent to it.
func (p *peer) settle() {
	p.t.Helper()
	if err := p.answer(healthRequest()).GetStatus().Err(); err != nil {
		p.t.Fatal(err)
	}
}

// The host may add a hook whose author has given up waiting. It runs then, rather than fail whoever passes its point, until the host
// has taken it out again.
func TestK5_AHookThatIsAddedTooLateIsTakenOut(t *testing.T) {
	p, host := initialised(t)
	add := func(ctx context.Context) error { return AddHook(ctx, host, closing()) }
	m := p.late("AddHook", add)
	data := make([]byte, 16)
	call := hook(1, m.GetAddHook().GetHook().GetIndex(), 10, data, nil)
	if r := p.exchange(call)[0]; r.Code != shared.CodeOK {
		t.Errorf("before the answer: %+v", r)
	}
	p.reply(m, nil)
	remove := p.request("RemoveHook")
	if remove.GetRemoveHook().GetIndex() != call.Hook || remove.GetRemoveHook().GetPoint() != "tcp.close" {
		t.Errorf("%v", remove)
	}
	p.reply(remove, nil)
	p.settle()
	call.Seq = 2
	want(t, p.exchange(call)[0], shared.CodeNotExist, nil)
	// One that was refused too late is gone at once.
	m = p.late("AddHook", add)
	p.reply(m, shared.ErrInvalid)
	p.settle()
	call.Seq, call.Hook = 3, m.GetAddHook().GetHook().GetIndex()
	want(t, p.exchange(call)[0], shared.CodeNotExist, nil)
	p.late("AddHook", add) // and of one that is never answered nothing goes on when the host goes
}

func TestK5_AHookThatIsRemovedTooLateIsRemoved(t *testing.T) {
	p, host := initialised(t)
	remove := func(ctx context.Context) error { return host.RemoveHook(ctx, "tcp.est_in", nil) }
	data := make([]byte, 16)
	call := hook(1, 0, 10, data, nil)
	refused := p.late("RemoveHook", remove)
	p.reply(refused, shared.ErrBusy)
	p.settle()
	if r := p.exchange(call)[0]; r.Code != shared.CodeOK {
		t.Errorf("after a refusal: %+v", r)
	}
	p.reply(p.late("RemoveHook", remove), nil)
	p.settle()
	call.Seq = 2
	want(t, p.exchange(call)[0], shared.CodeNotExist, nil)
	if err := remove(p.ctx); !errors.Is(err, shared.ErrNotExist) {
		t.Errorf("removed again: %v, want ErrNotExist", err)
	}
	// The host has removed what it did not answer for; asked again, it does not know the hook.
	other := func(ctx context.Context) error { return host.RemoveHook(ctx, "tcp.est_out", nil) }
	p.late("RemoveHook", other)
	failed := make(chan error, 1)
	go func() { failed <- other(p.ctx) }()
	p.reply(p.request("RemoveHook"), shared.ErrNotExist)
	if err := testkit.Await(t, "the answer", failed); !errors.Is(err, shared.ErrNotExist) {
		t.Errorf("%v, want ErrNotExist", err)
	}
	if host.prog.hooks.lookup("tcp.est_out", nil) != nil {
		t.Error("the hook is still in the table")
	}
}
