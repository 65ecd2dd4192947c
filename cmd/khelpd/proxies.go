package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/khelp/khelp/config"
	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/control"
	"github.com/khelp/khelp/host/tcp"
	"github.com/khelp/khelp/shared"
)

// proxies are the tcp blocks of a configuration: a subsystem for each vnet among them, and a proxy for each block. Those of blocks that a
// reload has taken out or replaced go on until their connections have ended.
type proxies struct {
	host   *host.Host
	log    hclog.Logger
	failed func(error) // gets what a proxy ends with before it was asked to

	serving sync.WaitGroup // the goroutines of serve and retire

	mu         sync.Mutex // protects the following fields
	subsystems map[string]*tcp.Subsystem
	list       []*proxied
	retired    []*proxied
	ending     bool
}

// proxied is a tcp block with its proxy.
type proxied struct {
	block config.TCP
	lis   net.Listener // the proxy's own
	proxy *tcp.Proxy
	ended chan struct{} // closed when it is served no more
}

// listenProxies registers the points and takes every port, or nothing. Sockets passed in by the service manager are used where they
// fit. Connections wait in the kernel until serve.
func listenProxies(ctx context.Context, h *host.Host, blocks []config.TCP, log hclog.Logger, failed func(error)) (*proxies, error) {
	in, err := inheritedListeners()
	if err != nil {
		return nil, err
	}
	p := &proxies{host: h, log: log, failed: failed, subsystems: map[string]*tcp.Subsystem{}}
	for _, b := range blocks {
		// All ports are tried, so that all that are busy are told at once.
		made, badBlock := p.open(ctx, b, func(b config.TCP) (net.Listener, error) { return in.take(b.Name, b.Listen), nil })
		if badBlock != nil {
			err = errors.Join(err, blame(badBlock))
			continue
		}
		p.list = append(p.list, made)
	}
	if err = errors.Join(err, in.close(log)); err != nil {
		return nil, errors.Join(err, p.close(ctx))
	}
	return p, nil
}

// open makes the proxy of a block, on the socket that there is for it or else on a new one.
func (p *proxies) open(ctx context.Context, b config.TCP, there func(config.TCP) (net.Listener, error)) (*proxied, error) {
	sub, err := p.subsystem(b)
	if err != nil {
		return nil, fmt.Errorf("tcp %q: %w", b.Name, err)
	}
	lis, err := there(b)
	if err == nil && lis == nil {
		lis, err = listenTCP(ctx, b.Listen)
	}
	if err != nil {
		return nil, fmt.Errorf("tcp %q: %w", b.Name, err)
	}
	proxy, err := sub.NewProxy(lis, tcp.ProxyOptions{Name: b.Name, Upstream: b.Upstream, Async: &b.Async})
	if err != nil {
		return nil, errors.Join(err, lis.Close())
	}
	p.log.Info("listening", "tcp", b.Name, "address", lis.Addr().String(), "upstream", b.Upstream, "vnet", b.Vnet)
	return &proxied{block: b, lis: lis, proxy: proxy, ended: make(chan struct{})}, nil
}

func listenTCP(ctx context.Context, address string) (net.Listener, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // as tcp.Subsystem.Listen has it, and for its reasons
	return lc.Listen(ctx, "tcp", address)
}

// blame tells blocks that make no sense, alone or together, from ports that cannot be had.
func blame(err error) error {
	if errors.Is(err, shared.ErrInvalid) {
		return &configError{err}
	}
	return err
}

func (p *proxies) subsystem(b config.TCP) (*tcp.Subsystem, error) {
	if sub := p.subsystems[b.Vnet]; sub != nil {
		return sub, nil
	}
	vnet, err := p.host.Vnet(b.Vnet)
	if err != nil {
		return nil, err
	}
	sub, err := tcp.New(vnet, tcp.Options{Vnet: b.Vnet, Async: &b.Async, Logger: p.log.Named("tcp")})
	if err != nil {
		return nil, err
	}
	p.subsystems[b.Vnet] = sub
	return sub, nil
}

// serve starts serving connections.
func (p *proxies) serve() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, x := range p.list {
		p.start(x)
	}
}

func (p *proxies) start(x *proxied) {
	p.serving.Go(func() { // ends with retire, drain or close
		defer close(x.ended)
		if err := x.proxy.Serve(context.Background()); !errors.Is(err, net.ErrClosed) { // which retire has done
			p.failed(err)
		}
	})
}

// blocks returns the tcp blocks there are.
func (p *proxies) blocks() []config.TCP {
	p.mu.Lock()
	defer p.mu.Unlock()
	blocks := make([]config.TCP, len(p.list))
	for i, x := range p.list {
		blocks[i] = x.block
	}
	return blocks
}

// change makes other blocks the ones there are, and returns what was done. Each step is made or, with its error, not at all; the block is
// then what it was. Connections that there are go on as they are, and a listening socket that an old and a new block have in common is
// handed on and not closed in between.
func (p *proxies) change(ctx context.Context, blocks []config.TCP) []control.PartChange {
	changes := tcpChanges(p.blocks(), blocks)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ending {
		return nil
	}
	leaving := slices.DeleteFunc(slices.Clone(p.list), func(x *proxied) bool {
		return slices.ContainsFunc(blocks, func(b config.TCP) bool { return b.Name == x.block.Name && sameBlock(b, x.block) })
	})
	var next []*proxied
	for _, b := range blocks {
		x := p.named(b.Name)
		if x != nil && sameBlock(x.block, b) {
			next = append(next, x)
			continue
		}
		made, err := p.reopen(ctx, b, leaving)
		if err == nil {
			p.start(made)
			next = append(next, made)
			continue
		}
		for i := range changes {
			if changes[i].Name == b.Name {
				changes[i].Err = err
			}
		}
		if x != nil { // it stays what it is
			next = append(next, x)
		}
	}
	for _, x := range p.list {
		if !slices.Contains(next, x) {
			p.retire(x)
		}
	}
	p.list = next
	p.closeUnused(ctx)
	return changes
}

// reopen is open while the daemon runs, with the sockets of the blocks that leave at hand.
func (p *proxies) reopen(ctx context.Context, b config.TCP, leaving []*proxied) (*proxied, error) {
	if sub := p.subsystems[b.Vnet]; sub != nil && sub.Async() != b.Async {
		return nil, shared.ErrBusy.Errorf("tcp %q: the points of vnet %q are in use with async = %t; to change that takes a restart of the daemon",
			b.Name, b.Vnet, sub.Async())
	}
	x, err := p.open(ctx, b, func(b config.TCP) (net.Listener, error) { return handOver(leaving, b) })
	if isAddrInUse(err) {
		err = shared.ErrBusy.Errorf("%w", err) // whoever asked may be in another process, where errnos do not get to
	}
	return x, err
}

func (p *proxies) named(name string) *proxied {
	for _, x := range p.list {
		if x.block.Name == name {
			return x
		}
	}
	return nil
}

// handOver returns a copy of the listening socket of a block that leaves and listened on the same address, or nil. A port of the system's
// choice stays with the name.
func handOver(leaving []*proxied, b config.TCP) (net.Listener, error) {
	for _, x := range leaving {
		_, port, _ := net.SplitHostPort(b.Listen)
		same := x.block.Listen == b.Listen && (x.block.Name == b.Name || port != "0") || sameAddress(x.lis.Addr(), b.Listen)
		socket, ok := x.lis.(*net.TCPListener)
		if !same || !ok {
			continue
		}
		file, err := socket.File()
		if err != nil {
			return nil, fmt.Errorf("the socket cannot be handed over: %w", err)
		}
		lis, err := net.FileListener(file)
		return lis, errors.Join(err, file.Close())
	}
	return nil, nil
}

// retire has a proxy accept no more, and end with its last connection.
func (p *proxies) retire(x *proxied) {
	p.retired = append(p.retired, x)
	p.log.Info("accepting no more", "tcp", x.block.Name, "address", x.lis.Addr().String(), "connections", x.proxy.Stats().Active)
	// Without its listener the proxy serves what it has accepted to the end. Shutdown would cut what it is just accepting.
	_ = x.lis.Close()
	p.serving.Go(func() {
		<-x.ended
		p.mu.Lock()
		defer p.mu.Unlock()
		p.retired = slices.DeleteFunc(p.retired, func(r *proxied) bool { return r == x })
		ctx, cancel := context.WithTimeout(context.Background(), drainLimit)
		defer cancel()
		p.closeUnused(ctx)
	})
}

// closeUnused unregisters the points of vnets that no block is left in, and no connection.
func (p *proxies) closeUnused(ctx context.Context) {
	if p.ending {
		return // close does it
	}
	for vnet, sub := range p.subsystems {
		if !slices.ContainsFunc(slices.Concat(p.list, p.retired), func(x *proxied) bool { return x.block.Vnet == vnet }) {
			if err := sub.Close(ctx); err != nil {
				p.log.Warn("points could not be unregistered", "vnet", vnet, "error", err)
				continue
			}
			delete(p.subsystems, vnet)
		}
	}
}

// end has no more blocks change, and returns every proxy.
func (p *proxies) end() []*proxied {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ending = true
	return slices.Concat(p.list, p.retired)
}

// drain stops accepting and lets connections end by themselves until ctx ends; then it cuts them.
func (p *proxies) drain(ctx context.Context) error {
	all := p.end()
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, x := range all {
		wg.Go(func() {
			if err := x.proxy.Shutdown(ctx); err != nil {
				errs[i] = fmt.Errorf("connections were cut: %w", err)
			}
		})
	}
	wg.Wait()
	p.serving.Wait()
	return errors.Join(errs...)
}

// close cuts what is left and unregisters the points.
func (p *proxies) close(ctx context.Context) error {
	p.end()
	var errs []error
	for _, sub := range p.subsystems {
		errs = append(errs, sub.Close(ctx))
	}
	p.serving.Wait()
	return errors.Join(errs...)
}
