package control

import (
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// limitListener accepts so many connections at a time and leaves the rest in the kernel's queue. It is x/net/netutil's LimitListener,
// but for NetConn, without which the peer's credentials are out of reach, and for users who are neither root nor the daemon's own: of
// theirs there may be fewer, in all and each, and those beyond are closed at once, so that they cannot lock the owner out.
type limitListener struct {
	net.Listener
	bounds bounds
	log    hclog.Logger
	free   chan struct{} // a token for each connection that may still be open
	closed chan struct{}
	once   sync.Once

	mu        sync.Mutex     // protects the following fields
	strangers map[uint32]int // connections, by uid
	all       int            // connections of strangers
	warned    time.Time      // when it was last logged that one was too many
	unsaid    int            // those since
}

func newLimitListener(lis net.Listener, b bounds, log hclog.Logger) *limitListener {
	l := &limitListener{
		Listener: lis, bounds: b, log: log, free: make(chan struct{}, b.connections), closed: make(chan struct{}), strangers: map[uint32]int{},
	}
	for range b.connections {
		l.free <- struct{}{}
	}
	return l
}

// Accept waits for a token, then for a connection that may be.
func (l *limitListener) Accept() (net.Conn, error) {
	select {
	case <-l.free:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			l.free <- struct{}{}
			return nil, err
		}
		leave, ok := l.enter(conn)
		if ok {
			return &limitedConn{Conn: conn, release: func() {
				leave()
				l.free <- struct{}{}
			}}, nil
		}
		_ = conn.Close()
	}
}

// enter counts a stranger's connection, if there may be one more.
func (l *limitListener) enter(conn net.Conn) (leave func(), ok bool) {
	p, err := connPeer(conn)
	if err != nil { // it has gone already, most likely
		return nil, false
	}
	if !p.Known || p.owner() {
		return func() {}, true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all >= l.bounds.strangers || l.strangers[p.UID] >= l.bounds.stranger {
		l.refusedLocked(p, time.Now())
		return nil, false
	}
	l.all++
	l.strangers[p.UID]++
	return func() { l.leave(p.UID) }, true
}

// refusedLocked logs that a connection was too many, once a second at most.
func (l *limitListener) refusedLocked(p Peer, now time.Time) {
	if l.unsaid++; now.Sub(l.warned) < time.Second {
		return
	}
	l.log.Warn("connection refused: too many are open", "peer", p.String(), "open", l.strangers[p.UID], "refused", l.unsaid)
	l.warned, l.unsaid = now, 0
}

func (l *limitListener) leave(uid uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.strangers[uid]--; l.strangers[uid] == 0 {
		delete(l.strangers, uid)
	}
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
