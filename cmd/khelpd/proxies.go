package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/khelp/khelp/config"
	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/tcp"
	"github.com/khelp/khelp/shared"
)

// proxies are the tcp blocks of a configuration: a subsystem for each vnet among them, and a proxy for each block.
type proxies struct {
	log        hclog.Logger
	subsystems map[string]*tcp.Subsystem
	list       []*tcp.Proxy
	serving    sync.WaitGroup // the goroutines of serve
}

// listenProxies registers the points and takes every port, or nothing. Sockets passed in by the service manager are used where they
// fit. Connections wait in the kernel until serve.
func listenProxies(ctx context.Context, h *host.Host, blocks []config.TCP, log hclog.Logger) (*proxies, error) {
	in, err := inheritedListeners()
	if err != nil {
		return nil, err
	}
	p := &proxies{log: log, subsystems: map[string]*tcp.Subsystem{}}
	for _, b := range blocks {
		// All ports are tried, so that all that are busy are told at once.
		err = errors.Join(err, p.listen(ctx, h, b, in))
	}
	if err = errors.Join(err, in.close(log)); err != nil {
		return nil, errors.Join(err, p.close(ctx))
	}
	return p, nil
}

func (p *proxies) listen(ctx context.Context, h *host.Host, b config.TCP, in *inherited) error {
	sub, err := p.subsystem(h, b)
	if err != nil {
		return blame(fmt.Errorf("tcp %q: %w", b.Name, err))
	}
	opts := tcp.ProxyOptions{Name: b.Name, Listen: b.Listen, Upstream: b.Upstream, Async: &b.Async}
	var proxy *tcp.Proxy
	if lis := in.take(b.Name, b.Listen); lis != nil {
		if proxy, err = sub.NewProxy(lis, opts); err != nil {
			return blame(errors.Join(err, lis.Close()))
		}
	} else if proxy, err = sub.Listen(ctx, opts); err != nil {
		return blame(err)
	}
	p.list = append(p.list, proxy)
	p.log.Info("listening", "tcp", b.Name, "address", proxy.Addr().String(), "upstream", b.Upstream, "vnet", b.Vnet)
	return nil
}

// blame tells blocks that make no sense, alone or together, from ports that cannot be had.
func blame(err error) error {
	if errors.Is(err, shared.ErrInvalid) {
		return &configError{err}
	}
	return err
}

func (p *proxies) subsystem(h *host.Host, b config.TCP) (*tcp.Subsystem, error) {
	if sub := p.subsystems[b.Vnet]; sub != nil {
		return sub, nil
	}
	vnet, err := h.Vnet(b.Vnet)
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

// serve starts serving connections; failed gets what a proxy ends with before it was asked to.
func (p *proxies) serve(failed func(error)) {
	for _, proxy := range p.list {
		p.serving.Go(func() { failed(proxy.Serve(context.Background())) }) // ends with drain or close
	}
}

// drain stops accepting and lets connections end by themselves until ctx ends; then it cuts them.
func (p *proxies) drain(ctx context.Context) error {
	errs := make([]error, len(p.list))
	var wg sync.WaitGroup
	for i, proxy := range p.list {
		wg.Go(func() {
			if err := proxy.Shutdown(ctx); err != nil {
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
	var errs []error
	for _, sub := range p.subsystems {
		errs = append(errs, sub.Close(ctx))
	}
	p.serving.Wait()
	return errors.Join(errs...)
}
