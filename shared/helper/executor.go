package helper

import (
	"context"
	"runtime"
	"sync"
	"time"

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

// executor runs the calls that one lane brings, and knows nothing of how they travel. Its workers run hooks inline, one after
// another; hooks that may sleep run on goroutines of their own. The calls of one object are always in one of these at a time.
type executor struct {
	prog *program
	ctx  context.Context // ends with the lane; hooks' contexts derive from it
	lane lane

	workers  []*worker
	sleepers sleepers
	wg       sync.WaitGroup // workers, their timers, and sleepers
}

// worker owns a queue of batches, and a runner for them. But for the queue and what mu protects, only its own goroutine touches it.
type worker struct {
	x     *executor
	queue chan *batch

	runner  *runner
	since   time.Duration // when the first reply in out was made
	unsent  bool          // out may hold replies
	armed   bool          // overdue has been set; it may have fired since
	overdue *time.Timer   // sends out while a hook keeps the worker; each setting of it counts in x.wg

	// mu protects the following field, which the timer shares.
	mu  sync.Mutex
	out *frame // replies not yet sent; nil if none
}

// newExecutor starts the workers. They end when stop was called and the queues are empty, or soon after ctx ends.
func newExecutor(ctx context.Context, prog *program, l lane) *executor {
	x := &executor{prog: prog, ctx: ctx, lane: l}
	x.sleepers.byObject = map[uint64]*sleeper{}
	for range prog.workers {
		w := &worker{x: x, queue: make(chan *batch, queueDepth), runner: newRunner(ctx, prog)}
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

// submit decodes a frame and queues its calls; it takes the frame over, and waits while the queue is full. The error is ErrBadReply for
// a frame that does not decode, of which no call runs, or ctx's.
func (x *executor) submit(f *frame) error {
	b, err := decode(f)
	if err != nil {
		return err
	}
	if len(x.workers) == 1 {
		return x.workers[0].put(b)
	}
	for i, part := range b.split(len(x.workers)) {
		if err := x.workers[i].put(part); err != nil {
			return err
		}
	}
	return nil
}

func (w *worker) put(b *batch) error {
	select {
	case w.queue <- b:
		return nil
	case <-w.x.ctx.Done():
		return w.x.ctx.Err()
	}
}

// loop runs batches, and sends the replies of all that is queued at once.
func (w *worker) loop() {
	for b := range w.queue {
		for b != nil {
			w.run(b)
			b = w.more()
		}
		w.flush()
	}
}

// more returns the next batch if there is one now, or after a yield: a send returns at once, so without the yield each reply would go
// alone.
func (w *worker) more() *batch {
	for range 2 {
		select {
		case b := <-w.queue:
			return b
		default:
		}
		runtime.Gosched()
	}
	return nil
}

// run runs the calls of a batch.
func (w *worker) run(b *batch) {
	defer b.release()
	w.runner.clock, w.runner.chain = b.arrived, chain{}
	for i := 0; i < len(b.calls) && w.x.ctx.Err() == nil; {
		v := &b.calls[i]
		if w.x.sleeps(v) {
			end := chainEnd(b.calls, i)
			w.leave(b.calls[i:end], b.arrived)
			i = end
			continue
		}
		i++
		if w.unsent && !w.armed {
			w.arm()
		}
		w.answer(w.runner.run(v, b.arrived))
	}
}

// answer adds a reply to those to be sent, and sends them if they are many or old.
func (w *worker) answer(r *wire.ReplyView) {
	w.mu.Lock()
	if w.out == nil {
		w.disarm() // if it was set, the timer has sent the last ones
		w.out, w.since = newFrame(), w.runner.clock
	}
	w.out.Buf = wire.AppendReply(w.out.Buf, r)
	size := len(w.out.Buf)
	w.mu.Unlock()
	w.unsent = true
	if size > flushBytes || w.runner.clock-w.since > flushAfter {
		w.flush()
	}
}

// arm sees to it that replies there are do not wait for a hook that takes its time.
func (w *worker) arm() {
	w.armed = true
	w.x.wg.Add(1)
	if w.overdue != nil {
		w.overdue.Reset(flushAfter)
		return
	}
	w.overdue = time.AfterFunc(flushAfter, func() {
		defer w.x.wg.Done()
		w.send()
	})
}

func (w *worker) disarm() {
	if w.armed && w.overdue.Stop() {
		w.x.wg.Done() // else it fires, and does so itself
	}
	w.armed = false
}

// flush sends the replies there are.
func (w *worker) flush() {
	if !w.unsent {
		return
	}
	w.unsent = false
	w.disarm()
	w.send()
}

func (w *worker) send() {
	w.mu.Lock()
	f := w.out
	w.out = nil
	w.mu.Unlock()
	if f != nil {
		w.x.lane.send(f)
	}
}
