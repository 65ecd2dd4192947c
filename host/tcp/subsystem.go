package tcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/osd"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/points/tcpv1"
)

// Registrar is what the subsystem needs of a host. *host.Host is one, for the default vnet, and so is *host.Vnet.
type Registrar interface {
	// RegisterHead makes a hook point: hhook_head_register.
	RegisterHead(point shared.HookPoint, opts hhook.Options) (*hhook.Head, error)
	// NewObject makes an object that helpers of the given classes follow: khelp_init_osd.
	NewObject(ctx context.Context, classes ...shared.Class) (*osd.Object, error)
}

// Options are the settings of a subsystem. The zero value works.
type Options struct {
	// Vnet is the name of the registrar's vnet. It is used in messages only.
	Vnet string
	// Async says whether tcp.est_in, tcp.est_out and socket.close leave their hooks to run by themselves; nil: they do. It is a
	// property of the hook heads, so all proxies of a vnet share it.
	Async *bool
	// Budget bounds what one passing of a point may cost a connection, whatever its helpers do; 0: shared.DefaultBudget.
	Budget time.Duration
	// Logger is where the subsystem reports; nil: nowhere.
	Logger hclog.Logger
}

// The subsystem's own numbers for its points: the order of tcpv1.Points.
const (
	ptNewConn = iota
	ptEstIn
	ptRcv
	ptSnd
	ptEstOut
	ptClose
	numPoints
)

// point is one hook point of a subsystem.
type point struct {
	name      shared.HookPoint
	head      *hhook.Head
	forwarded atomic.Uint64
}

// Subsystem is the TCP subsystem of one vnet: the six hook heads and the proxies that pass them. It is made by New and ends with Close.
// Safe for concurrent use by multiple goroutines.
type Subsystem struct {
	reg    Registrar
	opts   Options
	async  bool
	log    hclog.Logger
	points [numPoints]point
	pool   chunkPool

	mu      sync.Mutex // protects the following fields
	proxies map[*Proxy]struct{}
	closed  bool
}

// New registers the six points of tcpv1.Points with a host. A vnet has room for one subsystem: for a second New the error is ErrExist,
// and nothing is left behind.
func New(reg Registrar, opts Options) (*Subsystem, error) {
	s := &Subsystem{reg: reg, opts: opts, async: opts.Async == nil || *opts.Async, log: opts.Logger, proxies: map[*Proxy]struct{}{}}
	if s.log == nil {
		s.log = hclog.NewNullLogger()
	}
	for i := range s.points {
		pt := &s.points[i]
		pt.name = tcpv1.Points[i]
		head, err := reg.RegisterHead(pt.name, s.headOptions(pt))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("hook point %s: %w", pt.name, err), s.closeHeads(context.Background()))
		}
		pt.head = head
	}
	return s, nil
}

func (s *Subsystem) headOptions(pt *point) hhook.Options {
	o := hhook.Options{Kind: hhook.Observe, Async: s.async, Budget: s.opts.Budget, Context: tcpv1.Message, Forwarded: pt.forwarded.Load}
	switch pt.name {
	case tcpv1.NewConn, tcpv1.Rcv, tcpv1.Snd:
		o.Kind, o.Async = hhook.Filter, false
	}
	return o
}

// Async reports whether the observe points leave their hooks to run by themselves.
func (s *Subsystem) Async() bool { return s.async }

// Forwarded returns how often the subsystem passed each of its points since New, with hooks on them or without. The numbers are read
// one by one.
func (s *Subsystem) Forwarded() map[shared.HookPoint]uint64 {
	m := make(map[shared.HookPoint]uint64, numPoints)
	for i := range s.points {
		m[s.points[i].name] = s.points[i].forwarded.Load()
	}
	return m
}

// Close cuts every connection, as Proxy.Close does, and unregisters the points. A point that others hold is ErrBusy and stays; Close may
// then be called again. Ctx bounds the wait for hooks under way.
func (s *Subsystem) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	proxies := make([]*Proxy, 0, len(s.proxies))
	for p := range s.proxies {
		proxies = append(proxies, p)
	}
	s.mu.Unlock()
	var errs []error
	for _, p := range proxies {
		errs = append(errs, p.Close())
	}
	s.pool.close()
	return errors.Join(append(errs, s.closeHeads(ctx))...)
}

func (s *Subsystem) closeHeads(ctx context.Context) error {
	var errs []error
	for i := range s.points {
		if head := s.points[i].head; head != nil {
			errs = append(errs, head.Close(ctx))
		}
	}
	return errors.Join(errs...)
}

// Listen makes a proxy that listens on opts.Listen. The error names the proxy and the address; errors.Is(err, syscall.EADDRINUSE) tells
// a busy port. Connections are accepted by the kernel from now on and served once Serve runs.
func (s *Subsystem) Listen(ctx context.Context, opts ProxyOptions) (*Proxy, error) {
	if err := s.check(opts); err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	// Multipath TCP has no single TCP_INFO, and no splice.
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(ctx, "tcp", opts.Listen)
	if err != nil {
		return nil, fmt.Errorf("tcp %q: %w", opts.Name, err)
	}
	p, err := s.NewProxy(ln, opts)
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return p, nil
}

// NewProxy makes a proxy on a listener that exists already, such as one that was passed in by the service manager; opts.Listen is not
// looked at. The proxy owns the listener from then on; if there is an error, the caller keeps it.
func (s *Subsystem) NewProxy(ln net.Listener, opts ProxyOptions) (*Proxy, error) {
	if err := s.check(opts); err != nil {
		return nil, err
	}
	p := newProxy(s, ln, opts)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, shared.ErrClosed.Errorf("tcp %q: the subsystem is closed", opts.Name)
	}
	s.proxies[p] = struct{}{}
	return p, nil
}

func (s *Subsystem) check(opts ProxyOptions) error {
	if opts.Upstream == "" {
		return shared.ErrInvalid.Errorf("tcp %q: no upstream", opts.Name)
	}
	if opts.Async != nil && *opts.Async != s.async {
		return shared.ErrInvalid.Errorf("tcp %q: async = %v, but the points of %s were registered with async = %v; "+
			"proxies of one vnet share its points, so give all of them the same value or this one a vnet of its own",
			opts.Name, *opts.Async, vnetText(s.opts.Vnet), s.async)
	}
	return nil
}

func vnetText(name string) string {
	if name == "" {
		return "the default vnet"
	}
	return fmt.Sprintf("vnet %q", name)
}

func (s *Subsystem) forget(p *Proxy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.proxies, p)
}
