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
// The socket has mode 0600, and the caller is known by the credentials the kernel vouches for (SO_PEERCRED and SO_PEERGROUPS,
// LOCAL_PEERCRED), not by anything it says. Only root and the daemon's own user may call. To let others in, listen with ListenMode and
// Public and give an Authorizer: Allow's, by rules on users and groups, or one of the embedder's own.
//
// Callers are bounded: in connections (those of other users in fewer, so that they lock nobody out), in calls, in the size of requests
// and in the time that they may take to send one and to read what they are answered.
//
// Errors keep their sentinels on the way: errors.Is(err, shared.ErrBusy) holds in the client for what wrapped ErrBusy in the host.
package control
