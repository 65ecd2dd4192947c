package helper

import (
	"context"
	"sync"
	"testing"

	"github.com/khelp/khelp/host/hosttest/testkit"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// napper has two hooks: a.nap, which may sleep and waits for the gate of its object, and b.quick, which does not.
type napper struct {
	mu    sync.Mutex
	gates map[uint64]chan struct{} // guarded by mu
	began chan uint64
}

func (n *napper) gate(object uint64) chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.gates[object] == nil {
		n.gates[object] = make(chan struct{})
	}
	return n.gates[object]
}

func newNapper() (*napper, Helper[number]) {
	n := &napper{gates: map[uint64]chan struct{}{}, began: make(chan uint64, shared.DefaultInflight+1)}
	return n, Helper[number]{
		Name: "napper", Classes: Classes{"tcp"}, MaySleep: []shared.HookPoint{"a.nap"},
		Hooks: Hooks[number]{
			"a.nap": func(ctx context.Context, c *Call, s *number) error {
				n.began <- c.Object
				select {
				case <-n.gate(c.Object):
				case <-ctx.Done():
					return ctx.Err()
				}
				s.N *= 10
				return nil
			},
			"b.quick": func(_ context.Context, _ *Call, s *number) error { s.N++; return nil },
		},
	}
}

func TestMaySleepDoesNotHoldUpOthers(t *testing.T) {
	n, h := newNapper()
	p := start(t, h)
	p.calls(hook(1, 0, 10, encoded(1), nil), hook(2, 1, 11, encoded(1), nil), hook(3, 0, 12, encoded(2), nil))
	want(t, p.replies(1)[2], shared.CodeOK, encoded(2))
	if a, b := testkit.Await(t, "a nap", n.began), testkit.Await(t, "another nap", n.began); a+b != 22 {
		t.Errorf("objects %d and %d nap, want 10 and 12", a, b)
	}
	close(n.gate(12))
	want(t, p.replies(1)[3], shared.CodeOK, encoded(20))
	close(n.gate(10))
	want(t, p.replies(1)[1], shared.CodeOK, encoded(10))
}

func TestO5_CallsOfAnObjectWaitForItsSleeper(t *testing.T) {
	n, h := newNapper()
	p := start(t, h)
	p.calls(
		hook(1, 1, 10, encoded(1), nil),            // 2, inline
		chained(hook(2, 0, 10, nil, nil)),          // 20, naps, from where the inline call left off
		chained(hook(3, 1, 10, nil, nil)),          // 21
		hook(4, 1, 10, encoded(50), nil),           // 51, must wait for the nap
		chained(hook(5, 0, 10, nil, nil)),          // 510
		hook(6, 1, 11, encoded(7), nil),            // another object
		wire.CallView{Seq: 7, Kind: 1, Object: 10}, // New, which the helper does not have: in order all the same
	)
	testkit.Await(t, "the nap", n.began)
	first := p.replies(2)
	want(t, first[1], shared.CodeOK, encoded(2))
	want(t, first[6], shared.CodeOK, encoded(8))
	close(n.gate(10))
	rest := p.replies(5)
	want(t, rest[2], shared.CodeOK, encoded(20))
	want(t, rest[3], shared.CodeOK, encoded(21))
	want(t, rest[4], shared.CodeOK, encoded(51))
	want(t, rest[5], shared.CodeOK, encoded(510))
	want(t, rest[7], shared.CodeUnsupported, nil)
}

func TestSleepersAreBounded(t *testing.T) {
	n, h := newNapper()
	p := start(t, h)
	const over = 5
	calls := make([]wire.CallView, shared.DefaultInflight+over)
	for i := range calls {
		calls[i] = hook(uint64(i+1), 0, uint64(i+1), encoded(1), nil)
	}
	p.calls(calls...)
	for seq, r := range p.replies(over) {
		want(t, r, shared.CodeOverload, nil)
		if seq <= shared.DefaultInflight {
			t.Errorf("call %d was refused, before there were too many", seq)
		}
	}
	for i := range uint64(shared.DefaultInflight) {
		close(n.gate(i + 1))
	}
	for _, r := range p.replies(shared.DefaultInflight) {
		want(t, r, shared.CodeOK, encoded(10))
	}
}

func TestEndOfTheStreamWakesSleepers(t *testing.T) {
	n, h := newNapper()
	p := start(t, h)
	p.calls(hook(1, 0, 10, encoded(1), nil))
	testkit.Await(t, "the nap", n.began)
	// The cleanup of start closes the control stream: the hook's context must end, or Run reports that it does not return.
}

func TestFinishedCallsDoNotWaitForASlowOne(t *testing.T) {
	entered, gate := make(chan struct{}), make(chan struct{})
	h := arith()
	h.Hooks["e.slow"] = func(context.Context, *Call, *number) error {
		close(entered)
		<-gate
		return nil
	}
	p := start(t, h)
	p.calls(hook(1, hookAdd, 10, encoded(1), encoded(1)), hook(2, 4, 11, encoded(1), nil), hook(3, hookAdd, 12, encoded(1), encoded(2)))
	testkit.Await(t, "the slow call", entered)
	want(t, p.replies(1)[1], shared.CodeOK, encoded(2))
	close(gate)
	rest := p.replies(2)
	want(t, rest[2], shared.CodeOK, nil)
	want(t, rest[3], shared.CodeOK, encoded(3))
	// The worker goes on as before.
	want(t, p.exchange(hook(4, hookAdd, 10, encoded(1), encoded(1)))[0], shared.CodeOK, encoded(2))
}
