package hhook

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/khelp/khelp/host/hosttest/testkit"
	"github.com/khelp/khelp/host/osd"
	"github.com/khelp/khelp/shared"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// target is a Target that is a function. What is queued runs at once.
type target func(ctx context.Context, inv *Invocation) Outcome

func (f target) Call(ctx context.Context, inv *Invocation) { inv.Out = f(ctx, inv) }

func (f target) Queue(ctx context.Context, inv *Invocation) { inv.Done(f(ctx, inv), 0) }

func pass(context.Context, *Invocation) Outcome { return Outcome{} }

func reject(context.Context, *Invocation) Outcome { return Outcome{Reject: true, Reason: "no"} }

func fail(cause shared.Cause) target {
	return func(context.Context, *Invocation) Outcome { return Failed(cause, errors.New("broken")) }
}

// trace is what hooks did, in order.
type trace struct {
	mu    sync.Mutex // protects the following field
	names []string
}

// hook returns a target that leaves its hook's name.
func (tr *trace) hook(_ context.Context, inv *Invocation) Outcome {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.names = append(tr.names, inv.Hook.Helper)
	return Outcome{}
}

func (tr *trace) take() []string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	names := tr.names
	tr.names = nil
	return names
}

func newHead(t testing.TB, opts Options) *Head {
	t.Helper()
	h, err := NewHead("test.point", "", opts, nil)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func newHook(id shared.HelperID, name string, f target) *Hook {
	return NewHook(HookConfig{Helper: name, ID: id, InProc: true, Target: f})
}

func add(t testing.TB, h *Head, hooks ...*Hook) {
	t.Helper()
	if err := h.Add(hooks...); err != nil {
		t.Fatal(err)
	}
}

func run(t testing.TB, h *Head, obj *osd.Object) Verdict {
	t.Helper()
	v, err := h.Run(context.Background(), obj, []byte("msg"))
	if err != nil {
		t.Error(err)
	}
	return v
}

// object returns an object with a slot for each helper.
func object(id uint64, helpers ...shared.HelperID) *osd.Object {
	var slots []*osd.Slot
	for _, h := range helpers {
		slots = append(slots, osd.NewSlot(h, []byte("data"), nil))
	}
	return osd.NewObject(id, "", nil, slots, nil)
}
