package tcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/khelp/khelp/host/osd"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/points/tcpv1"
)

const (
	// destroyTimeout bounds how long the end of a connection waits for its helpers. The sockets are closed before.
	destroyTimeout = 5 * time.Second
	// graceTime is how long a connection one of whose ends is dead may take to hand on what that end had sent before it died.
	graceTime = time.Second
)

// errCut is why a connection ends that Close or Shutdown did not wait for.
var errCut = errors.New("cut by the proxy")

// conn is one connection: a client, its upstream and the object that helpers follow. The goroutine that runs serve owns it, and the
// one that runs the flow to the client, which serve starts and waits for.
type conn struct {
	p         *Proxy
	client    net.Conn
	obj       *osd.Object
	addr      addresses
	opened    uint64                   // clock of tcpv1.Segment.TimeNs
	forwarded [numPoints]atomic.Uint64 // how often each point was passed
	in, out   flow
	ended     atomic.Int32 // flows that have ended

	mu       sync.Mutex // protects the following fields
	upstream net.Conn   // nil: not yet
	cause    error      // why the connection ends, if not in good order
	closed   bool
	grace    *time.Timer
}

type addresses struct{ client, local, upstream string }

func newConn(p *Proxy, client net.Conn) *conn {
	c := &conn{p: p, client: client, opened: monotonic()}
	c.addr.client, c.addr.local = addrText(client.RemoteAddr()), addrText(client.LocalAddr())
	return c
}

// addrText is addr's text. Some systems do not know the address of a connection that died before it was accepted.
func addrText(addr net.Addr) string {
	if addr == nil {
		return ""
	}
	return addr.String()
}

// serve takes the connection through its whole life.
func (c *conn) serve() {
	defer c.p.remove(c)
	obj, err := c.p.sub.reg.NewObject(c.p.ctx, tcpv1.ClassTCP, tcpv1.ClassSocket)
	if err != nil {
		c.p.stats.refused.Add(1)
		c.p.stats.reset.Add(1)
		c.p.log.Error("connection refused: its object cannot be made", "client", c.addr.client, "error", err)
		c.cut(err)
		return
	}
	c.obj = obj
	obj.SetName(c.addr.client + "->" + c.addr.local)
	obj.SetForwarded(c.forwardedByPoint)
	if err := c.open(); err != nil {
		c.fail(err)
	} else {
		c.relay()
	}
	c.end()
}

// open asks the hooks of socket.newconn and dials the upstream.
func (c *conn) open() error {
	if err := c.pass(ptNewConn, &c.in.msg); err != nil {
		c.p.stats.refused.Add(1)
		return err
	}
	d := net.Dialer{Timeout: c.p.opts.DialTimeout}
	upstream, err := d.DialContext(c.p.ctx, "tcp", c.p.opts.Upstream)
	if c.p.ctx.Err() == nil {
		c.p.reportDial(err)
	}
	if err != nil {
		c.p.stats.dialFailed.Add(1)
		return fmt.Errorf("upstream: %w", err)
	}
	c.addr.upstream = addrText(upstream.RemoteAddr())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.upstream = upstream
	if c.closed {
		c.closeLocked()
		return c.cause
	}
	return nil
}

// relay forwards both ways until both have ended.
func (c *conn) relay() {
	c.in.init(c, c.client, c.upstream, "client", "upstream")
	c.out.init(c, c.upstream, c.client, "upstream", "client")
	c.in.peer, c.out.peer = &c.out, &c.in
	var wg sync.WaitGroup
	wg.Go(func() { c.out.run(c.out.forwardOut) })
	c.in.run(c.in.forwardIn)
	wg.Wait()
}

// flowEnded tells that a flow has ended, and wakes the one that watches for a reset if it was the last.
func (c *conn) flowEnded() (last bool) {
	if c.ended.Add(1) < 2 {
		return false
	}
	for _, s := range []net.Conn{c.client, c.upstream} {
		_ = s.SetReadDeadline(time.Unix(1, 0)) // fails on a closed socket, where nobody waits
	}
	return true
}

// fail notes why the connection ends, if nothing was noted before. What is under way goes on, for graceTime at most.
func (c *conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != nil {
		return
	}
	c.cause = err
	c.grace = time.AfterFunc(graceTime, func() { c.cut(err) })
}

// failed reports whether there is a cause.
func (c *conn) failed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause != nil
}

// cut resets both sides at once. The first cause stays.
func (c *conn) cut(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause == nil {
		c.cause = err
	}
	c.closed = true
	c.closeLocked()
}

// closeLocked closes both sockets, with a reset if there is a cause. Closing again does nothing.
func (c *conn) closeLocked() {
	for _, s := range []net.Conn{c.client, c.upstream} {
		if s == nil {
			continue
		}
		if l, ok := s.(interface{ SetLinger(int) error }); ok && c.cause != nil {
			_ = l.SetLinger(0) // fails on a closed socket only
		}
		_ = s.Close() // nothing can be done about a failure, and nothing is held by it
	}
}

// end closes the sockets, passes socket.close and ends the object, in this order: no helper keeps a socket open.
func (c *conn) end() {
	c.mu.Lock()
	if c.grace != nil {
		c.grace.Stop()
	}
	cause := c.cause
	c.mu.Unlock()

	m := &c.in.msg
	m.closing(c, cause)
	if c.p.sub.points[ptClose].head.Enabled() {
		m.encode(c) // while the socket can still be asked
	}
	c.mu.Lock()
	c.closed = true
	c.closeLocked()
	c.mu.Unlock()

	_ = c.pass(ptClose, m) // an observer rejects nothing
	ctx, cancel := context.WithTimeout(context.Background(), destroyTimeout)
	defer cancel()
	if err := c.obj.Destroy(ctx); err != nil {
		c.p.log.Warn("the end of a connection's object failed", "object", c.obj.ID(), "client", c.addr.client, "error", err)
	}
	if cause != nil {
		c.p.stats.reset.Add(1)
	}
	if c.p.log.IsDebug() {
		c.p.log.Debug("connection ended", "object", c.obj.ID(), "client", c.addr.client, "bytes_in", c.in.bytes, "bytes_out", c.out.bytes,
			"cause", cause)
	}
}

// pass counts the passing of a point and runs its hooks, if it has any. The error tells why a filter's hooks rejected.
//
// The count goes first, so that nobody ever sees more calls than passings. Hooks do not run under the context of the connection: a
// call that is broken off would be a missed one, and the head's budget bounds it anyway.
func (c *conn) pass(i int, m *message) error {
	pt := &c.p.sub.points[i]
	c.forwarded[i].Add(1)
	pt.forwarded.Add(1)
	if !pt.head.Enabled() {
		return nil
	}
	m.encode(c)
	verdict, err := pt.head.Run(context.Background(), c.obj, m.buf)
	if err == nil {
		err = verdict.Err()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", pt.name, err)
	}
	return nil
}

func (c *conn) forwardedByPoint() map[shared.HookPoint]uint64 {
	m := make(map[shared.HookPoint]uint64, numPoints)
	for i := range c.forwarded {
		m[tcpv1.Points[i]] = c.forwarded[i].Load()
	}
	return m
}

// peerDied reports whether a write failed because the other end is gone, so that reading from it ends by itself.
func peerDied(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}
