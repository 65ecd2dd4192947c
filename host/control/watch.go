package control

import (
	"context"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"
)

// deadline closes a connection unless it is disarmed in time.
type deadline struct {
	mu    sync.Mutex // protects timer
	timer *time.Timer
}

// arm gives the caller so long from now on.
func (d *deadline) arm(limit time.Duration, conn net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
	}
	d.timer = time.AfterFunc(limit, func() { _ = conn.Close() })
}

func (d *deadline) disarm() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

// connection is what a server knows of one connection.
type connection struct {
	net.Conn
	peer Peer

	mu     sync.Mutex // protects the following fields
	calls  int        // under way
	closed bool

	without deadline // runs while there is no call
}

// call counts a call that begins or ends. A connection without any is closed after a while, whatever of its answers is still unread:
// gRPC closes idle connections too, but does not call idle one whose caller has yet to read.
func (c *connection) call(change int, idle time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls += change; c.calls == 0 && !c.closed {
		c.without.arm(idle, c)
	} else {
		c.without.disarm()
	}
}

// Close ends the connection and its deadline.
func (c *connection) Close() error {
	c.mu.Lock()
	c.closed = true
	c.without.disarm()
	c.mu.Unlock()
	return c.Conn.Close()
}

// watch hangs up on a caller that does not send the whole of a request, or does not read an answer. gRPC itself would wait for as long
// as the connection is there, with a goroutine and whatever is to be sent.
type watch struct {
	conn *connection
	deadline
}

func (w *watch) arm(limit time.Duration) { w.deadline.arm(limit, w.conn) }

type watchKey struct{}

// contextWatch returns the watch over the call that ctx belongs to, or nil where there is none, as when a request has not begun.
func contextWatch(ctx context.Context) *watch {
	w, _ := ctx.Value(watchKey{}).(*watch)
	return w
}

// watcher puts a watch over every call: it is a stats.Handler, which alone hears when a request begins and when it is complete.
type watcher struct {
	bounds bounds
}

// TagRPC gives the call its watch.
func (watcher) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	if conn := contextPeerInfo(ctx).conn; conn != nil {
		return context.WithValue(ctx, watchKey{}, &watch{conn: conn})
	}
	return ctx
}

// HandleRPC follows the call.
func (w watcher) HandleRPC(ctx context.Context, s stats.RPCStats) {
	watch := contextWatch(ctx)
	if watch == nil {
		return
	}
	switch s.(type) {
	case *stats.Begin:
		watch.conn.call(1, 2*w.bounds.idle)
		watch.arm(w.bounds.sending)
	case *stats.InPayload:
		watch.disarm()
	case *stats.End:
		watch.disarm()
		watch.conn.call(-1, 2*w.bounds.idle)
	}
}

// TagConn is part of the interface.
func (watcher) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn is part of the interface.
func (watcher) HandleConn(context.Context, stats.ConnStats) {}

// watchedStream hangs up on a caller that does not read what it is sent.
type watchedStream struct {
	grpc.ServerStream
	limit time.Duration
}

// SendMsg returns when the message is on its way, which takes until the caller has read enough of those before.
func (s watchedStream) SendMsg(m any) error {
	if w := contextWatch(s.Context()); w != nil {
		w.arm(s.limit)
		defer w.disarm()
	}
	return s.ServerStream.SendMsg(m)
}
