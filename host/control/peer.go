package control

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/khelp/khelp/shared"
)

// Peer is who calls, as the kernel says.
type Peer struct {
	UID    uint32
	GID    uint32
	Groups []uint32 // supplementary groups, where the system says
	PID    int32    // 0 where the system does not say
	Known  bool     // false: this system, or this kind of connection, has no credentials
}

// owner reports whether the peer is root or the user that this process runs as.
func (p Peer) owner() bool { return p.UID == 0 || int64(p.UID) == int64(os.Geteuid()) }

// String returns the peer for logs, as in "uid 1000 gid 1000 pid 4711".
func (p Peer) String() string {
	switch {
	case !p.Known:
		return "unknown peer"
	case p.PID == 0:
		return fmt.Sprintf("uid %d gid %d", p.UID, p.GID)
	default:
		return fmt.Sprintf("uid %d gid %d pid %d", p.UID, p.GID, p.PID)
	}
}

// OwnerOnly is the default authoriser: it lets root and the user that the daemon runs as do everything and refuses others with
// ErrPermission. On systems whose Unix sockets carry no credentials the mode of the socket, 0600, is all there is, and a caller that
// came through it is let in.
func OwnerOnly(_ context.Context, p Peer, privilege shared.Privilege) error {
	switch {
	case !p.Known && !systemHasPeers:
		return nil
	case p.Known && p.owner():
		return nil
	default:
		return shared.ErrPermission.Errorf("%s is refused to %s: the daemon runs as uid %d", privilege, p, os.Geteuid())
	}
}

// peerCredentials are transport credentials that exchange nothing: they take the peer's identity from the Unix socket.
type peerCredentials struct {
	idle time.Duration // of a server: what a connection may be without a call
}

// peerInfo is the identity of a connection, as gRPC carries it to the handlers.
type peerInfo struct {
	credentials.CommonAuthInfo
	conn *connection // nil on the client's side
}

// AuthType names the kind of identity.
func (peerInfo) AuthType() string { return "peer" }

func (c peerCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	p, err := connPeer(conn)
	if err != nil {
		return nil, nil, fmt.Errorf("credentials of a control connection: %w", err)
	}
	security := credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}
	own := &connection{Conn: conn, peer: p}
	own.call(0, 2*c.idle)
	return own, peerInfo{security, own}, nil
}

func (peerCredentials) ClientHandshake(_ context.Context, _ string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return conn, peerInfo{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}, nil
}

func (peerCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "peer"}
}

func (c peerCredentials) Clone() credentials.TransportCredentials { return c }

// OverrideServerName is part of the interface; there is no name to check on a Unix socket.
func (peerCredentials) OverrideServerName(string) error { return nil }

// connPeer asks the system who is at the other end. A connection that is not a Unix socket has no known peer.
func connPeer(conn net.Conn) (Peer, error) {
	for {
		wrapped, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		conn = wrapped.NetConn()
	}
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return Peer{}, nil
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var p Peer
	var inner error
	if err := raw.Control(func(fd uintptr) { p, inner = socketPeer(int(fd)) }); err != nil {
		return Peer{}, err
	}
	return p, inner
}

// contextPeer returns who made the call that ctx belongs to.
func contextPeer(ctx context.Context) Peer {
	if conn := contextPeerInfo(ctx).conn; conn != nil {
		return conn.peer
	}
	return Peer{}
}

func contextPeerInfo(ctx context.Context) peerInfo {
	if p, ok := peer.FromContext(ctx); ok {
		if info, ok := p.AuthInfo.(peerInfo); ok {
			return info
		}
	}
	return peerInfo{}
}
