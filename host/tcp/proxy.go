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

	"github.com/hashicorp/go-hclog"

	"github.com/khelp/khelp/shared"
)

// DefaultDialTimeout bounds the dialling of an upstream.
const DefaultDialTimeout = 10 * time.Second

// ProxyOptions are the settings of one proxy: a tcp block.
type ProxyOptions struct {
	Name        string        // for messages, and the proxy of tcpv1.Segment
	Listen      string        // host:port; Subsystem.Listen only
	Upstream    string        // host:port, dialled for each connection
	Async       *bool         // what the proxy expects of the points; nil: whatever they are
	DialTimeout time.Duration // 0: DefaultDialTimeout
}

// Stats is what a proxy counted since it was made. The numbers are read one by one.
type Stats struct {
	Accepted     uint64 // connections
	Active       uint64 // connections that have not ended yet
	Refused      uint64 // connections turned away: by a hook on socket.newconn, or because their object could not be made
	DialFailed   uint64 // connections ended because the upstream could not be reached
	Rejected     uint64 // connections reset by a hook on socket.rcv or socket.snd
	Reset        uint64 // connections ended otherwise than by both sides finishing; those above included
	AcceptErrors uint64 // failures to accept, such as for lack of file descriptors; each is followed by a pause
	BytesIn      uint64 // read from clients
	BytesOut     uint64 // written to clients
	SegmentsIn   uint64 // reads from clients
	SegmentsOut  uint64 // writes to clients
}

type counters struct {
	accepted, refused, dialFailed, rejected, reset, acceptErrors atomic.Uint64
	bytesIn, bytesOut, segmentsIn, segmentsOut                   atomic.Uint64
}

// Proxy forwards the connections of one listener to one upstream. It is made by Subsystem.Listen or NewProxy and ends with Shutdown
// or Close. Safe for concurrent use by multiple goroutines.
type Proxy struct {
	sub          *Subsystem
	opts         ProxyOptions
	ln           net.Listener
	log          hclog.Logger
	stats        counters
	upstreamDown atomic.Bool

	ctx      context.Context // of making objects and dialling; ends when connections are cut
	cancel   context.CancelFunc
	stopping chan struct{} // closed when no more connections are accepted
	done     chan struct{} // closed when, after that, the last connection has ended

	mu      sync.Mutex // protects the following fields
	conns   map[*conn]struct{}
	serving bool
	stopped bool
}

func newProxy(s *Subsystem, ln net.Listener, opts ProxyOptions) *Proxy {
	if opts.DialTimeout == 0 {
		opts.DialTimeout = DefaultDialTimeout
	}
	p := &Proxy{
		sub: s, opts: opts, ln: ln, log: s.log.With("tcp", opts.Name),
		stopping: make(chan struct{}), done: make(chan struct{}), conns: map[*conn]struct{}{},
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// Name returns the proxy's name.
func (p *Proxy) Name() string { return p.opts.Name }

// Addr returns the address the proxy listens on.
func (p *Proxy) Addr() net.Addr { return p.ln.Addr() }

// Stats returns the proxy's counters.
func (p *Proxy) Stats() Stats {
	p.mu.Lock()
	active := len(p.conns)
	p.mu.Unlock()
	c := &p.stats
	return Stats{
		Accepted: c.accepted.Load(), Active: uint64(active), Refused: c.refused.Load(), DialFailed: c.dialFailed.Load(),
		Rejected: c.rejected.Load(), Reset: c.reset.Load(), AcceptErrors: c.acceptErrors.Load(),
		BytesIn: c.bytesIn.Load(), BytesOut: c.bytesOut.Load(), SegmentsIn: c.segmentsIn.Load(), SegmentsOut: c.segmentsOut.Load(),
	}
}

// Serve accepts connections and forwards them until Shutdown or Close, and returns nil when the last of them has ended. The end of ctx
// is a Close. A listener that fails for good ends the accepting and is the error; what was accepted before is served to its end first.
// Serving twice is ErrBusy.
func (p *Proxy) Serve(ctx context.Context) error {
	p.mu.Lock()
	if p.serving {
		p.mu.Unlock()
		return shared.ErrBusy.Errorf("tcp %q is being served already", p.opts.Name)
	}
	p.serving = true
	p.mu.Unlock()
	defer context.AfterFunc(ctx, func() {
		p.stop()
		p.cutAll()
	})()
	err := p.acceptAll()
	p.stop()
	<-p.done
	return err
}

// Shutdown stops accepting and waits for the connections to end by themselves. When ctx ends it cuts those that are left, and the error
// says how many and wraps ctx's. Clients that are accepted by the kernel but not by Serve are reset, unless the listener is shared with
// another process.
func (p *Proxy) Shutdown(ctx context.Context) error {
	p.stop()
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
	}
	n := p.cutAll()
	<-p.done
	if n == 0 {
		return nil
	}
	return fmt.Errorf("tcp %q: %d connections cut: %w", p.opts.Name, n, ctx.Err())
}

// Close stops accepting, resets every connection and waits until they are gone: as long as hooks that are under way take, which their
// heads' budgets bound. Closing again, or after Shutdown, is harmless.
func (p *Proxy) Close() error {
	p.stop()
	p.cutAll()
	<-p.done
	return nil
}

// stop ends the accepting. It does not wait.
func (p *Proxy) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return
	}
	p.stopped = true
	close(p.stopping)
	if err := p.ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		p.log.Warn("closing the listener failed", "error", err)
	}
	p.checkDoneLocked()
}

// cutAll resets the connections there are and returns their number. The proxy must have been stopped.
func (p *Proxy) cutAll() int {
	p.cancel()
	p.mu.Lock()
	conns := make([]*conn, 0, len(p.conns))
	for c := range p.conns {
		conns = append(conns, c)
	}
	p.mu.Unlock()
	for _, c := range conns {
		c.cut(errCut)
	}
	return len(conns)
}

func (p *Proxy) checkDoneLocked() {
	if p.stopped && len(p.conns) == 0 {
		p.cancel()
		close(p.done)
		p.sub.forget(p)
	}
}

// add takes a connection in, unless the proxy has been stopped in the meantime.
func (p *Proxy) add(c *conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *Proxy) remove(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	p.checkDoneLocked()
}

// The pauses after a failure to accept, so that a process without file descriptors does not spin.
const (
	minAcceptPause = 5 * time.Millisecond
	maxAcceptPause = time.Second
)

// acceptAll accepts until the proxy is stopped or the listener fails for good.
func (p *Proxy) acceptAll() error {
	pause := time.Duration(0)
	for {
		client, err := p.ln.Accept()
		if err == nil {
			pause = 0
			p.start(client)
			continue
		}
		select {
		case <-p.stopping:
			return nil
		default:
		}
		if listenerGone(err) {
			return fmt.Errorf("tcp %q: %w", p.opts.Name, err)
		}
		p.stats.acceptErrors.Add(1)
		pause = min(max(2*pause, minAcceptPause), maxAcceptPause)
		p.log.Warn("accepting a connection failed, pausing", "error", err, "pause", pause)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-p.stopping:
			timer.Stop()
			return nil
		}
	}
}

// listenerGone tells a listener that will never accept again from a condition that passes.
func listenerGone(err error) bool {
	for _, errno := range []error{net.ErrClosed, syscall.EBADF, syscall.EINVAL, syscall.ENOTSOCK, syscall.EOPNOTSUPP} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

func (p *Proxy) start(client net.Conn) {
	p.stats.accepted.Add(1)
	c := newConn(p, client)
	if !p.add(c) {
		c.cut(errCut)
		return
	}
	go c.serve()
}

// reportDial logs an upstream that goes away once, and its return once: a line per connection would drown the log.
func (p *Proxy) reportDial(err error) {
	switch {
	case err != nil && !p.upstreamDown.Swap(true):
		p.log.Warn("the upstream cannot be reached", "upstream", p.opts.Upstream, "error", err)
	case err == nil && p.upstreamDown.Load() && p.upstreamDown.Swap(false):
		p.log.Info("the upstream can be reached again", "upstream", p.opts.Upstream)
	}
}
