// Package control is the control service of a host and its client: gRPC on a Unix socket, by which an operator sees and changes the
// helpers of a running daemon. khelpd serves it; any program that embeds a host can:
//
//	lis, err := control.Listen("/run/mydaemon/control.sock")
//	if err != nil {
//		return err // shared.ErrBusy: another daemon listens there
//	}
//	srv := control.NewServer(h, control.Options{Logger: log})
//	go srv.Serve(lis)
//	defer srv.Shutdown(ctx)
//
// and khelpd's command line then works with it (khelpd --socket /run/mydaemon/control.sock stat).
//
// The socket has mode 0600, and the caller is known by the credentials the kernel vouches for (SO_PEERCRED, LOCAL_PEERCRED), not by
// anything it says. Without an Authorizer of the embedder's own only root and the daemon's own user may call.
//
// Errors keep their sentinels on the way: errors.Is(err, shared.ErrBusy) holds in the client for what wrapped ErrBusy in the host.
package control
