package host

import (
	"context"
	"time"
	"unicode/utf8"

	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/internal/lane"
	"github.com/khelp/khelp/host/osd"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// remote is a hook in another process.
type remote struct {
	helper  *helper
	hook    shared.HookInfo
	born    *instance // whose index the hook's is
	mutable bool
}

// indexIn returns the number that a process has for the hook's function: another one's may differ, if its program is another. It reports
// false if there is no such function any more.
func (t *remote) indexIn(in *instance) (uint32, bool) {
	if t.born == in || t.born == nil {
		return t.hook.Index, true
	}
	t.helper.host.mu.Lock()
	defer t.helper.host.mu.Unlock()
	for _, info := range in.hooks {
		if info.Point == t.hook.Point && string(info.UData) == string(t.hook.UData) {
			return info.Index, true
		}
	}
	return 0, false
}

// chain is calls of one object on their way: the lane's handler for them.
type chain struct {
	helper *helper
	inst   *instance // the incarnation it has been sent to
	slot   *osd.Slot // nil: the call has no object
	calls  []queued
	buf    []byte
	wire   []lane.Call
	sent   time.Time
	cause  shared.Cause // why a call did not commit: those behind it do not either
	err    error

	sync bool // a caller waits on done for out
	out  hhook.Outcome
	done chan struct{}
}

// freshChain is for Host.chains: a pool of each host's own, for channels belong to where they were made when a test sets the clock.
func freshChain() any { return &chain{done: make(chan struct{}, 1)} }

func newChain(hp *helper, slot *osd.Slot) *chain {
	c := hp.host.chains.Get().(*chain)
	c.helper, c.slot = hp, slot
	return c
}

// recycle gives a chain back that nobody refers to any more.
func (c *chain) recycle() {
	pool := &c.helper.host.chains
	clear(c.calls)
	c.calls, c.buf = c.calls[:0], c.buf[:0]
	c.helper, c.inst, c.slot, c.cause, c.err, c.sync, c.out = nil, nil, nil, shared.CauseNone, nil, false, hhook.Outcome{}
	if cap(c.buf) > keepBytes {
		c.buf = nil
	}
	pool.Put(c)
}

// Call runs the hook in the helper and waits for it.
func (t *remote) Call(ctx context.Context, inv *hhook.Invocation) {
	inv.Out = t.call(ctx, inv, wire.CallKind_CALL_KIND_HOOK, inv.Hook.Timeout)
}

func (t *remote) call(ctx context.Context, inv *hhook.Invocation, kind wire.CallKind, timeout time.Duration) hhook.Outcome {
	p, out := t.enter(ctx, inv)
	if out.Cause != shared.CauseNone {
		return out
	}
	slot := t.slot(inv)
	if slot != nil && !serialOf(slot).lock(ctx, inv.Deadline) {
		p.leave()
		return hhook.Failed(shared.CauseTimeout, shared.ErrTimeout.Errorf("calls of %s queued for the object did not end in time", t.helper.name))
	}
	c := newChain(t.helper, slot)
	c.sync = true
	q := queued{inv: *inv, kind: kind, place: p, target: t}
	q.timeout = min(timeout, time.Until(inv.Deadline))
	q.inv.Context = nil
	c.calls = append(c.calls, q)
	ticket := lane.Ticket{}
	if q.timeout > 0 {
		ticket = c.send(inv.Context)
	} else {
		c.Fail(0, shared.CauseTimeout, shared.ErrTimeout.Errorf("the head's budget was used up before %s was called", t.helper.name))
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		if c.inst != nil && c.inst.lane.Abandon(ticket) {
			c.Fail(0, shared.CauseTimeout, shared.ErrTimeout.Errorf("the caller gave up: %w", ctx.Err()))
		}
		<-c.done // the handler is being told, or has been
	}
	out = c.out
	c.recycle()
	return out
}

// enter checks whether the helper can be called, and takes a place in its room.
func (t *remote) enter(ctx context.Context, inv *hhook.Invocation) (place, hhook.Outcome) {
	if _, out := t.helper.alive(); out.Cause != shared.CauseNone {
		return place{}, out
	}
	if n := len(inv.Context); n > shared.MaxContext {
		return place{}, hhook.Failed(shared.CauseTooLarge, shared.ErrTooLarge.Errorf("a context of %d bytes, the limit is %d", n, shared.MaxContext))
	}
	return t.helper.take(ctx, inv.Context, inv.Deadline)
}

// slot returns the slot that keeps the helper's calls on the object in order, or nil for a call without an object.
func (t *remote) slot(inv *hhook.Invocation) *osd.Slot {
	switch {
	case inv.Slot != nil:
		return inv.Slot
	case inv.Object == nil:
		return nil
	default:
		return inv.Object.OrderSlot(t.helper.id, t.newOrderSlot)
	}
}

func (t *remote) newOrderSlot() *osd.Slot { return osd.NewOrderSlot(t.helper.id, &serial{}) }

// Queue has the hook run in the helper some time.
func (t *remote) Queue(ctx context.Context, inv *hhook.Invocation) {
	p, out := t.enter(ctx, inv)
	if out.Cause != shared.CauseNone {
		inv.Done(out, 0)
		return
	}
	msg := inv.Context
	q := queued{inv: *inv, timeout: inv.Hook.Timeout, place: p, target: t}
	q.inv.Context = nil
	slot := t.slot(inv)
	if slot != nil && !serialOf(slot).put(q, msg) {
		return
	}
	c := newChain(t.helper, slot)
	c.calls = append(c.calls, q)
	c.send(msg)
}

// send submits a chain whose first call's context is msg.
func (c *chain) send(msg []byte) lane.Ticket {
	c.buf = append(c.buf[:0], msg...)
	c.calls[0].off, c.calls[0].len = 0, len(msg)
	return c.submit()
}

// submit sends the chain to the helper's present incarnation, or fails it if there is none.
func (c *chain) submit() lane.Ticket {
	in, failed := c.helper.lease()
	if failed.Cause != shared.CauseNone {
		c.Fail(0, failed.Cause, failed.Err)
		return lane.Ticket{}
	}
	ticket, err := c.submitTo(in)
	in.sending.RUnlock()
	if err != nil {
		c.Fail(0, shared.CauseNotLoaded, err)
	}
	return ticket
}

// submitTo sends the chain to an incarnation that is leased. The error is that it has a call for which there is no function there; then
// nothing is sent.
func (c *chain) submitTo(in *instance) (lane.Ticket, error) {
	calls, err := c.laneCalls(in)
	if err != nil {
		return lane.Ticket{}, err
	}
	c.inst = in
	out := lane.Chain{Calls: calls, Handler: c}
	if obj := c.calls[0].inv.Object; obj != nil {
		out.Object = obj.ID()
	}
	if c.slot != nil && c.slot.KeepsData() {
		out.Data = c.slot.Lent()
		// A slot that New is to fill and that had no template has no data yet, which is not the same as empty data.
		out.HasData = len(out.Data) > 0 || c.calls[0].kind != wire.CallKind_CALL_KIND_NEW
	}
	c.sent = time.Now()
	return in.lane.Submit(&out), nil
}

// Reply ends call i.
func (c *chain) Reply(i int, r *wire.ReplyView) {
	q := &c.calls[i]
	out := hhook.Failed(c.cause, c.err)
	if c.cause == shared.CauseNone {
		out = q.target.accept(c.slot, q.kind, r)
		c.cause, c.err = out.Cause, out.Err
	}
	c.end(q, out)
	if i == len(c.calls)-1 {
		c.finish()
	}
}

// Fail ends call i and those behind it.
func (c *chain) Fail(i int, cause shared.Cause, err error) {
	for ; i < len(c.calls); i++ {
		c.end(&c.calls[i], hhook.Failed(cause, err))
	}
	c.finish()
}

func (c *chain) end(q *queued, out hhook.Outcome) {
	q.place.leave()
	if c.sync {
		c.out = out
		return
	}
	q.inv.Done(out, time.Since(c.sent))
}

// finish passes the object's turn on and wakes who waits.
func (c *chain) finish() {
	slot := c.slot
	if c.sync {
		if slot != nil {
			advance(c.helper, slot)
		}
		c.done <- struct{}{}
		return
	}
	if slot == nil || !serialOf(slot).next(c) {
		c.recycle()
		return
	}
	c.resend()
}

// resend sends the chain again with the calls that have been moved into it.
func (c *chain) resend() {
	c.cause, c.err = shared.CauseNone, nil
	c.submit()
}

// advance passes an object's turn on.
func advance(hp *helper, slot *osd.Slot) {
	c := newChain(hp, slot)
	if serialOf(slot).next(c) {
		c.resend()
		return
	}
	c.recycle()
}

// accept turns a reply into an outcome, and commits its data.
func (t *remote) accept(slot *osd.Slot, kind wire.CallKind, r *wire.ReplyView) hhook.Outcome {
	keeps := slot != nil && slot.KeepsData()
	switch {
	case r.Code != shared.CodeOK:
		return hhook.Failed(causeOf(r.Code), shared.FromCode(r.Code, cut(r.Message)))
	case r.Verdict != wire.Verdict_VERDICT_PASS && r.Verdict != wire.Verdict_VERDICT_REJECT:
		return hhook.Failed(shared.CauseBadReply, shared.ErrBadReply.Errorf("verdict %d is unknown", r.Verdict))
	case r.HasData && !keeps:
		return hhook.Failed(shared.CauseBadReply, shared.ErrBadReply.Errorf("data in the reply, but %s keeps none on the object", t.helper.name))
	case r.HasContext && !t.mutable:
		return hhook.Failed(shared.CauseBadReply, shared.ErrBadReply.Errorf("a new context in the reply, but the hook point is not mutable"))
	case r.HasContext && len(r.Context) > shared.MaxContext:
		return hhook.Failed(shared.CauseBadReply, shared.ErrTooLarge.Errorf("a new context of %d bytes, the limit is %d", len(r.Context), shared.MaxContext))
	case kind == wire.CallKind_CALL_KIND_NEW && !r.HasData && !t.helper.face.Load().info.OSD.HasTemplate:
		return hhook.Failed(shared.CauseBadReply, shared.ErrBadReply.Errorf("New made no data"))
	}
	out := hhook.Outcome{}
	if r.Verdict == wire.Verdict_VERDICT_REJECT {
		out.Reject, out.Reason = true, cut(r.Message)
	}
	if r.HasContext {
		out.Context = append([]byte{}, r.Context...)
	}
	if r.HasData {
		t.helper.commit(slot, r.Data, &out)
	}
	return out
}

// cut returns a message as text that is fit to be shown, and no more of it than anybody reads.
func cut(msg []byte) string {
	// What is dropped here Printable would drop too, but for these few bytes, by which it sees that there was more.
	return shared.Printable(string(msg[:min(len(msg), shared.MaxText+utf8.UTFMax)]), shared.MaxText)
}

// causeOf returns the cause of a failure that the helper reports itself: its time was over before it came to the call, it has too many
// calls, or else the answer is no good.
func causeOf(code shared.Code) shared.Cause {
	switch code {
	case shared.CodeTimeout:
		return shared.CauseTimeout
	case shared.CodeOverload:
		return shared.CauseOverload
	default:
		return shared.CauseBadReply
	}
}
