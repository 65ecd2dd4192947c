package helper

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// linger is how long the end of serving waits for functions of the author's that still run.
const linger = time.Second

// service is wire.HelperServer, and the ends that serving can come to.
type service struct {
	wire.UnimplementedHelperServer
	prog   *program
	logger hclog.Logger

	controls   atomic.Int32  // control streams there have been
	controlled chan struct{} // closed when the first came
	ended      chan struct{} // closed when it ended, or the host asked for the end
	end        sync.Once

	wg sync.WaitGroup // goroutines that may run the author's functions
}

func newService(prog *program) *service {
	return &service{
		prog: prog, logger: newLogger(),
		controlled: make(chan struct{}), ended: make(chan struct{}),
	}
}

// serving says how to serve.
type serving struct {
	tls          *tls.Config   // nil: plain
	controlLimit time.Duration // how long to wait for the first control stream; 0: for ever
}

// serve serves on lis, which it closes, until ctx ends, the control stream has ended or none came in time. Then it waits, for linger at
// most, for the author's functions.
func (s *service) serve(ctx context.Context, lis net.Listener, how serving) error {
	server := s.newServer(how.tls)
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(lis) }()
	over, err := s.wait(ctx, how.controlLimit, failed)
	s.end.Do(func() { close(s.ended) })
	server.Stop()
	if !over {
		// A server that is stopped before it has begun to serve says so; that is no failure.
		if serveErr := <-failed; !errors.Is(serveErr, grpc.ErrServerStopped) {
			err = errors.Join(err, serveErr)
		}
	}
	return errors.Join(err, s.settle())
}

// wait returns when serving is to end; over says that the listener has failed by itself.
func (s *service) wait(ctx context.Context, limit time.Duration, failed <-chan error) (over bool, err error) {
	var tooLate <-chan time.Time
	if limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		tooLate = timer.C
	}
	for {
		select {
		case <-ctx.Done():
			return false, nil
		case <-s.ended:
			return false, nil
		case err := <-failed:
			return true, err
		case <-tooLate:
			select {
			case <-s.controlled:
				tooLate = nil
			default:
				return false, shared.ErrTimeout.Errorf("no host has opened the control stream within %v", limit)
			}
		}
	}
}

// settle waits for the author's functions.
func (s *service) settle() error {
	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	timer := time.NewTimer(linger)
	defer timer.Stop()
	select {
	case <-done:
		return nil
	case <-timer.C:
		return shared.ErrBusy.Errorf("a function of %s has not returned %v after its context ended", s.prog.info.Name, linger)
	}
}

// newServer registers what a host and a stock go-plugin client ask for.
func (s *service) newServer(config *tls.Config) *grpc.Server {
	opts := []grpc.ServerOption{
		grpc.ForceServerCodecV2(wire.Codec{}),
		grpc.MaxRecvMsgSize(wire.MaxFrame),
		grpc.MaxSendMsgSize(wire.MaxFrame),
		grpc.InitialWindowSize(wire.WindowSize),
		grpc.InitialConnWindowSize(wire.WindowSize),
		// No handler waits for a function of the author's, so this wait is short; it leaves nobody who could still add to wg.
		grpc.WaitForHandlers(true),
	}
	if config != nil {
		opts = append(opts, grpc.Creds(credentials.NewTLS(config)))
	}
	server := grpc.NewServer(opts...)
	wire.RegisterHelperServer(server, s)
	checks := health.NewServer()
	checks.SetServingStatus(wire.ServiceName, healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(server, checks)
	server.RegisterService(&controllerDesc, s)
	return server
}

// Describe answers with Modinfo.
func (s *service) Describe(context.Context, *wire.DescribeRequest) (*wire.Modinfo, error) {
	return wire.ModinfoToProto(&s.prog.info), nil
}

// Control serves the one control stream of the helper's life.
func (s *service) Control(stream wire.Helper_ControlServer) error {
	if s.controls.Add(1) > 1 {
		return status.Error(codes.AlreadyExists, "the helper has a control stream")
	}
	close(s.controlled)
	defer s.end.Do(func() { close(s.ended) })
	serveControl(withLogger(stream.Context(), s.logger), s.prog, stream, &s.wg)
	return nil
}

// Run serves one stream of calls. A frame that does not decode ends it with an error, and none of its calls runs.
func (s *service) Run(stream wire.Helper_RunServer) error {
	ctx, cancel := context.WithCancel(withLogger(stream.Context(), s.logger))
	l := &streamLane{stream: stream, broken: cancel}
	x := newExecutor(ctx, s.prog, l)
	finished := make(chan struct{})
	s.wg.Go(func() {
		x.wg.Wait()
		close(finished)
	})
	err := l.read(x)
	x.stop()
	if err == nil {
		// The host has no more calls; it still gets the replies to those it sent.
		select {
		case <-finished:
		case <-ctx.Done():
		}
	}
	l.close()
	cancel()
	return err
}

// streamLane carries frames on the gRPC stream Run.
type streamLane struct {
	stream grpc.ServerStream
	broken context.CancelFunc // called when a send has failed

	sendMu sync.Mutex // serialises sends
	closed atomic.Bool
}

// read submits what comes until the host has no more, or the stream or a frame is broken.
func (l *streamLane) read(x *executor) error {
	for {
		f := newFrame()
		if err := l.stream.RecvMsg(&f.RawFrame); err != nil {
			f.release()
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := x.submit(f); err != nil {
			if shared.CodeOf(err) == shared.CodeBadReply {
				return status.Error(codes.InvalidArgument, err.Error())
			}
			return err
		}
	}
}

// send sends replies. gRPC gives the frame back when it has written it.
func (l *streamLane) send(f *frame) {
	if len(f.Buf) == 0 {
		f.release()
		return
	}
	l.sendMu.Lock()
	defer l.sendMu.Unlock()
	if l.closed.Load() {
		return
	}
	if err := l.stream.SendMsg(&f.RawFrame); err != nil {
		l.broken()
	}
}

// close drops what comes later. It does not wait for a send under way: that ends with the stream.
func (l *streamLane) close() { l.closed.Store(true) }

// controllerDesc is go-plugin's GRPCController, through which its client ends a plugin. Its messages are empty.
var controllerDesc = grpc.ServiceDesc{
	ServiceName: "plugin.GRPCController",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "Shutdown",
		Handler: func(srv any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			if err := decode(&emptypb.Empty{}); err != nil {
				return nil, err
			}
			s := srv.(*service)
			s.end.Do(func() { close(s.ended) })
			return &emptypb.Empty{}, nil
		},
	}},
}
