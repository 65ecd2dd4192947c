package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/control/controlv1"
	"github.com/khelp/khelp/shared"
)

// maxAnswer bounds one message of a daemon's answer.
const maxAnswer = 64 << 20

// Client asks a daemon. It owns a connection, to be given back with Close, which it makes again if the daemon has closed it for idleness
// or was started anew. It is safe for concurrent use by multiple goroutines. Errors wrap the sentinels that they wrapped in the host; a
// daemon that has gone is ErrNotRunning, and one that has too many connections of this user is ErrOverload.
type Client struct {
	stub  controlv1.ControlClient
	close func() error
}

// LoadRequest is what Load asks for.
type LoadRequest struct {
	Name       string         // found by the host, or an absolute path to be loaded as it is
	Classes    []shared.Class // the helper must follow each of them
	Force      bool           // in spite of another API generation
	Properties map[string]any // string, bool, int64, float64 or []any of strings; override what the host is configured with
}

// Dial connects to the daemon at a socket. It is ErrNotRunning if nobody listens there and ErrPermission if the socket may not be
// opened.
func Dial(ctx context.Context, path string) (*Client, error) {
	// Connecting here and not within gRPC tells at once, and by the system's own error, that nobody is there.
	dial := func(ctx context.Context) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
		if err != nil {
			return nil, dialError(path, err)
		}
		return conn, nil
	}
	conn, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	return newClient(conn, dial)
}

// newClient makes a client that owns conn, and what redial returns when that is used up.
func newClient(conn net.Conn, redial func(context.Context) (net.Conn, error)) (*Client, error) {
	var used atomic.Bool
	var turned turnedAway
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		if used.CompareAndSwap(false, true) {
			return &greetedConn{Conn: conn, turned: &turned}, nil
		}
		conn, err := redial(ctx)
		if err != nil {
			return nil, err
		}
		return &greetedConn{Conn: conn, turned: &turned}, nil
	}
	turned.redial = redial
	cc, err := grpc.NewClient("passthrough:///khelp",
		grpc.WithContextDialer(dial),
		grpc.WithTransportCredentials(peerCredentials{}),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithUnaryInterceptor(turned.unary),
		grpc.WithStreamInterceptor(turned.stream),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("control client: %w", err), conn.Close())
	}
	end := sync.OnceValue(func() error {
		err := cc.Close()
		if used.CompareAndSwap(false, true) {
			err = errors.Join(err, conn.Close()) // no call was made on it
		}
		return err
	})
	return &Client{stub: controlv1.NewControlClient(cc), close: end}, nil
}

func dialError(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &notRunningError{fmt.Sprintf("%v: there is no socket at %s", ErrNotRunning, path), errno(err)}
	case refused(err):
		return &notRunningError{fmt.Sprintf("%v: nobody listens on %s", ErrNotRunning, path), errno(err)}
	case errors.Is(err, fs.ErrPermission):
		return shared.ErrPermission.Errorf("control socket %s: %w", path, errno(err))
	case errors.Is(err, context.DeadlineExceeded):
		return shared.ErrTimeout.Errorf("control socket %s: %w", path, err)
	default:
		return fmt.Errorf("control socket: %w", err)
	}
}

// Close ends the connection and the calls on it. It is idempotent.
func (c *Client) Close() error { return c.close() }

// Stat shows one helper, or all if name is empty. An unknown name is ErrNotExist.
func (c *Client) Stat(ctx context.Context, name string) (host.Stat, error) {
	r, err := c.stub.Stat(ctx, &controlv1.StatRequest{Name: name})
	if err != nil {
		return host.Stat{}, fromStatus(err)
	}
	st := host.Stat{Generation: r.GetGeneration()}
	for _, h := range r.GetHelpers() {
		st.Helpers = append(st.Helpers, helperFromProto(h))
	}
	return st, nil
}

// Hooks shows the hook heads.
func (c *Client) Hooks(ctx context.Context) ([]host.HeadStat, error) {
	r, err := c.stub.Hooks(ctx, &controlv1.HooksRequest{})
	if err != nil {
		return nil, fromStatus(err)
	}
	var heads []host.HeadStat
	for _, h := range r.GetHeads() {
		heads = append(heads, headFromProto(h))
	}
	return heads, nil
}

// Objects shows the objects alive, as the filter says. An unknown helper in it is ErrNotExist.
func (c *Client) Objects(ctx context.Context, filter host.ObjectFilter) ([]host.ObjectStat, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.stub.Objects(ctx, &controlv1.ObjectsRequest{Helper: filter.Helper})
	if err != nil {
		return nil, fromStatus(err)
	}
	var objects []host.ObjectStat
	for {
		r, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return objects, nil
		case err != nil:
			return nil, fromStatus(err)
		}
		for _, o := range r.GetObjects() {
			objects = append(objects, objectFromProto(o))
		}
	}
}

// Load loads a helper and returns when it is active, with the name that it has given itself.
func (c *Client) Load(ctx context.Context, req LoadRequest) (name string, err error) {
	props, err := propertiesToProto(req.Properties)
	if err != nil {
		return "", err
	}
	r, err := c.stub.Load(ctx, &controlv1.LoadRequest{
		Name: req.Name, Classes: toStrings(req.Classes), Force: req.Force, Properties: props,
	})
	return r.GetName(), fromStatus(err)
}

// Unload unloads a helper and returns when it is gone.
func (c *Client) Unload(ctx context.Context, name string, opts host.UnloadOptions) error {
	_, err := c.stub.Unload(ctx, &controlv1.UnloadRequest{Name: name, Wait: optionalDuration(opts.Wait), Disable: opts.Disable})
	return fromStatus(err)
}

// Restart has another process of a helper take over and returns when it has.
func (c *Client) Restart(ctx context.Context, name string) error {
	_, err := c.stub.Restart(ctx, &controlv1.RestartRequest{Name: name})
	return fromStatus(err)
}

// Hold keeps a helper from being unloaded until Rele. Holds count.
func (c *Client) Hold(ctx context.Context, name string) error {
	_, err := c.stub.Hold(ctx, &controlv1.HoldRequest{Name: name})
	return fromStatus(err)
}

// Rele gives back one Hold. One more than there were is ErrInvalid.
func (c *Client) Rele(ctx context.Context, name string) error {
	_, err := c.stub.Rele(ctx, &controlv1.ReleRequest{Name: name})
	return fromStatus(err)
}

// Loadable names the helpers that the daemon is configured with and that are not loaded.
func (c *Client) Loadable(ctx context.Context) ([]string, error) {
	r, err := c.stub.Loadable(ctx, &controlv1.LoadableRequest{})
	if err != nil {
		return nil, fromStatus(err)
	}
	return r.GetNames(), nil
}

// Version says what the daemon was built from.
func (c *Client) Version(ctx context.Context) (Version, error) {
	r, err := c.stub.Version(ctx, &controlv1.VersionRequest{})
	if err != nil {
		return Version{}, fromStatus(err)
	}
	return Version{Version: r.GetVersion(), Revision: r.GetRevision(), Go: r.GetGo(), API: r.GetApi()}, nil
}
