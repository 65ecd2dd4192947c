package launch

import (
	"context"
	"crypto/tls"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// connect opens the one connection to the helper and waits until it is ready. A helper listens before it gives its handshake, so the
// first failure is final.
func (a *attempt) connect(ctx context.Context, addr net.Addr, tlsConfig *tls.Config) (*grpc.ClientConn, error) {
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, addr.Network(), addr.String())
	}
	options := append([]grpc.DialOption{
		grpc.WithContextDialer(dial),
		grpc.WithTransportCredentials(credentials.NewTLS(tlsConfig)),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithIdleTimeout(0), // an idle helper is still a helper
	}, a.cfg.DialOptions...)
	conn, err := grpc.NewClient("passthrough:///helper", options...)
	if err != nil {
		return nil, a.fail(ReasonConfig, shared.ErrInvalid.Errorf("dial options: %w", err))
	}
	if err := a.awaitReady(ctx, conn); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

func (a *attempt) awaitReady(ctx context.Context, conn *grpc.ClientConn) error {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(a.child.alive, cancel)
	defer stop()
	conn.Connect()
	for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
		if state == connectivity.TransientFailure || !conn.WaitForStateChange(waiting, state) {
			return a.explainConnect(ctx, conn)
		}
	}
	return nil
}

// explainConnect says why a helper that gave a good handshake cannot be connected to.
func (a *attempt) explainConnect(ctx context.Context, conn *grpc.ClientConn) error {
	if ctx.Err() != nil {
		e := interrupted(ctx, a.cfg.StartTimeout, "connecting to "+a.img.path+", after its handshake", ctx.Err())
		return a.fail(e.Reason, e.err)
	}
	// A refused connection and the end of the process are often the same event; the exit says more.
	if a.child.waitDrained(settleWait) {
		return a.exited("after its handshake")
	}
	// The channel keeps the cause of its failure to itself, but answers every call with it.
	ctx, cancel := context.WithTimeout(ctx, settleWait)
	defer cancel()
	_, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: wire.ServiceName})
	return a.fail(ReasonConnect, shared.ErrHelperGone.Errorf("cannot connect to %s: %s", a.img.path, status.Convert(err).Message()))
}
