package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/control/controlv1"
	"github.com/khelp/khelp/shared"
)

// bounds are what callers can take of the daemon, at most.
type bounds struct {
	connections int           // of all
	strangers   int           // of those that are neither root's nor the daemon's own user's
	stranger    int           // of one such user
	streams     uint32        // calls at once on a connection
	request     int           // bytes of a request
	headers     uint32        // bytes of a call's headers
	handshake   time.Duration // from the connection to HTTP/2
	idle        time.Duration // without a call
	silent      time.Duration // before a peer is asked whether it is still there, and for its answer
	sending     time.Duration // of a request, from its beginning to its end
	reading     time.Duration // without reading, when there is something to be read
}

// usual are the bounds of every server but those in tests.
var usual = bounds{
	connections: 128, strangers: 64, stranger: 16, streams: 32, request: 1 << 20, headers: 64 << 10,
	handshake: 5 * time.Second, idle: time.Minute, silent: 30 * time.Second, sending: 10 * time.Second, reading: 30 * time.Second,
}

const objectBatch = 512 // objects to a message

// Options say how a server serves. The zero value works.
type Options struct {
	Logger hclog.Logger // nil: none

	// Authorize decides about every call, and for a stream about everything that it tells, so that what is withdrawn ends. nil: OwnerOnly.
	Authorize Authorizer

	// AuthorizePath decides about a load by path too, after Authorize: who may make one has the daemon's user run any program. Its privilege
	// is PrivilegeLoad. nil: OwnerOnly.
	AuthorizePath Authorizer

	// Spec finds what the daemon is configured to load under a name; false: nothing, and the host looks on its helper path. It must be
	// safe for concurrent use. nil: nothing is configured.
	Spec func(name string) (shared.HelperSpec, bool)

	// Configured lists the names that Spec finds, in the order of the configuration, for completion. It must be safe for concurrent use.
	// nil: none.
	Configured func() []string

	// Plan says what another configuration, of helpers and of whatever else the daemon is configured with, would change, and does nothing.
	// It must be safe for concurrent use. nil: the host's Plan, with a warning for each kind of part.
	Plan func(ctx context.Context, specs []shared.HelperSpec, parts []Part) (Plan, error)

	// Reload has the daemon read its configuration again and says what was done. The error is a *ConfigError if that is wrong; nothing has
	// changed then. It must be safe for concurrent use. nil: ErrUnsupported.
	Reload func(ctx context.Context) (Plan, error)

	// Version is what the server says of the daemon. The zero value: BuildVersion().
	Version Version
}

// backend is what the server needs of a host.
type backend interface {
	Load(ctx context.Context, spec shared.HelperSpec, opts host.LoadOptions) error
	Unload(ctx context.Context, name string, opts host.UnloadOptions) error
	Restart(ctx context.Context, name string) error
	Hold(name string) error
	Rele(name string) error
	Stat(ctx context.Context, name string) (host.Stat, error)
	Hooks() []host.HeadStat
	Objects(filter host.ObjectFilter) ([]host.ObjectStat, error)
	Known(spec shared.HelperSpec) (shared.Modinfo, bool)
	Describe(ctx context.Context, spec shared.HelperSpec) (shared.Modinfo, error)
	Plan(specs []shared.HelperSpec) ([]host.Change, error)
	History() []host.Event
	Follow() follower[host.Event]
	FollowLogs(name string) ([]host.LogRecord, follower[host.LogRecord], error)
}

// realHost is a host as a backend.
type realHost struct{ *host.Host }

func (h realHost) Follow() follower[host.Event] { return h.Subscribe() }

func (h realHost) FollowLogs(name string) ([]host.LogRecord, follower[host.LogRecord], error) {
	return h.Logs(name)
}

// Server serves a host's control service. It does not own the host. Its methods are safe for concurrent use.
type Server struct {
	grpc   *grpc.Server
	bounds bounds
	log    hclog.Logger
	ending context.CancelFunc // ends what follows something
}

// NewServer returns a server for a host; Serve starts it.
func NewServer(h *host.Host, opts Options) *Server { return newServer(realHost{h}, opts, usual) }

func newServer(h backend, opts Options, b bounds) *Server {
	if opts.Logger == nil {
		opts.Logger = hclog.NewNullLogger()
	}
	if opts.Authorize == nil {
		opts.Authorize = OwnerOnly
	}
	if opts.AuthorizePath == nil {
		opts.AuthorizePath = OwnerOnly
	}
	if opts.Spec == nil {
		opts.Spec = func(string) (shared.HelperSpec, bool) { return shared.HelperSpec{}, false }
	}
	if opts.Configured == nil {
		opts.Configured = func() []string { return nil }
	}
	if opts.Version == (Version{}) {
		opts.Version = BuildVersion()
	}
	life, ending := context.WithCancel(context.Background())
	s := &service{host: h, opts: opts, life: life, readLimit: b.reading}
	g := grpc.NewServer(
		grpc.Creds(peerCredentials{b.idle}),
		grpc.MaxRecvMsgSize(b.request),
		grpc.MaxHeaderListSize(b.headers),
		grpc.MaxConcurrentStreams(b.streams),
		grpc.ConnectionTimeout(b.handshake),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: b.idle, Time: b.silent, Timeout: b.silent}),
		grpc.StatsHandler(watcher{b}),
		grpc.UnaryInterceptor(s.unary),
		grpc.StreamInterceptor(s.stream),
		grpc.WaitForHandlers(true),
	)
	controlv1.RegisterControlServer(g, s)
	return &Server{grpc: g, bounds: b, log: opts.Logger, ending: ending}
}

// Serve accepts connections on lis and takes it over: it is closed when Serve returns. It returns nil after Shutdown or Close.
func (s *Server) Serve(lis net.Listener) error {
	if err := s.grpc.Serve(newLimitListener(lis, s.bounds, s.log)); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("control service: %w", err)
	}
	return nil
}

// Shutdown stops accepting, ends the streams that follow events and logs, and waits for the other calls under way until ctx ends; then
// it cuts them, waits for their handlers and returns the context's error. The listeners are closed.
func (s *Server) Shutdown(ctx context.Context) error {
	s.ending()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.grpc.GracefulStop()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		s.grpc.Stop()
		<-done
		return ctx.Err()
	}
}

// Close cuts the calls under way, waits for their handlers and closes the listeners.
func (s *Server) Close() error {
	s.ending()
	s.grpc.Stop()
	return nil
}
