package helper

import (
	"bytes"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// sleepers are the goroutines that run hooks which wait for things: one for each object, and one for each call without an object.
type sleepers struct {
	// held counts the naps that are queued or under way; it changes with mu held. An object's calls all pass one worker, so a worker
	// that reads 0 knows that none of its objects has a sleeper.
	held atomic.Int64
	// mu protects the following fields, and what is in them.
	mu       sync.Mutex
	byObject map[uint64]*sleeper
}

// sleeper is the queue of one object.
type sleeper struct{ queue []nap }

// nap is a call that may sleep, with those chained to it.
type nap struct {
	calls   []wire.CallView // with bytes of their own
	arrived time.Duration
	runner  *runner // what the calls before left, if the first call is chained
}

// sleeps says whether a call must leave the worker: its hook may sleep, or a call of its object does.
func (x *executor) sleeps(v *wire.CallView) bool {
	if v.Kind == wire.CallKind_CALL_KIND_HOOK {
		if e := x.prog.hooks.find(v.Hook); e != nil && e.info.MaySleep {
			return true
		}
	}
	if v.Object == 0 || x.sleepers.held.Load() == 0 {
		return false
	}
	x.sleepers.mu.Lock()
	defer x.sleepers.mu.Unlock()
	return x.sleepers.byObject[v.Object] != nil
}

// leave hands a call, with those chained to it, over to a sleeper. If it goes on from calls that the worker has run, the runner goes
// with it. Beyond the bound the calls fail with CodeOverload.
func (w *worker) leave(calls []wire.CallView, arrived time.Duration) {
	object := calls[0].Object
	s := &w.x.sleepers
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held.Load() >= shared.DefaultInflight {
		w.refuse(calls)
		return
	}
	s.held.Add(1)
	n := nap{calls: cloneCalls(calls), arrived: arrived}
	if calls[0].Chained {
		n.runner = w.runner
		w.runner = newRunner(w.x.ctx, w.x.prog)
		w.runner.clock = n.runner.clock
	}
	if running := s.byObject[object]; running != nil {
		running.queue = append(running.queue, n)
		return
	}
	sl := &sleeper{}
	if object != 0 {
		s.byObject[object] = sl
	}
	w.x.wg.Go(func() { w.x.nap(object, sl, n) })
}

// cloneCalls makes calls independent of the frame they stand in.
func cloneCalls(calls []wire.CallView) []wire.CallView {
	calls = slices.Clone(calls)
	for i := range calls {
		v := &calls[i]
		v.Data, v.Context, v.PeerData = bytes.Clone(v.Data), bytes.Clone(v.Context), bytes.Clone(v.PeerData)
	}
	return calls
}

// refuse answers calls for which there is no room.
func (w *worker) refuse(calls []wire.CallView) {
	for i := range calls {
		w.answer(&wire.ReplyView{
			Seq: calls[i].Seq, Code: shared.CodeOverload, Message: []byte("too many calls of hooks that may sleep are under way"),
		})
	}
}

// nap runs what is queued for an object, until nothing is.
func (x *executor) nap(object uint64, sl *sleeper, n nap) {
	var own *runner
	for {
		r := n.runner
		if r == nil {
			if own == nil {
				own = newRunner(x.ctx, x.prog)
			}
			r = own
			r.chain = chain{}
		}
		x.runNap(r, &n)
		s := &x.sleepers
		s.mu.Lock()
		s.held.Add(-1)
		if len(sl.queue) == 0 {
			delete(s.byObject, object)
			s.mu.Unlock()
			return
		}
		n = sl.queue[0]
		sl.queue = sl.queue[1:]
		s.mu.Unlock()
	}
}

func (x *executor) runNap(r *runner, n *nap) {
	r.clock = now()
	out := newFrame()
	for i := 0; i < len(n.calls) && x.ctx.Err() == nil; i++ {
		out.Buf = wire.AppendReply(out.Buf, r.run(&n.calls[i], n.arrived))
		if len(out.Buf) > flushBytes {
			x.lane.send(out)
			out = newFrame()
		}
	}
	x.lane.send(out)
}
