package control

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/control/controlv1"
	"github.com/khelp/khelp/shared"
)

// service answers the calls.
type service struct {
	controlv1.UnimplementedControlServer
	host      backend
	opts      Options
	life      context.Context // ends when the server begins to
	readLimit time.Duration
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
	controlv1.Control_Info_FullMethodName:     shared.PrivilegeStat,
	controlv1.Control_Hold_FullMethodName:     shared.PrivilegeHold,
	controlv1.Control_Rele_FullMethodName:     shared.PrivilegeHold,
	controlv1.Control_Restart_FullMethodName:  shared.PrivilegeRestart,
	controlv1.Control_Events_FullMethodName:   shared.PrivilegeEvents,
	controlv1.Control_Logs_FullMethodName:     shared.PrivilegeLogs,
	controlv1.Control_Plan_FullMethodName:     shared.PrivilegePlan,
	controlv1.Control_Reload_FullMethodName:   shared.PrivilegeReload,
}

func (s *service) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if err := s.authorize(ctx, info.FullMethod); err != nil {
		return nil, toStatus(err)
	}
	resp, err := handler(ctx, req)
	if w := contextWatch(ctx); w != nil {
		w.arm(s.readLimit) // until the call has ended
	}
	return resp, toStatus(err)
}

func (s *service) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if err := s.authorize(ss.Context(), info.FullMethod); err != nil {
		return toStatus(err)
	}
	return toStatus(handler(srv, watchedStream{ss, s.readLimit}))
}

// authorize decides about a call.
func (s *service) authorize(ctx context.Context, method string) error {
	if privilege, ok := privileges[method]; ok {
		return s.permit(ctx, privilege)
	}
	return shared.ErrPermission.Errorf("%s is open to nobody", method)
}

// permit asks whether the caller has a privilege, and logs it if not.
func (s *service) permit(ctx context.Context, privilege shared.Privilege) error {
	return s.ask(ctx, s.opts.Authorize, privilege)
}

func (s *service) ask(ctx context.Context, authorize Authorizer, privilege shared.Privilege) error {
	p := contextPeer(ctx)
	err := authorize(ctx, p, privilege)
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
	if isPath(req.GetName()) {
		if err := s.ask(ctx, s.opts.AuthorizePath, shared.PrivilegeLoad); err != nil {
			return nil, fmt.Errorf("a load by path has the daemon run any program: %w", err)
		}
	}
	resp := &controlv1.LoadResponse{}
	opts := host.LoadOptions{
		Loaded:     func(name string) { resp.Name = name },
		Force:      req.GetForce(),
		Classes:    fromStrings[shared.Class](req.GetClasses()),
		Properties: valuesFromProto(req.GetProperties()),
		NoAutoload: s.opts.Authorize(ctx, contextPeer(ctx), shared.PrivilegeAutoload) != nil,
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
	return resp, nil
}

func isPath(name string) bool { return strings.ContainsAny(name, `/\`) }

// spec makes a specification of what a caller named: a path is loaded as it is, a name as it is configured or else by itself.
func (s *service) spec(name string) (shared.HelperSpec, error) {
	if isPath(name) {
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
	if err := s.host.Unload(ctx, req.GetName(), host.UnloadOptions{Wait: wait, Disable: req.GetDisable()}); err != nil {
		return nil, err
	}
	return &controlv1.UnloadResponse{}, nil
}

// Restart answers khelpd restart.
func (s *service) Restart(ctx context.Context, req *controlv1.RestartRequest) (*controlv1.RestartResponse, error) {
	s.opts.Logger.Info("restart asked for", "helper", req.GetName(), "peer", contextPeer(ctx).String())
	if err := s.host.Restart(ctx, req.GetName()); err != nil {
		return nil, err
	}
	return &controlv1.RestartResponse{}, nil
}

// Hold answers khelpd hold.
func (s *service) Hold(ctx context.Context, req *controlv1.HoldRequest) (*controlv1.HoldResponse, error) {
	s.opts.Logger.Info("hold asked for", "helper", req.GetName(), "peer", contextPeer(ctx).String())
	if err := s.host.Hold(req.GetName()); err != nil {
		return nil, err
	}
	return &controlv1.HoldResponse{}, nil
}

// Rele answers khelpd rele.
func (s *service) Rele(ctx context.Context, req *controlv1.ReleRequest) (*controlv1.ReleResponse, error) {
	s.opts.Logger.Info("rele asked for", "helper", req.GetName(), "peer", contextPeer(ctx).String())
	if err := s.host.Rele(req.GetName()); err != nil {
		return nil, err
	}
	return &controlv1.ReleResponse{}, nil
}

// Loadable answers the completion of khelpd load.
func (s *service) Loadable(ctx context.Context, _ *controlv1.LoadableRequest) (*controlv1.LoadableResponse, error) {
	st, err := s.host.Stat(ctx, "")
	if err != nil {
		return nil, err
	}
	names := slices.DeleteFunc(slices.Clone(s.opts.Configured()), func(name string) bool {
		return slices.ContainsFunc(st.Helpers, func(h host.HelperStat) bool {
			return h.Name == name && h.State != shared.StateDisabled
		})
	})
	return &controlv1.LoadableResponse{Names: names}, nil
}

// Version answers khelpd version.
func (s *service) Version(context.Context, *controlv1.VersionRequest) (*controlv1.VersionResponse, error) {
	v := s.opts.Version
	return &controlv1.VersionResponse{Version: v.Version, Revision: v.Revision, Go: v.Go, Api: v.API}, nil
}
