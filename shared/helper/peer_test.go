package helper

import (
	"context"
	"net"
	"os"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/khelp/khelp/host/hosttest/testkit"
	"github.com/khelp/khelp/shared/wire"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(envRole); role != "" {
		os.Exit(playRole(role))
	}
	testkit.Main(m)
}

// peer is a host made of protocol alone, for a helper that is served in process.
type peer struct {
	t       testing.TB
	ctx     context.Context
	client  wire.HelperClient
	control wire.Helper_ControlClient
	run     grpc.ClientStream
	asked   uint64
	ended   chan error // what Run returned
}

// start serves a helper with Run and opens both streams. The end of the test closes the control stream and wants Run to return nil.
func start[S any](t testing.TB, h Helper[S]) *peer {
	t.Helper()
	p := connect(t, h)
	var err error
	if p.control, err = p.client.Control(p.ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.control.CloseSend(); err != nil {
			t.Error(err)
		}
		p.wantEnd()
	})
	p.openRun()
	return p
}

// connect serves a helper with Run and opens no stream.
func connect[S any](t testing.TB, h Helper[S]) *peer {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	p := &peer{t: t, ctx: ctx, ended: make(chan error, 1)}
	lis := bufconn.Listen(1 << 20)
	serving, stop := context.WithCancel(context.Background())
	go func() { p.ended <- Run(serving, lis, h) }()
	conn, err := grpc.NewClient("passthrough:helper",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(wire.Codec{})))
	if err != nil {
		t.Fatal(err)
	}
	p.client = wire.NewHelperClient(conn)
	t.Cleanup(func() {
		stop()
		p.wantEnd()
		conn.Close()
		cancel()
	})
	return p
}

// wantEnd waits for Run to return, once.
func (p *peer) wantEnd() {
	select {
	case err, open := <-p.ended:
		if open {
			close(p.ended)
		}
		if err != nil {
			p.t.Errorf("Run returned %v", err)
		}
	case <-time.After(testkit.Patience):
		p.t.Error("Run has not returned")
	}
}

func (p *peer) openRun() {
	p.t.Helper()
	run, err := p.client.Run(p.ctx)
	if err != nil {
		p.t.Fatal(err)
	}
	p.run = run
}

// ask sends a request on the control stream and returns its id.
func (p *peer) ask(m *wire.ControlToHelper) uint64 {
	p.t.Helper()
	p.asked++
	m.Id = p.asked
	if err := p.control.Send(m); err != nil {
		p.t.Fatal(err)
	}
	return m.Id
}

func (p *peer) recv() *wire.ControlToHost {
	p.t.Helper()
	m, err := p.control.Recv()
	if err != nil {
		p.t.Fatal(err)
	}
	return m
}

// answer sends a request and returns the answer to it, which must be the next message.
func (p *peer) answer(m *wire.ControlToHelper) *wire.Answer {
	p.t.Helper()
	id := p.ask(m)
	got := p.recv()
	if got.GetId() != id || got.GetAnswer() == nil {
		p.t.Fatalf("%v instead of an answer to %d", got, id)
	}
	return got.GetAnswer()
}

func (p *peer) init(config map[string]any) error {
	p.t.Helper()
	return p.answer(initRequest(config)).GetStatus().Err()
}

func initRequest(config map[string]any) *wire.ControlToHelper {
	return &wire.ControlToHelper{Body: &wire.ControlToHelper_Init{Init: &wire.InitRequest{
		HelperId: 7, Incarnation: 2, Config: wire.PropertiesToProto(config), BudgetUs: uint64(testkit.Patience / time.Microsecond),
	}}}
}

// calls sends calls as one frame.
func (p *peer) calls(calls ...wire.CallView) {
	p.t.Helper()
	var frame []byte
	for i := range calls {
		frame = wire.AppendCall(frame, &calls[i])
	}
	if err := p.run.SendMsg(&wire.RawFrame{Buf: frame}); err != nil {
		p.t.Fatal(err)
	}
}

// replies receives n replies and returns them by sequence number.
func (p *peer) replies(n int) map[uint64]wire.ReplyView {
	p.t.Helper()
	got := make(map[uint64]wire.ReplyView, n)
	for len(got) < n {
		var frame wire.RawFrame
		if err := p.run.RecvMsg(&frame); err != nil {
			p.t.Fatalf("after %d of %d replies: %v", len(got), n, err)
		}
		decodeReplies(p.t, frame.Buf, got)
	}
	if len(got) != n {
		p.t.Fatalf("%d replies, want %d", len(got), n)
	}
	return got
}

// exchange sends calls and returns the replies in their order.
func (p *peer) exchange(calls ...wire.CallView) []wire.ReplyView {
	p.t.Helper()
	p.calls(calls...)
	got := p.replies(len(calls))
	out := make([]wire.ReplyView, len(calls))
	for i, c := range calls {
		r, ok := got[c.Seq]
		if !ok {
			p.t.Fatalf("no reply to %d", c.Seq)
		}
		out[i] = r
	}
	return out
}

func decodeReplies(t testing.TB, frame []byte, into map[uint64]wire.ReplyView) {
	t.Helper()
	for len(frame) > 0 {
		var r wire.ReplyView
		rest, err := wire.NextReply(frame, &r)
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := into[r.Seq]; twice {
			t.Fatalf("two replies to %d", r.Seq)
		}
		into[r.Seq] = r
		frame = rest
	}
}
