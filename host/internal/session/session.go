// Package session is the host's end of a helper's Control stream: requests with answers in both directions, and the helper's life,
// which ends with the stream.
package session

import (
	"context"
	"sync"

	"google.golang.org/grpc"

	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

const (
	maxServing = 16      // requests of the helper that are served at once; more are refused
	queueLen   = 64      // messages waiting to be sent
	maxMessage = 4 << 20 // bytes of one control message
)

// Handler serves a helper's request. The context ends with the session. It returns the answer; its status says whether it failed.
type Handler func(ctx context.Context, req *wire.ControlToHost) *wire.Answer

// Session is one open Control stream. It is safe for concurrent use.
//
// It has a goroutine that sends, one that receives, and one for each request of the helper that is being served, maxServing at most;
// Close ends and awaits them.
type Session struct {
	stream  grpc.BidiStreamingClient[wire.ControlToHelper, wire.ControlToHost]
	handler Handler
	log     func(*wire.LogRecord)
	life    context.Context
	cancel  context.CancelFunc
	queue   chan *wire.ControlToHelper
	serving chan struct{} // a token for each request that may be served
	workers sync.WaitGroup
	done    chan struct{}
	err     error // why it ended; set before done is closed

	mu      sync.Mutex // protects the following fields
	nextID  uint64
	waiting map[uint64]chan *wire.Answer
}

// Open opens the Control stream on a connection. The session lives until Close, or until the stream ends; ctx is for the opening only.
func Open(ctx context.Context, client wire.HelperClient, handler Handler, log func(*wire.LogRecord)) (*Session, error) {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	stream, err := client.Control(life, grpc.MaxRetryRPCBufferSize(0),
		grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage))
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		cancel()
		return nil, err
	}
	s := &Session{
		stream: stream, handler: handler, log: log, life: life, cancel: cancel,
		queue: make(chan *wire.ControlToHelper, queueLen), serving: make(chan struct{}, maxServing),
		done: make(chan struct{}), waiting: map[uint64]chan *wire.Answer{},
	}
	s.workers.Go(s.send)
	s.workers.Go(s.receive)
	return s, nil
}

// Request sends a request and waits for its answer, no longer than ctx. The error is the answer's status as a sentinel, ErrHelperGone
// if the session ends first, or ErrTimeout. The message's id is set here.
func (s *Session) Request(ctx context.Context, req *wire.ControlToHelper) (*wire.Answer, error) {
	reply := make(chan *wire.Answer, 1)
	s.mu.Lock()
	s.nextID++
	req.Id = s.nextID
	s.waiting[req.Id] = reply
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.waiting, req.Id)
		s.mu.Unlock()
	}()
	select {
	case s.queue <- req:
	case <-s.done:
		return nil, s.gone()
	case <-ctx.Done():
		return nil, timeout(ctx)
	}
	select {
	case answer := <-reply:
		return answer, answer.GetStatus().Err()
	case <-s.done:
		select {
		case answer := <-reply: // a helper may answer and end
			return answer, answer.GetStatus().Err()
		default:
			return nil, s.gone()
		}
	case <-ctx.Done():
		return nil, timeout(ctx)
	}
}

func timeout(ctx context.Context) error {
	return shared.ErrTimeout.Errorf("the helper did not answer in time: %w", context.Cause(ctx))
}

func (s *Session) gone() error { return shared.ErrHelperGone.Errorf("the helper is gone: %w", s.err) }

// Done is closed when the stream has ended.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err returns why the stream ended. Call it after Done.
func (s *Session) Err() error { return s.err }

// Close ends the stream, which tells the helper to end, and waits for the session's goroutines. Requests under way fail.
func (s *Session) Close() {
	s.cancel()
	s.workers.Wait()
}

func (s *Session) send() {
	for {
		select {
		case msg := <-s.queue:
			if s.stream.Send(msg) != nil {
				s.cancel() // the receiver learns why
				return
			}
		case <-s.life.Done():
			return
		}
	}
}

func (s *Session) receive() {
	for {
		msg, err := s.stream.Recv()
		if err != nil {
			s.err = shared.PrintableError(err, shared.MaxText) // a helper words the end of its stream
			s.cancel()
			close(s.done)
			return
		}
		switch body := msg.GetBody().(type) {
		case *wire.ControlToHost_Answer:
			s.mu.Lock()
			reply := s.waiting[msg.GetId()]
			delete(s.waiting, msg.GetId())
			s.mu.Unlock()
			if reply != nil { // else it came too late, or twice
				reply <- body.Answer
			}
		case *wire.ControlToHost_Log:
			s.log(body.Log)
		default:
			s.serve(msg)
		}
	}
}

// serve answers a request of the helper, beside the receiver so that the helper's answers go on coming in.
func (s *Session) serve(msg *wire.ControlToHost) {
	select {
	case s.serving <- struct{}{}:
	default:
		s.answer(msg, &wire.Answer{Status: wire.StatusOf(shared.ErrOverload.Errorf("%d requests are being served", maxServing))})
		return
	}
	s.workers.Go(func() {
		defer func() { <-s.serving }()
		s.answer(msg, s.handler(s.life, msg))
	})
}

func (s *Session) answer(msg *wire.ControlToHost, answer *wire.Answer) {
	out := &wire.ControlToHelper{Id: msg.GetId(), Body: &wire.ControlToHelper_Answer{Answer: answer}}
	select {
	case s.queue <- out:
	case <-s.life.Done():
	}
}
