package helper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/khelp/khelp/host/hosttest/testkit"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

func healthRequest() *wire.ControlToHelper {
	return &wire.ControlToHelper{Body: &wire.ControlToHelper_Health{Health: &wire.HealthRequest{}}}
}

func finiRequest(force bool) *wire.ControlToHelper {
	return &wire.ControlToHelper{Body: &wire.ControlToHelper_Fini{Fini: &wire.FiniRequest{Force: force}}}
}

func autounloadRequest() *wire.ControlToHelper {
	return &wire.ControlToHelper{Body: &wire.ControlToHelper_Autounload{Autounload: &wire.AutounloadRequest{}}}
}

func statRequest() *wire.ControlToHelper {
	return &wire.ControlToHelper{Body: &wire.ControlToHelper_Stat{Stat: &wire.StatRequest{}}}
}

func TestInitGetsConfigHostAndDeadline(t *testing.T) {
	config := struct{ Smoothing int }{5}
	h := countHelper()
	h.Config = &config
	h.Init = func(ctx context.Context, host *Host) error {
		deadline, ok := ctx.Deadline()
		if !ok || time.Until(deadline) > testkit.Patience {
			return fmt.Errorf("deadline %v, %v", deadline, ok)
		}
		if config.Smoothing != 9 || host.ID() != 7 || host.Incarnation() != 2 {
			return fmt.Errorf("config %+v, id %d, incarnation %d", config, host.ID(), host.Incarnation())
		}
		return nil
	}
	p := start(t, h)
	if err := p.init(map[string]any{"smoothing": true}); !errors.Is(err, shared.ErrInvalid) || !strings.Contains(err.Error(), `property "smoothing"`) {
		t.Errorf("a bad property: %v", err)
	}
	if err := p.init(map[string]any{"smoothing": int64(9)}); err != nil {
		t.Errorf("Init: %v", err)
	}
	if err := p.init(map[string]any{"smoothing": int64(9)}); !errors.Is(err, shared.ErrExist) {
		t.Errorf("a second Init: %v, want ErrExist", err)
	}
}

func TestL9_InitAndFiniMayRefuse(t *testing.T) {
	var busy atomic.Bool
	busy.Store(true)
	var finis atomic.Int32
	h := countHelper()
	h.Init = func(context.Context, *Host) error {
		if busy.Load() {
			return shared.ErrPermission.Errorf("not today")
		}
		return nil
	}
	h.Fini = func(context.Context) error {
		finis.Add(1)
		if busy.Load() {
			return shared.ErrBusy.Errorf("a file is open")
		}
		return nil
	}
	p := start(t, h)
	if err := p.init(nil); !errors.Is(err, shared.ErrPermission) || err.Error() != "not today" {
		t.Errorf("Init: %v", err)
	}
	if err := p.answer(finiRequest(false)).GetStatus().Err(); err != nil || finis.Load() != 0 {
		t.Errorf("Fini before Init: %v, the helper's ran %d times", err, finis.Load())
	}
	busy.Store(false)
	if err := p.init(nil); err != nil {
		t.Errorf("Init: %v", err)
	}
	busy.Store(true)
	if err := p.answer(finiRequest(false)).GetStatus().Err(); !errors.Is(err, shared.ErrBusy) {
		t.Errorf("Fini: %v, want ErrBusy", err)
	}
	if err := p.answer(finiRequest(true)).GetStatus().Err(); !errors.Is(err, shared.ErrBusy) {
		t.Errorf("a forced Fini: %v, want its refusal told", err)
	}
	busy.Store(false)
	if err := p.answer(finiRequest(false)).GetStatus().Err(); err != nil || finis.Load() != 2 {
		t.Errorf("Fini after a forced one: %v, the helper's ran %d times, want 2", err, finis.Load())
	}
}

func TestL16_AutounloadVotes(t *testing.T) {
	votes := make(chan error, 1)
	h := countHelper()
	h.Autounload = func(context.Context) error { return <-votes }
	p := start(t, h)
	for _, test := range []struct {
		err    error
		vote   wire.AutounloadVote
		reason string
	}{
		{nil, wire.AutounloadVote_AUTOUNLOAD_VOTE_YES, ""},
		{NoOpinion, wire.AutounloadVote_AUTOUNLOAD_VOTE_UNSPECIFIED, ""},
		{errors.New("warm cache"), wire.AutounloadVote_AUTOUNLOAD_VOTE_NO, "warm cache"},
	} {
		votes <- test.err
		got := p.answer(autounloadRequest()).GetAutounload()
		if got.GetVote() != test.vote || got.GetReason() != test.reason {
			t.Errorf("%v: got %v", test.err, got)
		}
	}
	silent := start(t, countHelper())
	if got := silent.answer(autounloadRequest()).GetAutounload(); got.GetVote() != wire.AutounloadVote_AUTOUNLOAD_VOTE_UNSPECIFIED {
		t.Errorf("without the function: %v", got)
	}
}

func TestStatAndUnknownRequests(t *testing.T) {
	h := countHelper()
	h.Stat = func(context.Context) map[string]float64 { return map[string]float64{"cached": 3} }
	p := start(t, h)
	if diff := cmp.Diff(map[string]float64{"cached": 3}, p.answer(statRequest()).GetStat().GetValues()); diff != "" {
		t.Error(diff)
	}
	if err := p.answer(&wire.ControlToHelper{}).GetStatus().Err(); !errors.Is(err, shared.ErrUnsupported) {
		t.Errorf("an unknown request: %v, want ErrUnsupported", err)
	}
	// An answer to what was never asked is nobody's.
	if err := p.control.Send(&wire.ControlToHelper{Id: 99, Body: &wire.ControlToHelper_Answer{Answer: &wire.Answer{}}}); err != nil {
		t.Fatal(err)
	}
	if err := p.answer(healthRequest()).GetStatus().Err(); err != nil {
		t.Errorf("Health: %v", err)
	}
}

func TestHealthIsAnsweredWhileTheHelperIsBusy(t *testing.T) {
	entered, gate := make(chan struct{}, 2), make(chan struct{})
	h := Helper[struct{}]{
		Name: "busy",
		Init: func(context.Context, *Host) error { entered <- struct{}{}; <-gate; return nil },
		Hooks: Hooks[struct{}]{"a.b": func(context.Context, *Call, *struct{}) error {
			entered <- struct{}{}
			<-gate
			return nil
		}},
	}
	p := start(t, h)
	initID := p.ask(initRequest(nil))
	p.calls(wire.CallView{Seq: 1})
	testkit.Await(t, "Init", entered)
	testkit.Await(t, "the hook", entered)
	if err := p.answer(healthRequest()).GetStatus().Err(); err != nil {
		t.Errorf("Health: %v", err)
	}
	// What waits behind Init is bounded.
	for range controlQueue {
		p.ask(statRequest())
	}
	if err := p.answer(statRequest()).GetStatus().Err(); !errors.Is(err, shared.ErrOverload) {
		t.Errorf("one request too many: %v, want ErrOverload", err)
	}
	close(gate)
	for i := range uint64(controlQueue + 1) {
		m := p.recv()
		if i == 0 && m.GetId() != initID {
			t.Errorf("the first answer is to %d, want Init's", m.GetId())
		}
		if err := m.GetAnswer().GetStatus().Err(); err != nil {
			t.Errorf("answer to %d: %v", m.GetId(), err)
		}
	}
	want(t, p.replies(1)[1], shared.CodeOK, nil)
}

func TestK6_HostAnswersTheHelpersRequests(t *testing.T) {
	type outcome struct {
		id                    shared.HelperID
		get, load, hold, rele error
		bad                   error
	}
	done := make(chan outcome, 1)
	h := countHelper()
	h.Init = func(ctx context.Context, host *Host) error {
		var o outcome
		o.id, o.get = host.GetID(ctx, "ertt")
		o.load = host.Load(ctx, "vegas ~> 1.2")
		o.hold = host.Hold(ctx, "ertt")
		o.rele = host.Rele(ctx, "ertt")
		o.bad = host.Load(ctx, "Bad Name")
		done <- o
		return nil
	}
	p := start(t, h)
	p.ask(initRequest(nil))
	reply := func(id uint64, a *wire.Answer) {
		if err := p.control.Send(&wire.ControlToHelper{Id: id, Body: &wire.ControlToHelper_Answer{Answer: a}}); err != nil {
			t.Fatal(err)
		}
	}
	get := p.recv()
	if get.GetGetId_().GetName() != "ertt" {
		t.Fatalf("%v", get)
	}
	reply(get.GetId(), &wire.Answer{Status: &wire.Status{}, Result: &wire.Answer_GetId{GetId: &wire.GetIdResult{HelperId: 42}}})
	load := p.recv()
	if load.GetLoad().GetName() != "vegas" || load.GetLoad().GetConstraint() != "~> 1.2" || load.GetId() == get.GetId() {
		t.Fatalf("%v", load)
	}
	reply(load.GetId(), &wire.Answer{Status: wire.StatusOf(shared.ErrExist.Errorf("vegas is active"))})
	hold := p.recv()
	reply(hold.GetId(), &wire.Answer{Status: &wire.Status{Code: wire.Code_CODE_UNSUPPORTED}})
	rele := p.recv()
	if hold.GetHold().GetName() != "ertt" || rele.GetRele().GetName() != "ertt" {
		t.Fatalf("%v, %v", hold, rele)
	}
	reply(rele.GetId(), &wire.Answer{Status: &wire.Status{}})
	o := testkit.Await(t, "Init", done)
	if o.id != 42 || o.get != nil || !errors.Is(o.load, shared.ErrExist) || o.load.Error() != "vegas is active" ||
		!errors.Is(o.hold, shared.ErrUnsupported) || o.rele != nil || !errors.Is(o.bad, shared.ErrInvalid) {
		t.Errorf("%+v", o)
	}
	if m := p.recv(); m.GetAnswer().GetStatus().Err() != nil {
		t.Errorf("Init: %v", m)
	}
}

func TestRequestsEndWithTheirContextAndWithTheHost(t *testing.T) {
	hosts := make(chan *Host, 1)
	h := countHelper()
	h.Init = func(_ context.Context, host *Host) error { hosts <- host; return nil }
	p := start(t, h)
	if err := p.init(nil); err != nil {
		t.Fatal(err)
	}
	host := testkit.Await(t, "Init", hosts)
	ctx, cancel := context.WithTimeout(p.ctx, 10*time.Millisecond)
	defer cancel()
	if _, err := host.GetID(ctx, "ertt"); !errors.Is(err, shared.ErrTimeout) {
		t.Errorf("without an answer: %v, want ErrTimeout", err)
	}
	p.recv()
	failed := make(chan error, 1)
	go func() { failed <- host.Hold(p.ctx, "ertt") }()
	p.recv()
	if err := p.control.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := testkit.Await(t, "the end", failed); !errors.Is(err, shared.ErrClosed) {
		t.Errorf("when the host goes: %v, want ErrClosed", err)
	}
	p.wantEnd()
	if err := host.Rele(context.Background(), "ertt"); !errors.Is(err, shared.ErrClosed) {
		t.Errorf("after the host went: %v, want ErrClosed", err)
	}
}

func TestK5_HooksComeAndGoWhileTheHelperRuns(t *testing.T) {
	hosts := make(chan *Host, 1)
	h := countHelper()
	h.Init = func(_ context.Context, host *Host) error { hosts <- host; return nil }
	p := start(t, h)
	if err := p.init(nil); err != nil {
		t.Fatal(err)
	}
	host := testkit.Await(t, "Init", hosts)
	asked := func(f func() error, answer error) (*wire.ControlToHost, error) {
		t.Helper()
		result := make(chan error, 1)
		go func() { result <- f() }()
		m := p.recv()
		if err := p.control.Send(&wire.ControlToHelper{Id: m.GetId(), Body: &wire.ControlToHelper_Answer{
			Answer: &wire.Answer{Status: wire.StatusOf(answer)},
		}}); err != nil {
			t.Fatal(err)
		}
		return m, testkit.Await(t, "the answer", result)
	}
	add := func() error {
		return AddHook(p.ctx, host, HookDecl[counts]{Point: "tcp.close", Func: countOut, UData: []byte("u")})
	}
	if err := add2(p.ctx, host); !errors.Is(err, shared.ErrInvalid) {
		t.Errorf("a hook on another state: %v, want ErrInvalid", err)
	}
	refused, err := asked(add, shared.ErrNotExist)
	if !errors.Is(err, shared.ErrNotExist) {
		t.Errorf("refused: %v", err)
	}
	added, err := asked(add, nil)
	if err != nil {
		t.Fatal(err)
	}
	hookInfo := added.GetAddHook().GetHook()
	if hookInfo.GetPoint() != "tcp.close" || string(hookInfo.GetUdata()) != "u" || hookInfo.GetIndex() == refused.GetAddHook().GetHook().GetIndex() {
		t.Errorf("%v after %v", added, refused)
	}
	if err := add(); !errors.Is(err, shared.ErrExist) {
		t.Errorf("twice: %v, want ErrExist", err)
	}
	data := make([]byte, 16)
	call := hook(1, hookInfo.GetIndex(), 10, data, nil)
	if r := p.exchange(call)[0]; r.Code != shared.CodeOK || r.Data[8] != 1 {
		t.Errorf("the new hook: %+v", r)
	}
	remove := func() error { return host.RemoveHook(p.ctx, "tcp.close", []byte("u")) }
	if m, err := asked(remove, nil); err != nil || m.GetRemoveHook().GetIndex() != hookInfo.GetIndex() {
		t.Errorf("%v, %v", m, err)
	}
	call.Seq = 2
	if r := p.exchange(call)[0]; r.Code != shared.CodeOK {
		t.Errorf("a call that passed the point before: %+v", r)
	}
	call.Seq, call.Hook = 3, refused.GetAddHook().GetHook().GetIndex()
	want(t, p.exchange(call)[0], shared.CodeNotExist, nil)
	if err := remove(); !errors.Is(err, shared.ErrNotExist) {
		t.Errorf("removed twice: %v, want ErrNotExist", err)
	}
}

// add2 adds a hook that works on another type than the helper's.
func add2(ctx context.Context, host *Host) error {
	return AddHook(ctx, host, HookDecl[number]{Point: "tcp.close", Func: func(context.Context, *Call, *number) error { return nil }})
}

func TestThereIsOneControlStream(t *testing.T) {
	p := start(t, countHelper())
	if err := p.init(nil); err != nil {
		t.Fatal(err)
	}
	second, err := p.client.Control(p.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := second.Recv(); status.Code(err) != codes.AlreadyExists {
		t.Errorf("a second control stream: %v, want AlreadyExists", err)
	}
	if err := p.answer(healthRequest()).GetStatus().Err(); err != nil {
		t.Errorf("the first: %v", err)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	p := connect(t, countHelper())
	if info, err := p.client.Describe(p.ctx, &wire.DescribeRequest{}); err != nil || info.GetName() != "segs" {
		t.Errorf("%v, %v", info, err)
	}
	// The cleanup of connect cancels Run's context and wants nil.
}

func TestRunTellsOfContradictions(t *testing.T) {
	h := countHelper()
	h.Classes = nil
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := Run(t.Context(), lis, h); !errors.Is(err, shared.ErrInvalid) {
		t.Errorf("got %v, want ErrInvalid", err)
	}
	if _, err := lis.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener is not closed: %v", err)
	}
}

func TestRunDoesNotWaitForEverForAHook(t *testing.T) {
	entered, gate := make(chan struct{}), make(chan struct{})
	h := Helper[struct{}]{Name: "stuck", Hooks: Hooks[struct{}]{"a.b": func(context.Context, *Call, *struct{}) error {
		close(entered)
		<-gate
		return nil
	}}}
	p := connect(t, h)
	control, err := p.client.Control(p.ctx)
	if err != nil {
		t.Fatal(err)
	}
	p.openRun()
	p.calls(wire.CallView{Seq: 1})
	testkit.Await(t, "the hook", entered)
	if err := control.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := testkit.Await(t, "the end", p.ended); !errors.Is(err, shared.ErrBusy) {
		t.Errorf("got %v, want ErrBusy", err)
	}
	close(p.ended)
	close(gate)
}

// silence is a listener to which nobody ever connects.
type silence struct{ closed chan struct{} }

func (s silence) Accept() (net.Conn, error) { <-s.closed; return nil, net.ErrClosed }
func (s silence) Close() error              { close(s.closed); return nil }
func (s silence) Addr() net.Addr            { return &net.UnixAddr{Name: "silence", Net: "unix"} }

func TestTenSecondsWithoutAHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := countHelper()
		p, err := h.program()
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		err = newService(p).serve(t.Context(), silence{make(chan struct{})}, serving{controlLimit: controlLimit})
		if took := time.Since(began); !errors.Is(err, shared.ErrTimeout) || took != 10*time.Second {
			t.Errorf("after %v: %v, want ErrTimeout after 10s", took, err)
		}
	})
}
