package tcp_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/osd"
	"github.com/khelp/khelp/shared"
)

// testHost registers heads and makes objects, and nothing else.
type testHost struct {
	t       testing.TB
	objects osd.Table

	mu     sync.Mutex // protects the following fields
	heads  map[shared.HookPoint]*hhook.Head
	probes []*probe
	nextID uint64
	refuse error // what NewObject fails with
}

func (h *testHost) RegisterHead(point shared.HookPoint, opts hhook.Options) (*hhook.Head, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.heads[point] != nil {
		return nil, shared.ErrExist.Errorf("%s is registered already", point)
	}
	head, err := hhook.NewHead(point, "", opts, func(*hhook.Head) {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.heads, point)
	})
	if err == nil {
		h.heads[point] = head
	}
	return head, err
}

func (h *testHost) NewObject(ctx context.Context, classes ...shared.Class) (*osd.Object, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.refuse != nil {
		return nil, h.refuse
	}
	h.nextID++
	o := osd.NewObject(h.nextID, "", classes, nil, h.destroy)
	h.objects.Add(o)
	return o, nil
}

func (h *testHost) destroy(_ context.Context, o *osd.Object) error {
	h.objects.Remove(o)
	return nil
}

func (h *testHost) head(point shared.HookPoint) *hhook.Head {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.heads[point]
}

// probe is a hook in this process. It is its own target and counts its calls.
type probe struct {
	point shared.HookPoint
	head  *hhook.Head
	hook  *hhook.Hook
	base  uint64 // forwarded when it was attached
	calls atomic.Uint64
	run   func(inv hhook.Invocation) hhook.Outcome // nil: commit
}

func (p *probe) Call(_ context.Context, inv *hhook.Invocation) {
	p.calls.Add(1)
	if p.run != nil {
		inv.Out = p.run(*inv)
	}
}

func (p *probe) Queue(ctx context.Context, inv *hhook.Invocation) {
	p.Call(ctx, inv)
	inv.Done(inv.Out, 0)
}

// attach adds a hook to a point. If there is traffic already, none may be under way.
func (h *testHost) attach(point shared.HookPoint, run func(inv hhook.Invocation) hhook.Outcome) *probe {
	h.t.Helper()
	h.mu.Lock()
	p := &probe{point: point, head: h.heads[point], run: run}
	id := shared.HelperID(len(h.probes) + 1)
	h.probes = append(h.probes, p)
	h.mu.Unlock()
	p.hook = hhook.NewHook(hhook.HookConfig{Helper: fmt.Sprintf("probe%d", id), ID: id, InProc: true, Target: p})
	p.base = p.head.Options().Forwarded()
	if err := p.head.Add(p.hook); err != nil {
		h.t.Fatal(err)
	}
	return p
}

// verify checks, for a hook that stayed to the end, that what was forwarded since equals what it made of it.
func (p *probe) verify(t testing.TB) {
	t.Helper()
	got := p.hook.Stats().Read()
	handled := got.Committed + got.Skipped
	for _, n := range got.Missed {
		handled += n
	}
	if forwarded := p.head.Options().Forwarded() - p.base; forwarded != handled {
		t.Errorf("%s: forwarded %d, %s committed %d, missed %v, skipped %d", p.point, forwarded, p.hook.Helper, got.Committed,
			got.Missed, got.Skipped)
	}
}

func reject(reason string) func(hhook.Invocation) hhook.Outcome {
	return func(hhook.Invocation) hhook.Outcome { return hhook.Outcome{Reject: true, Reason: reason} }
}
