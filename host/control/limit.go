package control

import (
	"net"
	"sync"
)

// limitListener accepts so many connections at a time and leaves the rest in the kernel's queue. It is x/net/netutil's LimitListener,
// but for NetConn, without which the peer's credentials are out of reach.
type limitListener struct {
	net.Listener
	free   chan struct{} // a token for each connection that may still be open
	closed chan struct{}
	once   sync.Once
}

func newLimitListener(lis net.Listener, n int) *limitListener {
	l := &limitListener{Listener: lis, free: make(chan struct{}, n), closed: make(chan struct{})}
	for range n {
		l.free <- struct{}{}
	}
	return l
}

// Accept waits for a token, then for a connection.
func (l *limitListener) Accept() (net.Conn, error) {
	select {
	case <-l.free:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		l.free <- struct{}{}
		return nil, err
	}
	return &limitedConn{Conn: conn, release: func() { l.free <- struct{}{} }}, nil
}

// Close stops accepting; connections stay open.
func (l *limitListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type limitedConn struct {
	net.Conn
	once    sync.Once
	release func()
}

// Close closes the connection and gives its token back, once.
func (c *limitedConn) Close() error {
	defer c.once.Do(c.release)
	return c.Conn.Close()
}

// NetConn returns the connection underneath, as tls.Conn's does.
func (c *limitedConn) NetConn() net.Conn { return c.Conn }
