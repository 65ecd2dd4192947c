package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/control/controlv1"
	"github.com/khelp/khelp/shared"
)

// What a caller can take of the daemon, at most.
const (
	maxConnections = 128
	maxStreams     = 32 // calls at once on a connection
	maxRequest     = 1 << 20
	handshakeLimit = 5 * time.Second
	idleLimit      = time.Minute
	objectBatch    = 512 // objects to a message
)

// Options say how a server serves. The zero value works.
type Options struct {
	Logger hclog.Logger // nil: none

	// Authorize decides whether a caller has a privilege. It must be safe for concurrent use. An error refuses and goes to the caller as
	// ErrPermission unless it wraps a sentinel of its own. nil: OwnerOnly.
	Authorize func(ctx context.Context, p Peer, privilege shared.Privilege) error

	// Spec finds what the daemon is configured to load under a name; false: nothing, and the host looks on its helper path. It must be
	// safe for concurrent use. nil: nothing is configured.
	Spec func(name string) (shared.HelperSpec, bool)

	// Configured lists the names that Spec finds, in the order of the configuration, for completion. It must be safe for concurrent use.
	// nil: none.
	Configured func() []string

	// Version is what the server says of the daemon. The zero value: BuildVersion().
	Version Version
}

// backend is what the server needs of a host.
type backend interface {
	Load(ctx context.Context, spec shared.HelperSpec, opts host.LoadOptions) error
	Unload(ctx context.Context, name string, opts host.UnloadOptions) error
	Stat(ctx context.Context, name string) (host.Stat, error)
	Hooks() []host.HeadStat
	Objects(filter host.ObjectFilter) ([]host.ObjectStat, error)
}

// Server serves a host's control service. It does not own the host. Its methods are safe for concurrent use.
type Server struct {
	grpc *grpc.Server
}

// NewServer returns a server for a host; Serve starts it.
func NewServer(h *host.Host, opts Options) *Server { return newServer(h, opts) }

func newServer(h backend, opts Options) *Server {
	if opts.Logger == nil {
		opts.Logger = hclog.NewNullLogger()
	}
	if opts.Authorize == nil {
		opts.Authorize = OwnerOnly
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
	s := &service{host: h, opts: opts}
	g := grpc.NewServer(
		grpc.Creds(peerCredentials{}),
		grpc.MaxRecvMsgSize(maxRequest),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(handshakeLimit),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: idleLimit}),
		grpc.UnaryInterceptor(s.unary),
		grpc.StreamInterceptor(s.stream),
		grpc.WaitForHandlers(true),
	)
	controlv1.RegisterControlServer(g, s)
	return &Server{grpc: g}
}

// Serve accepts connections on lis and takes it over: it is closed when Serve returns. It returns nil after Shutdown or Close.
func (s *Server) Serve(lis net.Listener) error {
	if err := s.grpc.Serve(newLimitListener(lis, maxConnections)); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("control service: %w", err)
	}
	return nil
}

// Shutdown stops accepting and waits for the calls under way until ctx ends; then it cuts them, waits for their handlers and returns
// the context's error. The listeners are closed.
func (s *Server) Shutdown(ctx context.Context) error {
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
	s.grpc.Stop()
	return nil
}

// service answers the calls.
type service struct {
	controlv1.UnimplementedControlServer
	host backend
	opts Options
}

// privileges says what a caller must be allowed for each method. A method that is missing here is refused.
var privileges = map[string]shared.Privilege{
	controlv1.Control_Stat_FullMethodName:     shared.PrivilegeStat,
	controlv1.Control_Hooks_FullMethodName:    shared.PrivilegeStat,
	controlv1.Control_Objects_FullMethodName:  shared.PrivilegeStat,
	controlv1.Control_Loadable_FullMethodName: shared.PrivilegeStat,
	controlv1.Control_Version_FullMethodName:  shared.PrivilegeStat,
	controlv1.Control_Load_FullMethodName:     shared.PrivilegeLoad,
	controlv1.Control_Unload_FullMethodName:   shared.PrivilegeUnload,
}

func (s *service) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if err := s.authorize(ctx, info.FullMethod); err != nil {
		return nil, toStatus(err)
	}
	resp, err := handler(ctx, req)
	return resp, toStatus(err)
}

func (s *service) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if err := s.authorize(ss.Context(), info.FullMethod); err != nil {
		return toStatus(err)
	}
	return toStatus(handler(srv, ss))
}

func (s *service) authorize(ctx context.Context, method string) error {
	p := contextPeer(ctx)
	privilege, ok := privileges[method]
	err := shared.ErrPermission.Errorf("%s is open to nobody", method)
	if ok {
		err = s.opts.Authorize(ctx, p, privilege)
	}
	if err == nil {
		return nil
	}
	s.opts.Logger.Warn("control call refused", "privilege", privilege, "peer", p.String(), "error", err)
	if shared.CodeOf(err) == shared.CodeUnknown {
		return shared.ErrPermission.Errorf("%w", err)
	}
	return err
}

// Stat answers khelpd stat.
func (s *service) Stat(ctx context.Context, req *controlv1.StatRequest) (*controlv1.StatResponse, error) {
	st, err := s.host.Stat(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	resp := &controlv1.StatResponse{Generation: st.Generation}
	for i := range st.Helpers {
		resp.Helpers = append(resp.Helpers, helperToProto(&st.Helpers[i]))
	}
	return resp, nil
}

// Hooks answers khelpd hooks.
func (s *service) Hooks(context.Context, *controlv1.HooksRequest) (*controlv1.HooksResponse, error) {
	resp := &controlv1.HooksResponse{}
	heads := s.host.Hooks()
	for i := range heads {
		resp.Heads = append(resp.Heads, headToProto(&heads[i]))
	}
	return resp, nil
}

// Objects answers khelpd objects.
func (s *service) Objects(req *controlv1.ObjectsRequest, stream grpc.ServerStreamingServer[controlv1.ObjectsResponse]) error {
	objects, err := s.host.Objects(host.ObjectFilter{Helper: req.GetHelper()})
	if err != nil {
		return err
	}
	for batch := range slices.Chunk(objects, objectBatch) {
		resp := &controlv1.ObjectsResponse{Objects: make([]*controlv1.Object, len(batch))}
		for i := range batch {
			resp.Objects[i] = objectToProto(&batch[i])
		}
		if err := stream.Send(resp); err != nil {
			return err
		}
	}
	return nil
}

// Load answers khelpd load.
func (s *service) Load(ctx context.Context, req *controlv1.LoadRequest) (*controlv1.LoadResponse, error) {
	spec, err := s.spec(req.GetName())
	if err != nil {
		return nil, err
	}
	opts := host.LoadOptions{
		Force:      req.GetForce(),
		Classes:    fromStrings[shared.Class](req.GetClasses()),
		Properties: valuesFromProto(req.GetProperties()),
	}
	for _, c := range opts.Classes {
		if err := c.Validate(); err != nil {
			return nil, err
		}
	}
	s.opts.Logger.Info("load asked for", "helper", req.GetName(), "peer", contextPeer(ctx).String())
	if err := s.host.Load(ctx, spec, opts); err != nil {
		return nil, err
	}
	return &controlv1.LoadResponse{}, nil
}

// spec makes a specification of what a caller named: a path is loaded as it is, a name as it is configured or else by itself.
func (s *service) spec(name string) (shared.HelperSpec, error) {
	if strings.ContainsAny(name, `/\`) {
		if !filepath.IsAbs(name) {
			return shared.HelperSpec{}, shared.ErrInvalid.Errorf("path %q must be absolute: the daemon has another working directory", name)
		}
		return shared.HelperSpec{Command: []string{filepath.Clean(name)}}, nil
	}
	if err := shared.ValidateName("helper name", name); err != nil {
		return shared.HelperSpec{}, err
	}
	if spec, ok := s.opts.Spec(name); ok {
		spec.Load = shared.LoadManual // whatever the configuration says of the start: this is not the start
		return spec, nil
	}
	return shared.HelperSpec{Name: name}, nil
}

// Unload answers khelpd unload.
func (s *service) Unload(ctx context.Context, req *controlv1.UnloadRequest) (*controlv1.UnloadResponse, error) {
	wait := req.GetWait().AsDuration()
	if wait < 0 {
		return nil, shared.ErrInvalid.Errorf("wait %v is negative", wait)
	}
	s.opts.Logger.Info("unload asked for", "helper", req.GetName(), "peer", contextPeer(ctx).String())
	if err := s.host.Unload(ctx, req.GetName(), host.UnloadOptions{Wait: wait}); err != nil {
		return nil, err
	}
	return &controlv1.UnloadResponse{}, nil
}

// Loadable answers the completion of khelpd load.
func (s *service) Loadable(ctx context.Context, _ *controlv1.LoadableRequest) (*controlv1.LoadableResponse, error) {
	st, err := s.host.Stat(ctx, "")
	if err != nil {
		return nil, err
	}
	names := slices.DeleteFunc(slices.Clone(s.opts.Configured()), func(name string) bool {
		return slices.ContainsFunc(st.Helpers, func(h host.HelperStat) bool { return h.Name == name })
	})
	return &controlv1.LoadableResponse{Names: names}, nil
}

// Version answers khelpd version.
func (s *service) Version(context.Context, *controlv1.VersionRequest) (*controlv1.VersionResponse, error) {
	v := s.opts.Version
	return &controlv1.VersionResponse{Version: v.Version, Revision: v.Revision, Go: v.Go, Api: v.API}, nil
}
