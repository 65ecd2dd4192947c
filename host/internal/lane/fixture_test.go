package lane

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/khelp/khelp/host/hosttest/testkit"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// peer is the helper's end of a Run stream, in the test's hands.
type peer struct {
	t      testing.TB
	stream grpc.ServerStream
	end    chan error // ends the stream with this status
}

// received is one call as the peer has it; its slices are its own.
type received struct {
	wire.CallView
	frame int // which frame it came in, from 0
}

// newLane returns a lane to a peer, over gRPC in memory. Both end with the test.
func newLane(t testing.TB) (*Stream, *peer) {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	peers := make(chan *peer, 1)
	server := grpc.NewServer(grpc.ForceServerCodecV2(wire.Codec{}), grpc.MaxRecvMsgSize(wire.MaxFrame), grpc.MaxSendMsgSize(2*wire.MaxFrame),
		grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
			p := &peer{t: t, stream: stream, end: make(chan error, 1)}
			peers <- p
			select {
			case err := <-p.end:
				return err
			case <-stream.Context().Done():
				return stream.Context().Err()
			}
		}))
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///peer", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	p := testkit.Await(t, "the stream's arrival", peers)
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

// frame receives one frame; nil at the end of the stream.
func (p *peer) frame() []byte {
	var raw wire.RawFrame
	if p.stream.RecvMsg(&raw) != nil {
		return nil
	}
	return raw.Buf
}

func (p *peer) decode(frame []byte, number int) (calls []received) {
	for len(frame) > 0 {
		c := received{frame: number}
		var err error
		if frame, err = wire.NextCall(frame, &c.CallView); err != nil {
			p.t.Errorf("the lane sent what does not decode: %v", err)
			return calls
		}
		calls = append(calls, c)
	}
	return calls
}

// calls receives until it has n calls.
func (p *peer) calls(n int) (calls []received) {
	p.t.Helper()
	for number := 0; len(calls) < n; number++ {
		frame := p.frame()
		if frame == nil {
			p.t.Fatalf("the stream ended after %d of %d calls", len(calls), n)
		}
		calls = append(calls, p.decode(frame, number)...)
	}
	return calls
}

// raw sends bytes as a frame.
func (p *peer) raw(frame []byte) error { return p.stream.SendMsg(&wire.RawFrame{Buf: frame}) }

// reply sends replies in one frame.
func (p *peer) reply(replies ...wire.ReplyView) {
	p.t.Helper()
	var frame []byte
	for i := range replies {
		frame = wire.AppendReply(frame, &replies[i])
	}
	if err := p.raw(frame); err != nil {
		p.t.Fatal(err)
	}
}

// ok is a reply that gives back text as data.
func ok(seq uint64, text string) wire.ReplyView {
	return wire.ReplyView{Seq: seq, HasData: true, Data: []byte(text)}
}

// recorder is a Handler that keeps how its calls end, and sees to it that each does so once and in order.
type recorder struct {
	t    testing.TB
	done chan struct{} // closed when all have

	mu    sync.Mutex // protects the following fields
	calls int
	ends  []string // "=data" of a reply, else the cause
	errs  []error
	fails int
}

func newRecorder(t testing.TB, calls int) *recorder {
	return &recorder{t: t, calls: calls, done: make(chan struct{})}
}

func (r *recorder) Reply(i int, v *wire.ReplyView) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fails > 0 {
		r.t.Errorf("a reply to call %d after Fail", i)
	}
	r.endLocked(i, "="+string(v.Data), nil)
}

func (r *recorder) Fail(i int, cause shared.Cause, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fails++; r.fails > 1 {
		r.t.Errorf("Fail was called %d times", r.fails)
	}
	for ; i < r.calls; i++ {
		r.endLocked(i, string(cause), err)
	}
}

func (r *recorder) endLocked(i int, how string, err error) {
	if i != len(r.ends) || i >= r.calls {
		r.t.Errorf("call %d of %d ended as %q when %d had: %v", i, r.calls, how, len(r.ends), r.ends)
		return
	}
	r.ends, r.errs = append(r.ends, how), append(r.errs, err)
	if len(r.ends) == r.calls {
		close(r.done)
	}
}

// want waits for the end of all calls and compares.
func (r *recorder) want(ends ...string) {
	r.t.Helper()
	testkit.Await(r.t, fmt.Sprintf("the end of %d calls", r.calls), r.done)
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(r.ends, ends) {
		r.t.Errorf("calls ended as %v, want %v", r.ends, ends)
	}
}

// submit submits a chain of calls with the given contexts.
func submit(t testing.TB, s *Stream, object uint64, timeout time.Duration, contexts ...string) (*recorder, Ticket) {
	r := newRecorder(t, len(contexts))
	c := Chain{Object: object, HasData: true, Data: []byte("data"), Handler: r}
	for _, msg := range contexts {
		c.Calls = append(c.Calls, Call{Hook: 1, Context: []byte(msg), Timeout: timeout})
	}
	return r, s.Submit(&c)
}

// marker is a call that has been replied to: what the peer sent before has been dealt with.
func marker(t testing.TB, s *Stream, p *peer) {
	t.Helper()
	r, _ := submit(t, s, 999, testkit.Patience, "marker")
	p.reply(ok(p.calls(1)[0].Seq, "seen"))
	r.want("=seen")
}
