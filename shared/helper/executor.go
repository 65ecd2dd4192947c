package helper

import (
	"bytes"
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// Bounds of an executor.
const (
	maxWorkers = 64
	queueDepth = 4                // frames that wait for one worker; behind them the host is made to wait
	flushBytes = 256 << 10        // replies are sent when they are this many bytes,
	flushAfter = time.Millisecond // or the first of them is this old, or no call waits
)

// lane takes replies back to the host. It is safe for concurrent use and owns the frame from then on.
type lane interface {
	send(*frame)
}

// frame is a run of calls or replies and its buffer, which is used again.
type frame struct {
	wire.RawFrame
	arrived time.Duration // since epoch
}

// frameRoom is what a new frame holds. gRPC gives back only buffers beyond 1 KiB.
const frameRoom = 4 << 10

// frames has the buffers that are free. Big ones are left to the garbage collector.
var frames sync.Pool

func newFrame() *frame {
	if f, ok := frames.Get().(*frame); ok {
		f.Buf = f.Buf[:0]
		return f
	}
	f := &frame{}
	f.Buf = make([]byte, 0, frameRoom)
	f.Sent = f.release
	return f
}

func (f *frame) release() {
	if cap(f.Buf) <= 2*flushBytes {
		frames.Put(f)
	}
}

// executor runs the calls that one lane brings, and knows nothing of how they travel. Its workers run hooks inline, one after
// another; hooks that may sleep run on goroutines of their own. The calls of one object are always in one of these at a time.
type executor struct {
	prog *program
	ctx  context.Context // ends with the lane; hooks' contexts derive from it
	lane lane

	workers  []*worker
	sleepers sleepers
	wg       sync.WaitGroup // workers and sleepers
}

// worker owns a queue of frames, and a runner for them. Only its own goroutine touches its fields, but for the queue.
type worker struct {
	x     *executor
	queue chan *frame

	runner *runner
	out    *frame        // replies not yet sent; nil if none
	since  time.Duration // when the first of them was made
}

// newExecutor starts the workers. They end when stop was called and the queues are empty, or soon after ctx ends.
func newExecutor(ctx context.Context, prog *program, l lane) *executor {
	x := &executor{prog: prog, ctx: ctx, lane: l}
	x.sleepers.byObject = map[uint64]*sleeper{}
	for range prog.workers {
		w := &worker{x: x, queue: make(chan *frame, queueDepth), runner: newRunner(ctx, prog)}
		x.workers = append(x.workers, w)
		x.wg.Go(w.loop)
	}
	return x
}

// stop lets the workers end. No submit may follow.
func (x *executor) stop() {
	for _, w := range x.workers {
		close(w.queue)
	}
}

// submit checks a frame and queues it; it takes the frame over, and waits while the queue is full. The error is ErrBadReply for a frame
// that does not decode, of which no call runs, or ctx's.
func (x *executor) submit(f *frame) error {
	f.arrived = now()
	if len(x.workers) > 1 {
		return x.split(f)
	}
	var v wire.CallView
	for rest := f.Buf; len(rest) > 0; {
		var err error
		if rest, err = wire.NextCall(rest, &v); err != nil {
			return err
		}
	}
	return x.workers[0].put(f)
}

// split gives each worker the calls of its objects as a frame.
func (x *executor) split(f *frame) error {
	parts := make([]*frame, len(x.workers))
	to := 0
	var v wire.CallView
	for rest := f.Buf; len(rest) > 0; {
		next, err := wire.NextCall(rest, &v)
		if err != nil {
			return err
		}
		if !v.Chained {
			to = int(v.Object * 0x9e3779b97f4a7c15 >> 32 % uint64(len(x.workers)))
		}
		if parts[to] == nil {
			parts[to] = newFrame()
			parts[to].arrived = f.arrived
		}
		parts[to].Buf = append(parts[to].Buf, rest[:len(rest)-len(next)]...)
		rest = next
	}
	f.release()
	for i, part := range parts {
		if part == nil {
			continue
		}
		if err := x.workers[i].put(part); err != nil {
			return err
		}
	}
	return nil
}

func (w *worker) put(f *frame) error {
	select {
	case w.queue <- f:
		return nil
	case <-w.x.ctx.Done():
		return w.x.ctx.Err()
	}
}

// loop runs frames, and sends the replies of all that is queued at once.
func (w *worker) loop() {
	for f := range w.queue {
		for f != nil {
			w.run(f)
			f = w.more()
		}
		w.flush()
	}
}

// more returns the next frame if there is one now, or after a yield: a send returns at once, so without the yield each reply would go
// alone.
func (w *worker) more() *frame {
	for range 2 {
		select {
		case f := <-w.queue:
			return f
		default:
		}
		runtime.Gosched()
	}
	return nil
}

// run runs the calls of a frame.
func (w *worker) run(f *frame) {
	defer f.release()
	r := w.runner
	r.clock, r.chain = f.arrived, chain{}
	var v wire.CallView
	for rest := f.Buf; len(rest) > 0 && w.x.ctx.Err() == nil; {
		next, err := wire.NextCall(rest, &v)
		if err != nil {
			return // submit has decoded it before
		}
		if w.x.sleeps(&v) {
			next = chainEnd(next)
			w.leave(v.Object, v.Chained, rest[:len(rest)-len(next)], f.arrived)
			rest, r = next, w.runner
			continue
		}
		rest = next
		if w.out == nil {
			w.out, w.since = newFrame(), r.clock
		}
		w.out.Buf = r.run(&v, f.arrived, w.out.Buf)
		if len(w.out.Buf) > flushBytes || r.clock-w.since > flushAfter {
			w.flush()
		}
	}
}

// flush sends the replies there are.
func (w *worker) flush() {
	if w.out != nil {
		w.x.lane.send(w.out)
		w.out = nil
	}
}

// chainEnd passes over the calls at the start of a frame that are chained to the one before.
func chainEnd(rest []byte) []byte {
	var v wire.CallView
	for len(rest) > 0 {
		next, err := wire.NextCall(rest, &v)
		if err != nil || !v.Chained {
			break
		}
		rest = next
	}
	return rest
}

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
	calls   []byte
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

// leave hands calls over to a sleeper. If they go on from calls that the worker has run, the runner goes with them. Beyond the bound
// they fail with CodeOverload.
func (w *worker) leave(object uint64, chained bool, calls []byte, arrived time.Duration) {
	n := nap{calls: bytes.Clone(calls), arrived: arrived}
	if chained {
		n.runner = w.runner
		w.runner = newRunner(w.x.ctx, w.x.prog)
		w.runner.clock = n.runner.clock
	}
	s := &w.x.sleepers
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held.Load() >= shared.DefaultLimit {
		w.refuse(calls)
		return
	}
	s.held.Add(1)
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

// refuse answers calls for which there is no room.
func (w *worker) refuse(calls []byte) {
	if w.out == nil {
		w.out, w.since = newFrame(), w.runner.clock
	}
	var v wire.CallView
	for len(calls) > 0 {
		next, err := wire.NextCall(calls, &v)
		if err != nil {
			return
		}
		calls = next
		w.out.Buf = wire.AppendReply(w.out.Buf, &wire.ReplyView{
			Seq: v.Seq, Code: shared.CodeOverload, Message: []byte("too many calls of hooks that may sleep are under way"),
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
	var v wire.CallView
	for rest := n.calls; len(rest) > 0 && x.ctx.Err() == nil; {
		next, err := wire.NextCall(rest, &v)
		if err != nil {
			break
		}
		rest = next
		out.Buf = r.run(&v, n.arrived, out.Buf)
		if len(out.Buf) > flushBytes {
			x.lane.send(out)
			out = newFrame()
		}
	}
	x.lane.send(out)
}
