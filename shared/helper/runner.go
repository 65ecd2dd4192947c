package helper

import (
	"bytes"
	"context"
	"time"
	"unsafe"

	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// maxBudget keeps deadlines from overflowing; it is some 70 years.
const maxBudget = time.Duration(1) << 61

// runner runs calls one after another on one S, and keeps what a call leaves to those chained to it. It belongs to one goroutine at a
// time and allocates nothing per call.
type runner struct {
	prog  *program
	ctx   *callContext
	call  Call
	state unsafe.Pointer // *S; nil if the helper keeps nothing
	clock time.Duration  // the last time that was read, since epoch

	left    []byte // the encoding of *state as the last call left it
	scratch []byte
	reply   wire.ReplyView

	chain chain
}

// chain is what the call before leaves to one that goes on from it.
type chain struct {
	open   bool // there was a call before in this frame
	object uint64
	code   shared.Code // not CodeOK: it failed, and so do those behind it
	cause  string
}

func newRunner(ctx context.Context, prog *program) *runner {
	r := &runner{prog: prog, ctx: &callContext{parent: ctx}}
	if prog.codec != nil {
		r.state = prog.state.alloc()
	}
	return r
}

// run runs one call of a frame that arrived at the given time. Its reply is good until the next call.
func (r *runner) run(v *wire.CallView, arrived time.Duration) *wire.ReplyView {
	r.reply = wire.ReplyView{Seq: v.Seq}
	from := arrived
	if v.Chained {
		from = r.clock
	} else {
		r.chain = chain{open: true, object: v.Object}
	}
	deadline := time.Duration(0)
	if v.Budget > 0 {
		deadline = from + min(v.Budget, maxBudget)
	}
	switch {
	case v.Chained && (!r.chain.open || r.chain.object != v.Object):
		r.fail(shared.CodeInvalid, "the call is chained, but the frame has no call of the same object before it")
	case v.Chained && r.chain.code != shared.CodeOK:
		r.fail(r.chain.code, "an earlier call of the chain failed: "+r.chain.cause)
	case deadline != 0 && r.clock > deadline && v.Kind != wire.CallKind_CALL_KIND_FREE:
		r.fail(shared.CodeTimeout, "the time for the call was over before its turn came")
	default:
		r.dispatch(v, deadline)
	}
	r.clock = now()
	return &r.reply
}

// fail makes the call a failed one, which commits nothing, and the rest of its chain with it.
func (r *runner) fail(code shared.Code, text string) {
	r.chain.code, r.chain.cause = code, text
	r.reply = wire.ReplyView{Seq: r.reply.Seq, Code: code, Message: []byte(clip(text))}
}

// dispatch finds the function and runs it.
func (r *runner) dispatch(v *wire.CallView, deadline time.Duration) {
	r.call = Call{Object: v.Object, Context: v.Context}
	var fn hookFunc
	switch v.Kind {
	case wire.CallKind_CALL_KIND_HOOK:
		e := r.prog.hooks.find(v.Hook)
		if e == nil {
			r.fail(shared.CodeNotExist, "the helper has no hook of this index")
			return
		}
		fn, r.call.Point, r.call.UData = e.fn, e.info.Point, e.info.UData
	case wire.CallKind_CALL_KIND_NEW:
		fn = r.prog.new
	case wire.CallKind_CALL_KIND_FREE:
		fn = r.prog.free
	}
	if fn == nil {
		r.fail(shared.CodeUnsupported, "the helper has no function for this kind of call")
		return
	}
	if !r.load(v) {
		return
	}
	r.ctx.deadline = deadline
	err := fn(r.ctx, &r.call, r.state)
	if !r.ctx.end() {
		r.ctx = &callContext{parent: r.ctx.parent}
	}
	r.finish(v, err)
}

// load makes *state what the call starts from. A chained call finds it there.
func (r *runner) load(v *wire.CallView) bool {
	switch {
	case r.prog.codec == nil || v.Chained:
		return true
	case v.HasData:
		if err := r.prog.codec.load(r.state, v.Data); err != nil {
			r.fail(codeOf(err), err.Error())
			return false
		}
		return true
	case v.Kind == wire.CallKind_CALL_KIND_HOOK:
		r.fail(shared.CodeInvalid, "the call carries no data, but the helper keeps state on objects")
		return false
	default:
		r.prog.state.zero(r.state)
		return true
	}
}

// finish turns the outcome of a function into the reply.
func (r *runner) finish(v *wire.CallView, err error) {
	verdict, code, text := verdictOf(err)
	switch {
	case code != shared.CodeOK:
		r.fail(code, text)
		return
	case len(r.call.newContext) > shared.MaxContext:
		r.fail(shared.CodeTooLarge, "the new context is beyond the limit")
		return
	}
	r.reply.Verdict = verdict
	if text != "" {
		r.reply.Message = []byte(text)
	}
	r.reply.HasContext, r.reply.Context = r.call.hasNewContext, r.call.newContext
	if r.prog.codec == nil || v.Kind == wire.CallKind_CALL_KIND_FREE {
		return
	}
	before, known := v.Data, v.HasData
	if v.Chained {
		before, known = r.left, true
	}
	after, err := r.prog.codec.append(r.scratch[:0], r.state)
	r.scratch = after
	switch {
	case err != nil:
		r.fail(codeOf(err), "the object's new data cannot be encoded: "+err.Error())
		return
	case len(after) > r.prog.limit:
		r.fail(shared.CodeTooLarge, tooLargeText)
		return
	}
	if isNew := v.Kind == wire.CallKind_CALL_KIND_NEW; isNew || !known || !bytes.Equal(before, after) {
		r.reply.HasData, r.reply.Data = true, after
	}
	r.left, r.scratch = after, r.left
}

const tooLargeText = "the object's new data is beyond the helper's limit"
