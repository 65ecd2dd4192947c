package lane

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// Stream is the stream lane: the gRPC Run stream, many calls to a frame. It is safe for concurrent use.
//
// Two goroutines serve it from Open to the end of the stream: the sender drains the queue into frames, the receiver reads replies and
// calls handlers. Both end when the stream does; Close ends the stream and waits for them.
type Stream struct {
	stream  grpc.ClientStream
	cancel  context.CancelFunc
	table   table
	out     outbox
	workers sync.WaitGroup
	done    chan struct{} // closed when every chain has ended
	err     error         // why; set before done is closed
}

const (
	frameSplit   = 256 << 10 // bytes at which a frame is full
	minFrame     = 4 << 10   // gRPC returns a buffer to us only if it is larger than its pooling threshold of 1 KiB
	framesAhead  = 2         // frames handed to gRPC and not yet written
	keepFrameCap = 1 << 20   // larger buffers are not kept for reuse
	maxWaiting   = 32 << 20  // bytes that wait to be sent; beyond that the helper does not read what it is sent, and chains are refused
)

// Open opens the Run stream on a connection to a helper. The lane lives until Close, or until the stream ends by itself. ctx is for
// the opening only.
func Open(ctx context.Context, conn grpc.ClientConnInterface) (*Stream, error) {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	// Nothing is kept for gRPC's retries: a call is never sent twice, and a buffer kept would never come back.
	stream, err := conn.NewStream(life, &wire.Helper_ServiceDesc.Streams[runStream()], wire.Helper_Run_FullMethodName,
		grpc.ForceCodecV2(wire.Codec{}), grpc.MaxRetryRPCBufferSize(0), grpc.MaxCallRecvMsgSize(wire.MaxFrame), grpc.MaxCallSendMsgSize(wire.MaxFrame))
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		cancel()
		return nil, err
	}
	s := &Stream{stream: stream, cancel: cancel, done: make(chan struct{})}
	s.out.init()
	s.workers.Go(s.send)
	s.workers.Go(s.receive)
	return s, nil
}

func runStream() int {
	for i := range wire.Helper_ServiceDesc.Streams {
		if wire.Helper_ServiceDesc.Streams[i].StreamName == "Run" {
			return i
		}
	}
	panic("lane: the service has no Run stream")
}

// Submit queues a chain to be sent. It never blocks. The handler is told of every call's end, from Submit itself if the lane is
// closed. The ticket is for Abandon.
func (s *Stream) Submit(c *Chain) Ticket {
	first, cause, err := s.out.put(c, &s.table)
	if cause != shared.CauseNone {
		c.Handler.Fail(0, cause, err)
		return Ticket{}
	}
	return Ticket{first}
}

// Ticket names a submitted chain.
type Ticket struct{ seq uint64 }

// Abandon ends a chain whose caller waits no longer; its handler hears nothing more. It reports whether it did: if not, the handler
// has been told of the end, or is just being told.
func (s *Stream) Abandon(t Ticket) bool { return t.seq != 0 && s.table.abandon(t.seq) }

// Drain waits until no chain is unanswered, as long as ctx allows. New ones are not kept out.
func (s *Stream) Drain(ctx context.Context) error {
	idle := s.table.whenIdle()
	if idle == nil {
		return nil
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return shared.ErrTimeout.Errorf("calls are still unanswered: %w", context.Cause(ctx))
	}
}

// Counts returns the replies that fitted nothing.
func (s *Stream) Counts() Counts { return s.table.read() }

// Done is closed when the lane has ended and every chain has been told.
func (s *Stream) Done() <-chan struct{} { return s.done }

// Err returns why the lane ended: ErrBadReply if the helper broke the protocol, else ErrHelperGone. Call it after Done.
func (s *Stream) Err() error { return s.err }

// Close ends the stream, fails what is unanswered with crash and waits for the lane's goroutines.
func (s *Stream) Close() {
	s.cancel()
	s.out.close()
	s.workers.Wait()
}

func (s *Stream) send() {
	for {
		frame := s.out.take()
		if frame == nil {
			return
		}
		if err := s.stream.SendMsg(frame); err != nil {
			// The receiver learns the reason and ends the lane; what is queued now has no taker.
			s.cancel()
			s.out.close()
			return
		}
	}
}

func (s *Stream) receive() {
	var raw wire.RawFrame
	var err error
	for err == nil {
		if err = s.stream.RecvMsg(&raw); err == nil {
			err = s.frame(raw.Buf)
		}
	}
	s.cancel()
	s.out.close()
	cause := shared.CauseCrash
	err = shared.PrintableError(err, shared.MaxText) // a helper words the end of its stream
	switch {
	case errors.Is(err, shared.ErrBadReply):
		cause = shared.CauseBadReply
	case status.Code(err) == codes.ResourceExhausted: // gRPC's word for a frame beyond the limit
		cause, err = shared.CauseBadReply, shared.ErrBadReply.Errorf("frame refused: %w", err)
	default:
		err = shared.ErrHelperGone.Errorf("the helper's Run stream ended: %w", err)
	}
	s.err = err
	s.table.close(cause, err)
	close(s.done)
}

// frame delivers the replies of one frame.
func (s *Stream) frame(rest []byte) error {
	now := time.Now()
	var r wire.ReplyView
	var err error
	for len(rest) > 0 {
		if rest, err = wire.NextReply(rest, &r); err != nil {
			return err
		}
		handler, call, last, wrong := s.table.claim(r.Seq)
		if wrong != nil {
			wrong.Fail(call, shared.CauseBadReply, shared.ErrBadReply.Errorf("replies of a chain came out of order"))
		}
		if handler == nil {
			continue
		}
		handler.Reply(call, &r)
		if !last {
			s.table.settle(r.Seq, now)
		}
	}
	return nil
}

// outbox gathers calls into frames until the sender takes them.
type outbox struct {
	wake  chan struct{} // has a token while there may be something to take
	ahead chan struct{} // a token for each frame that may be handed to gRPC
	quit  chan struct{} // closed by close
	once  sync.Once

	mu      sync.Mutex // protects the following fields
	frames  [][]byte   // full ones, and the one being filled
	waiting int        // their bytes
	spare   [][]byte   // buffers to use again
}

func (o *outbox) init() {
	o.wake = make(chan struct{}, 1)
	o.ahead = make(chan struct{}, framesAhead)
	o.quit = make(chan struct{})
	for range framesAhead {
		o.ahead <- struct{}{}
	}
}

// put encodes a chain behind what is queued and puts it into the table. It does the former first: from when it is in the table a chain
// can end at any moment, and its owner may use its slices for something else. The error says why it was not taken.
func (o *outbox) put(c *Chain, t *table) (first uint64, cause shared.Cause, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.waiting > maxWaiting {
		return 0, shared.CauseOverload, shared.ErrOverload.Errorf("%d bytes wait for the helper to read", o.waiting)
	}
	n := len(o.frames)
	if n == 0 || len(o.frames[n-1]) > frameSplit {
		o.frames = append(o.frames, o.bufferLocked())
		n++
	}
	frame := o.frames[n-1]
	start := len(frame)
	for i := range c.Calls {
		call := &c.Calls[i]
		frame = wire.AppendCall(frame, &wire.CallView{
			Seq: uint64(i), Kind: call.Kind, Hook: call.Hook, Object: c.Object,
			Chained: i > 0, HasData: i == 0 && c.HasData, Data: c.Data, Context: call.Context, Budget: call.Timeout,
		})
	}
	o.frames[n-1] = frame[:start]
	if first, cause, err = t.add(c, time.Now()); cause != shared.CauseNone {
		return 0, cause, err
	}
	wire.ShiftCalls(frame[start:], first)
	o.frames[n-1] = frame
	o.waiting += len(frame) - start
	signal(o.wake)
	return first, shared.CauseNone, nil
}

func (o *outbox) bufferLocked() []byte {
	if n := len(o.spare); n > 0 {
		b := o.spare[n-1]
		o.spare = o.spare[:n-1]
		return b[:0]
	}
	return make([]byte, 0, minFrame)
}

// take waits for calls and returns a frame of them, or nil when the outbox is closed. Before it looks it waits until gRPC has written
// the frames before, and lets others run once: both make frames larger, where a send that returns at once would carry one call each.
func (o *outbox) take() *wire.RawFrame {
	for {
		if !o.await(o.wake) || !o.await(o.ahead) {
			return nil
		}
		runtime.Gosched()
		if frame := o.pop(); frame != nil {
			return &wire.RawFrame{Buf: frame, Sent: func() { o.sent(frame) }}
		}
		o.ahead <- struct{}{}
	}
}

// await takes a token, or reports that the outbox is closed.
func (o *outbox) await(token <-chan struct{}) bool {
	select {
	case <-token:
		return true
	case <-o.quit:
		return false
	}
}

func (o *outbox) pop() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.frames) == 0 {
		return nil
	}
	frame := o.frames[0]
	o.waiting -= len(frame)
	o.frames = append(o.frames[:0], o.frames[1:]...)
	if len(o.frames) > 0 {
		signal(o.wake)
	}
	return frame
}

func signal(token chan<- struct{}) {
	select {
	case token <- struct{}{}:
	default:
	}
}

// sent takes a buffer back that gRPC has written.
func (o *outbox) sent(frame []byte) {
	o.mu.Lock()
	if cap(frame) <= keepFrameCap && len(o.spare) < framesAhead+1 {
		o.spare = append(o.spare, frame)
	}
	o.mu.Unlock()
	signal(o.ahead)
}

func (o *outbox) close() { o.once.Do(func() { close(o.quit) }) }
