package host

import (
	"context"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/khelp/khelp/host/internal/launch"
	"github.com/khelp/khelp/shared/wire"
)

// endpoint is where a helper runs: a process that the host has launched, or a connection to one that it has not.
type endpoint interface {
	Conn() *grpc.ClientConn
	PID() int              // 0: not known
	SHA256() string        // of the file that runs; "": not known
	Done() <-chan struct{} // closed when the process has exited; nil: nobody will know
	Err() error            // how it exited, after Done
	Kill()                 // at once, and without waiting
	Stop(ctx context.Context, grace time.Duration) error
}

var _ endpoint = (*launch.Process)(nil)

// dialOptions are those of every connection to a helper.
var dialOptions = []grpc.DialOption{
	grpc.WithInitialWindowSize(wire.WindowSize),
	grpc.WithInitialConnWindowSize(4 * wire.WindowSize),
}

// dialled is a connection to a helper that runs already. The host does not end its process.
type dialled struct{ conn *grpc.ClientConn }

func dial(dialer Dialer) (dialled, error) {
	conn, err := grpc.NewClient("passthrough:///helper", append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dialer(ctx) }),
	}, dialOptions...)...)
	return dialled{conn}, err
}

func (d dialled) Conn() *grpc.ClientConn { return d.conn }
func (d dialled) PID() int               { return 0 }
func (d dialled) SHA256() string         { return "" }
func (d dialled) Done() <-chan struct{}  { return nil }
func (d dialled) Err() error             { return nil }
func (d dialled) Kill()                  { _ = d.conn.Close() } // it can only tell that it is closed already

func (d dialled) Stop(context.Context, time.Duration) error {
	d.Kill()
	return nil
}
