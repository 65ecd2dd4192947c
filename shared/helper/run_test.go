package helper

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/khelp/khelp/host/hosttest/testkit"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

type number struct{ N uint64 }

func encoded(n uint64) []byte { return binary.LittleEndian.AppendUint64(nil, n) }

// The hooks of arith, in the order of their points.
const (
	hookAdd    = iota // a.add: N += the number in the context
	hookFail          // b.fail: N = 99, fails with ErrOverload
	hookReject        // c.reject: N++, rejects
	hookLook          // d.look: changes nothing, tells N in a new context
)

func arith() Helper[number] {
	return Helper[number]{Name: "arith", Classes: Classes{"tcp"}, Hooks: Hooks[number]{
		"a.add": func(_ context.Context, c *Call, s *number) error {
			s.N += binary.LittleEndian.Uint64(c.Context)
			return nil
		},
		"b.fail": func(_ context.Context, _ *Call, s *number) error {
			s.N = 99
			return fmt.Errorf("on purpose: %w", shared.ErrOverload)
		},
		"c.reject": func(_ context.Context, c *Call, s *number) error {
			s.N++
			return fmt.Errorf("hook: %w", c.Reject("no %s today", c.Point))
		},
		"d.look": func(_ context.Context, c *Call, s *number) error {
			c.SetContext(fmt.Appendf(nil, "%s %d %d", c.Point, c.Object, s.N))
			return nil
		},
	}}
}

func hook(seq uint64, index uint32, object uint64, data []byte, context []byte) wire.CallView {
	return wire.CallView{Seq: seq, Hook: index, Object: object, HasData: data != nil, Data: data, Context: context, Budget: testkit.Patience}
}

func chained(c wire.CallView) wire.CallView {
	c.Chained = true
	return c
}

// want checks one reply. A nil data means that it carries none.
func want(t *testing.T, r wire.ReplyView, code shared.Code, data []byte) {
	t.Helper()
	if r.Code != code {
		t.Errorf("call %d: code %d (%s), want %d", r.Seq, r.Code, r.Message, code)
	}
	if r.HasData != (data != nil) || !bytes.Equal(r.Data, data) {
		t.Errorf("call %d: data %x (present: %v), want %x", r.Seq, r.Data, r.HasData, data)
	}
}

func TestO4_NewDataComesBackAndWhatIsUnchangedDoesNot(t *testing.T) {
	p := start(t, arith())
	r := p.exchange(
		hook(1, hookAdd, 10, encoded(5), encoded(2)),
		hook(2, hookAdd, 11, encoded(5), encoded(0)),
		hook(3, hookLook, 12, encoded(8), nil),
	)
	want(t, r[0], shared.CodeOK, encoded(7))
	want(t, r[1], shared.CodeOK, nil)
	want(t, r[2], shared.CodeOK, nil)
	if !r[2].HasContext || string(r[2].Context) != "d.look 12 8" {
		t.Errorf("new context %q", r[2].Context)
	}
	if r[0].HasContext {
		t.Error("a context that no hook has set")
	}
}

func TestO4_RejectCommitsAndFailureDoesNot(t *testing.T) {
	p := start(t, arith())
	r := p.exchange(hook(1, hookReject, 10, encoded(5), nil), hook(2, hookFail, 11, encoded(5), nil))
	want(t, r[0], shared.CodeOK, encoded(6))
	if r[0].Verdict != wire.Verdict_VERDICT_REJECT || string(r[0].Message) != "hook: no c.reject today" {
		t.Errorf("verdict %v, %q", r[0].Verdict, r[0].Message)
	}
	want(t, r[1], shared.CodeOverload, nil)
	if r[1].Verdict != wire.Verdict_VERDICT_PASS || !strings.Contains(string(r[1].Message), "on purpose") {
		t.Errorf("verdict %v, %q", r[1].Verdict, r[1].Message)
	}
	// The state of a failed call is not the next one's.
	want(t, p.exchange(hook(3, hookAdd, 11, encoded(5), encoded(1)))[0], shared.CodeOK, encoded(6))
}

func TestChainGoesOnFromWhatTheCallBeforeLeft(t *testing.T) {
	p := start(t, arith())
	r := p.exchange(
		hook(1, hookAdd, 10, encoded(1), encoded(1)),
		chained(hook(2, hookAdd, 10, nil, encoded(2))),
		chained(hook(3, hookLook, 10, nil, nil)),
		chained(hook(4, hookReject, 10, nil, nil)),
		hook(5, hookAdd, 11, encoded(100), encoded(1)),
		chained(hook(6, hookAdd, 11, nil, encoded(1))),
	)
	for i, data := range [][]byte{encoded(2), encoded(4), nil, encoded(5), encoded(101), encoded(102)} {
		want(t, r[i], shared.CodeOK, data)
	}
}

func TestChainFailsBehindAFailure(t *testing.T) {
	p := start(t, arith())
	r := p.exchange(
		hook(1, hookAdd, 10, encoded(1), encoded(1)),
		chained(hook(2, hookFail, 10, nil, nil)),
		chained(hook(3, hookAdd, 10, nil, encoded(1))),
		chained(hook(4, hookAdd, 10, nil, encoded(1))),
		hook(5, hookAdd, 10, encoded(2), encoded(1)),
	)
	want(t, r[0], shared.CodeOK, encoded(2))
	for _, failed := range r[1:4] {
		want(t, failed, shared.CodeOverload, nil)
		if !strings.Contains(string(failed.Message), "on purpose") {
			t.Errorf("call %d does not say why: %q", failed.Seq, failed.Message)
		}
	}
	want(t, r[4], shared.CodeOK, encoded(3))
}

func TestCallsThatMakeNoSenseFailAlone(t *testing.T) {
	p := start(t, arith())
	r := p.exchange(
		chained(hook(1, hookAdd, 10, nil, encoded(1))),
		hook(2, 77, 10, encoded(1), nil),
		hook(3, hookAdd, 10, nil, encoded(1)),
		hook(4, hookAdd, 10, []byte("short"), encoded(1)),
		wire.CallView{Seq: 5, Kind: wire.CallKind_CALL_KIND_NEW, Object: 10},
		wire.CallView{Seq: 6, Kind: 9, Object: 10},
		hook(7, hookAdd, 10, encoded(1), encoded(1)),
		chained(hook(8, hookAdd, 11, nil, encoded(1))),
	)
	for i, code := range []shared.Code{
		shared.CodeInvalid, shared.CodeNotExist, shared.CodeInvalid, shared.CodeInvalid, shared.CodeUnsupported, shared.CodeUnsupported,
	} {
		want(t, r[i], code, nil)
	}
	want(t, r[6], shared.CodeOK, encoded(2))
	want(t, r[7], shared.CodeInvalid, nil)
}

func TestO2_NewAndFreeRunInOrderWithTheHooks(t *testing.T) {
	freed := make(chan number, 1)
	h := arith()
	h.New = func(_ context.Context, c *Call, s *number) error {
		if c.Object == 13 {
			return shared.ErrPermission.Errorf("unlucky")
		}
		s.N = c.Object
		return nil
	}
	h.Free = func(_ context.Context, _ *Call, s *number) { freed <- *s }
	p := start(t, h)
	r := p.exchange(
		wire.CallView{Seq: 1, Kind: wire.CallKind_CALL_KIND_NEW, Object: 10},
		chained(hook(2, hookAdd, 10, nil, encoded(1))),
		wire.CallView{Seq: 3, Kind: wire.CallKind_CALL_KIND_FREE, Object: 10, HasData: true, Data: encoded(11)},
		wire.CallView{Seq: 4, Kind: wire.CallKind_CALL_KIND_NEW, Object: 13},
		wire.CallView{Seq: 5, Kind: wire.CallKind_CALL_KIND_NEW, Object: 0},
	)
	want(t, r[0], shared.CodeOK, encoded(10))
	want(t, r[1], shared.CodeOK, encoded(11))
	want(t, r[2], shared.CodeOK, nil)
	want(t, r[3], shared.CodePermission, nil)
	want(t, r[4], shared.CodeOK, encoded(0)) // not what another object left
	if got := testkit.Await(t, "Free", freed); got.N != 11 {
		t.Errorf("Free saw %d, want 11", got.N)
	}
}

func TestO7_DataBeyondTheLimitFailsItsCall(t *testing.T) {
	h := Helper[words]{Name: "words", Classes: Classes{"tcp"}, MaxBytes: 8, Hooks: Hooks[words]{
		"a.set": func(_ context.Context, c *Call, s *words) error {
			s.list = strings.Fields(string(c.Context))
			return nil
		},
		"b.context": func(_ context.Context, c *Call, _ *words) error {
			c.SetContext(make([]byte, shared.MaxContext+1))
			return nil
		},
	}}
	p := start(t, h)
	r := p.exchange(
		hook(1, 0, 10, []byte(""), []byte("eight  by")),
		hook(2, 0, 10, []byte("old"), []byte("nine bytes")),
		hook(3, 1, 10, []byte("old"), nil),
		hook(4, 0, 10, []byte("old"), nil),
	)
	want(t, r[0], shared.CodeOK, []byte("eight by"))
	want(t, r[1], shared.CodeTooLarge, nil)
	want(t, r[2], shared.CodeTooLarge, nil)
	want(t, r[3], shared.CodeOK, []byte{}) // empty is a value
	if !r[3].HasData {
		t.Error("data that became empty is not among what changed")
	}
}

func TestUndecodableFrameEndsTheStreamAndRunsNothing(t *testing.T) {
	var ran atomic.Int32
	h := Helper[struct{}]{Name: "ran", Hooks: Hooks[struct{}]{"a.b": func(context.Context, *Call, *struct{}) error {
		ran.Add(1)
		return nil
	}}}
	p := start(t, h)
	good := wire.AppendCall(nil, &wire.CallView{Seq: 1})
	if err := p.run.SendMsg(&wire.RawFrame{Buf: append(good, "garbage"...)}); err != nil {
		t.Fatal(err)
	}
	var frame wire.RawFrame
	if err := p.run.RecvMsg(&frame); status.Code(err) != codes.InvalidArgument {
		t.Errorf("the stream ended with %v, want InvalidArgument", err)
	}
	// The helper itself goes on, and so does a new stream.
	p.openRun()
	want(t, p.exchange(wire.CallView{Seq: 2})[0], shared.CodeOK, nil)
	if n := ran.Load(); n != 1 {
		t.Errorf("%d hooks ran, want 1", n)
	}
}

func TestHalfClosedStreamGetsItsReplies(t *testing.T) {
	p := start(t, arith())
	p.calls(hook(1, hookAdd, 10, encoded(1), encoded(1)))
	if err := p.run.CloseSend(); err != nil {
		t.Fatal(err)
	}
	want(t, p.replies(1)[1], shared.CodeOK, encoded(2))
}

func TestHookSeesTheCallsDeadline(t *testing.T) {
	type seen struct {
		left   time.Duration
		has    bool
		err    error
		done   error
		nested error
	}
	got := make(chan seen, 1)
	h := Helper[struct{}]{Name: "deadline", Hooks: Hooks[struct{}]{"a.b": func(ctx context.Context, c *Call, _ *struct{}) error {
		var s seen
		deadline, has := ctx.Deadline()
		s.left, s.has, s.err = time.Until(deadline), has, ctx.Err()
		if len(c.Context) > 0 {
			child, cancel := context.WithCancel(ctx)
			defer cancel()
			<-child.Done()
			s.done, s.nested = ctx.Err(), child.Err()
		}
		got <- s
		return ctx.Err()
	}}}
	p := start(t, h)
	want(t, p.exchange(wire.CallView{Seq: 1, Budget: time.Minute})[0], shared.CodeOK, nil)
	if s := testkit.Await(t, "the hook", got); !s.has || s.left > time.Minute || s.left < 30*time.Second || s.err != nil {
		t.Errorf("with a minute: %+v", s)
	}
	want(t, p.exchange(wire.CallView{Seq: 2})[0], shared.CodeOK, nil)
	// Without a budget there is the deadline of the stream, which is the test's own.
	if s := testkit.Await(t, "the hook", got); s.left > testkit.Patience || s.err != nil {
		t.Errorf("without a budget: %+v", s)
	}
	want(t, p.exchange(wire.CallView{Seq: 3, Budget: 20 * time.Millisecond, Context: []byte("wait")})[0], shared.CodeTimeout, nil)
	if s := testkit.Await(t, "the hook", got); !errors.Is(s.done, context.DeadlineExceeded) || !errors.Is(s.nested, context.DeadlineExceeded) {
		t.Errorf("after 20ms: %+v", s)
	}
	// A context that was waited on is not the next call's.
	want(t, p.exchange(wire.CallView{Seq: 4, Budget: time.Minute})[0], shared.CodeOK, nil)
	if s := testkit.Await(t, "the hook", got); s.err != nil {
		t.Errorf("the call after it: %+v", s)
	}
}

func TestWorkersKeepEachObjectInOrder(t *testing.T) {
	h := arith()
	h.Workers = 4
	p := start(t, h)
	const objects, rounds = 32, 20
	var calls []wire.CallView
	for object := range uint64(objects) {
		for i := range uint64(rounds) {
			c := hook(object*rounds+i, hookAdd, object, encoded(0), encoded(1))
			if i > 0 {
				c = chained(hook(object*rounds+i, hookAdd, object, nil, encoded(1)))
			}
			calls = append(calls, c)
		}
	}
	for i, r := range p.exchange(calls...) {
		want(t, r, shared.CodeOK, encoded(uint64(i%rounds)+1))
	}
}

func TestLargeCallsCross(t *testing.T) {
	h := Helper[words]{Name: "large", Classes: Classes{"tcp"}, Hooks: Hooks[words]{
		"a.swap": func(_ context.Context, c *Call, s *words) error {
			c.SetContext([]byte(strings.Repeat("c", shared.MaxContext)))
			s.list = []string{strings.Repeat("d", shared.MaxSlot)}
			if len(c.Context) != shared.MaxContext {
				return fmt.Errorf("a context of %d bytes", len(c.Context))
			}
			return nil
		},
	}}
	p := start(t, h)
	var calls []wire.CallView
	for i := range uint64(3) {
		calls = append(calls, hook(i, 0, i+1, make([]byte, 0), make([]byte, shared.MaxContext)))
	}
	for _, r := range p.exchange(calls...) {
		if r.Code != shared.CodeOK || len(r.Data) != shared.MaxSlot || len(r.Context) != shared.MaxContext {
			t.Errorf("call %d: code %d (%s), %d bytes of data, %d of context", r.Seq, r.Code, r.Message, len(r.Data), len(r.Context))
		}
	}
	// One byte more than a frame may hold ends the stream, not the helper.
	if err := p.run.SendMsg(&wire.RawFrame{Buf: make([]byte, wire.MaxFrame+1)}); err != nil {
		t.Fatal(err)
	}
	if err := p.run.RecvMsg(&wire.RawFrame{}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a frame beyond the limit: %v, want ResourceExhausted", err)
	}
	if err := p.init(nil); err != nil {
		t.Errorf("Init after it: %v", err)
	}
}
