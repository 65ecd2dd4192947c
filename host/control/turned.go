package control

import (
	"context"
	"net"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/khelp/khelp/shared"
)

// turnedAway tells a daemon that closes connections because too many are open from one that is gone: a connection has ended before the
// daemon said a word, and yet it listens.
type turnedAway struct {
	redial func(context.Context) (net.Conn, error)
	mute   atomic.Bool // the last connection ended so
}

// explain returns what a call has ended with, in better words if the daemon has turned it away.
func (t *turnedAway) explain(ctx context.Context, err error) error {
	if status.Code(err) != codes.Unavailable || !t.mute.Load() {
		return err
	}
	conn, gone := t.redial(ctx)
	if gone != nil {
		return err
	}
	_ = conn.Close() // it was only to see whether somebody is there
	return toStatus(shared.ErrOverload.Errorf("the daemon has closed the connection: too many are open"))
}

func (t *turnedAway) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return t.explain(ctx, invoke(ctx, method, req, reply, cc, opts...))
}

// stream need not look at what comes later: a stream begins when the daemon has greeted.
func (t *turnedAway) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, begin grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := begin(ctx, desc, cc, method, opts...)
	return s, t.explain(ctx, err)
}

// greetedConn notes whether the daemon has said anything on it.
type greetedConn struct {
	net.Conn
	turned  *turnedAway
	greeted bool // of the one goroutine that reads
}

// Read reads, and notes an end before the first byte.
func (c *greetedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	switch {
	case n > 0 && !c.greeted:
		c.greeted = true
		c.turned.mute.Store(false)
	case err != nil && !c.greeted:
		c.turned.mute.Store(true)
	}
	return n, err
}

// NetConn returns the connection underneath, as tls.Conn's does.
func (c *greetedConn) NetConn() net.Conn { return c.Conn }
