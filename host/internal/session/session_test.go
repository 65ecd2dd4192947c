package session

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/khelp/khelp/host/hosttest/testkit"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// peer is the helper's end of the Control stream, in the test's hands.
type peer struct {
	wire.UnimplementedHelperServer
	t      *testing.T
	stream grpc.BidiStreamingServer[wire.ControlToHelper, wire.ControlToHost]
	opened chan struct{}
	end    chan error
}

func (p *peer) Control(stream grpc.BidiStreamingServer[wire.ControlToHelper, wire.ControlToHost]) error {
	p.stream = stream
	close(p.opened)
	select {
	case err := <-p.end:
		return err
	case <-stream.Context().Done():
		return stream.Context().Err()
	}
}

func (p *peer) recv() *wire.ControlToHelper {
	p.t.Helper()
	msg, err := p.stream.Recv()
	if err != nil {
		p.t.Fatal(err)
	}
	return msg
}

func (p *peer) send(msg *wire.ControlToHost) {
	p.t.Helper()
	if err := p.stream.Send(msg); err != nil {
		p.t.Fatal(err)
	}
}

// answer answers a request, with the reason so that answers can be told apart.
func (p *peer) answer(id uint64, reason string) {
	p.t.Helper()
	p.send(&wire.ControlToHost{Id: id, Body: &wire.ControlToHost_Answer{Answer: &wire.Answer{
		Result: &wire.Answer_Autounload{Autounload: &wire.AutounloadResult{Reason: reason}},
	}}})
}

func noRequests(context.Context, *wire.ControlToHost) *wire.Answer { return &wire.Answer{} }

func noLog(*wire.LogRecord) {}

// open returns a session and the helper's end of it. Both end with the test.
func open(t *testing.T, handler Handler, log func(*wire.LogRecord)) (*Session, *peer) {
	t.Helper()
	listener := bufconn.Listen(1 << 16)
	p := &peer{t: t, opened: make(chan struct{}), end: make(chan error, 1)}
	server := grpc.NewServer()
	wire.RegisterHelperServer(server, p)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///peer", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), wire.NewHelperClient(conn), handler, log)
	if err != nil {
		t.Fatal(err)
	}
	testkit.Await(t, "the stream's arrival", p.opened)
	t.Cleanup(func() {
		s.Close()
		_ = conn.Close()
		server.Stop()
		if err := <-served; err != nil {
			t.Errorf("server: %v", err)
		}
	})
	return s, p
}

func health() *wire.ControlToHelper {
	return &wire.ControlToHelper{Body: &wire.ControlToHelper_Health{Health: &wire.HealthRequest{}}}
}

// outcome is what a request came to.
type outcome struct {
	answer *wire.Answer
	err    error
}

// request sends a request in the background.
func request(ctx context.Context, s *Session) <-chan outcome {
	done := make(chan outcome, 1)
	go func() {
		answer, err := s.Request(ctx, health())
		done <- outcome{answer, err}
	}()
	return done
}

func TestAnswersFindTheirRequests(t *testing.T) {
	s, p := open(t, noRequests, noLog)
	const n = 10
	var waiting []<-chan outcome
	var ids []uint64
	seen := map[uint64]bool{}
	for range n {
		waiting = append(waiting, request(t.Context(), s))
		id := p.recv().GetId()
		if id == 0 || seen[id] {
			t.Fatalf("id %d, after %v", id, ids)
		}
		ids, seen[id] = append(ids, id), true
	}
	for i := n - 1; i >= 0; i-- {
		p.answer(ids[i], fmt.Sprint(i))
	}
	for i, w := range waiting {
		got := testkit.Await(t, "the answer", w)
		if reason := got.answer.GetAutounload().GetReason(); got.err != nil || reason != fmt.Sprint(i) {
			t.Errorf("request %d was answered with %q, %v", i, reason, got.err)
		}
	}
}

func TestAnswersStatusIsTheSentinel(t *testing.T) {
	s, p := open(t, noRequests, noLog)
	w := request(t.Context(), s)
	p.send(&wire.ControlToHost{Id: p.recv().GetId(), Body: &wire.ControlToHost_Answer{
		Answer: &wire.Answer{Status: wire.StatusOf(shared.ErrBusy.Errorf("not now"))},
	}})
	if got := testkit.Await(t, "the answer", w); !errors.Is(got.err, shared.ErrBusy) || got.err.Error() != "not now" {
		t.Errorf("%v", got.err)
	}
}

func TestUnknownLateAndDoubleAnswersAreDropped(t *testing.T) {
	s, p := open(t, noRequests, noLog)
	ctx, cancel := context.WithCancel(t.Context())
	w := request(ctx, s)
	late := p.recv().GetId()
	cancel()
	if got := testkit.Await(t, "the end of the wait", w); !errors.Is(got.err, shared.ErrTimeout) || !errors.Is(got.err, context.Canceled) {
		t.Errorf("%v", got.err)
	}
	p.answer(late, "late")
	p.answer(4711, "unknown")
	p.answer(0, "unknown")
	w = request(t.Context(), s)
	id := p.recv().GetId()
	p.answer(id, "right")
	p.answer(id, "double")
	if got := testkit.Await(t, "the answer", w); got.err != nil || got.answer.GetAutounload().GetReason() != "right" {
		t.Errorf("%v, %v", got.answer, got.err)
	}
	w = request(t.Context(), s)
	p.answer(p.recv().GetId(), "next")
	if got := testkit.Await(t, "the answer", w); got.answer.GetAutounload().GetReason() != "next" {
		t.Errorf("%v, %v", got.answer, got.err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) != 0 {
		t.Errorf("%d requests still wait", len(s.waiting))
	}
}

func TestRequestWaitsNoLongerThanItsContext(t *testing.T) {
	s, _ := open(t, noRequests, noLog)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if got := testkit.Await(t, "the timeout", request(ctx, s)); !errors.Is(got.err, shared.ErrTimeout) || !errors.Is(got.err, context.DeadlineExceeded) {
		t.Errorf("%v", got.err)
	}
}

// A helper that answers and ends has answered.
func TestAnswerBeforeTheEndCounts(t *testing.T) {
	for range 50 {
		s, p := open(t, noRequests, noLog)
		w := request(t.Context(), s)
		p.answer(p.recv().GetId(), "bye")
		p.end <- nil
		if got := testkit.Await(t, "the answer", w); got.err != nil || got.answer.GetAutounload().GetReason() != "bye" {
			t.Fatalf("%v, %v", got.answer, got.err)
		}
		testkit.Await(t, "the end", s.Done())
	}
}

// The same when both are there before the caller looks.
func TestAnswerAndEndAtOnce(t *testing.T) {
	for range 200 {
		synctest.Test(t, func(t *testing.T) {
			s := &Session{
				queue: make(chan *wire.ControlToHelper), done: make(chan struct{}), waiting: map[uint64]chan *wire.Answer{},
				err: errors.New("the end"),
			}
			w := request(t.Context(), s)
			synctest.Wait() // it waits to be sent
			s.mu.Lock()
			reply := s.waiting[1]
			s.mu.Unlock()
			reply <- &wire.Answer{}
			<-s.queue
			close(s.done)
			if got := <-w; got.err != nil {
				t.Fatal(got.err)
			}
		})
	}
}

func getID(id uint64) *wire.ControlToHost {
	return &wire.ControlToHost{Id: id, Body: &wire.ControlToHost_GetId_{GetId_: &wire.GetIdRequest{Name: fmt.Sprint(id)}}}
}

func TestHelpersRequestsAreServedUpToTheLimit(t *testing.T) {
	release := make(chan struct{})
	begun := make(chan struct{}, 4*maxServing)
	s, p := open(t, func(ctx context.Context, req *wire.ControlToHost) *wire.Answer {
		begun <- struct{}{}
		select {
		case <-release:
		case <-ctx.Done():
		}
		return &wire.Answer{Result: &wire.Answer_GetId{GetId: &wire.GetIdResult{HelperId: uint32(req.GetId())}}}
	}, noLog)
	for id := range uint64(maxServing) {
		p.send(getID(id + 1))
		testkit.Await(t, "serving", begun)
	}
	const over = 3
	for id := range uint64(over) {
		p.send(getID(1000 + id))
	}
	for range over {
		msg := p.recv()
		if err := msg.GetAnswer().GetStatus().Err(); msg.GetId() < 1000 || !errors.Is(err, shared.ErrOverload) {
			t.Errorf("request %d: %v, want those beyond the limit to be refused", msg.GetId(), err)
		}
	}
	// The host's own requests get through meanwhile.
	w := request(t.Context(), s)
	p.answer(p.recv().GetId(), "alive")
	if got := testkit.Await(t, "the answer", w); got.err != nil {
		t.Error(got.err)
	}
	close(release)
	answered := map[uint64]bool{}
	for range maxServing {
		msg := p.recv()
		if id := msg.GetId(); answered[id] || uint64(msg.GetAnswer().GetGetId().GetHelperId()) != id {
			t.Errorf("request %d was answered with %v", id, msg)
		}
		answered[msg.GetId()] = true
	}
	p.send(getID(5000))
	if msg := p.recv(); msg.GetId() != 5000 || msg.GetAnswer().GetStatus().Err() != nil {
		t.Errorf("after the rush: %v", msg)
	}
}

func TestLogRecordsKeepTheirOrderAndGetNoAnswer(t *testing.T) {
	var mu sync.Mutex
	var lines []string
	s, p := open(t, noRequests, func(r *wire.LogRecord) {
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, r.GetMessage())
	})
	for i := range 20 {
		p.send(&wire.ControlToHost{Body: &wire.ControlToHost_Log{Log: &wire.LogRecord{Message: fmt.Sprint(i)}}})
	}
	w := request(t.Context(), s)
	if msg := p.recv(); msg.GetHealth() == nil {
		t.Errorf("a log record was answered: %v", msg)
	} else {
		p.answer(msg.GetId(), "")
	}
	testkit.Await(t, "the answer", w)
	mu.Lock()
	defer mu.Unlock()
	if len(lines) != 20 || lines[0] != "0" || lines[19] != "19" {
		t.Errorf("%v", lines)
	}
}

func TestEndFailsWhatWaits(t *testing.T) {
	for name, end := range map[string]func(*Session, *peer){
		"close":          func(s *Session, _ *peer) { s.Close() },
		"helper returns": func(_ *Session, p *peer) { p.end <- nil },
		"helper fails":   func(_ *Session, p *peer) { p.end <- errors.New("boom") },
	} {
		t.Run(name, func(t *testing.T) {
			served := make(chan struct{})
			s, p := open(t, func(ctx context.Context, _ *wire.ControlToHost) *wire.Answer {
				close(served)
				<-ctx.Done() // its context ends with the session
				return &wire.Answer{}
			}, noLog)
			p.send(getID(1))
			testkit.Await(t, "serving", served)
			var waiting []<-chan outcome
			for range 5 {
				waiting = append(waiting, request(t.Context(), s))
				p.recv()
			}
			end(s, p)
			for _, w := range waiting {
				if got := testkit.Await(t, "the end of the wait", w); !errors.Is(got.err, shared.ErrHelperGone) {
					t.Errorf("%v", got.err)
				}
			}
			testkit.Await(t, "the end", s.Done())
			if s.Err() == nil {
				t.Error("the session ended without a reason")
			}
			if _, err := s.Request(t.Context(), health()); !errors.Is(err, shared.ErrHelperGone) {
				t.Errorf("a request after the end: %v", err)
			}
			s.Close()
			s.Close()
		})
	}
}

// A helper that reads nothing cannot hold Close up, nor a request beyond its context.
func TestHelperThatDoesNotRead(t *testing.T) {
	s, _ := open(t, noRequests, noLog)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var callers sync.WaitGroup
	big := &wire.InitRequest{Config: map[string]*wire.Value{"x": wire.ValueToProto(string(make([]byte, 64<<10)))}}
	for range 2 * queueLen {
		callers.Go(func() {
			_, err := s.Request(ctx, &wire.ControlToHelper{Body: &wire.ControlToHelper_Init{Init: big}})
			if !errors.Is(err, shared.ErrTimeout) {
				t.Errorf("%v", err)
			}
		})
	}
	callers.Wait()
	closed := make(chan struct{})
	go func() {
		s.Close()
		close(closed)
	}()
	testkit.Await(t, "Close", closed)
}

func TestOpenFails(t *testing.T) {
	conn, err := grpc.NewClient("passthrough:///nowhere", grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s, err := Open(ctx, wire.NewHelperClient(conn), noRequests, noLog); err == nil {
		s.Close()
		t.Error("opened with a context that has ended")
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
}
