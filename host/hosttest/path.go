package hosttest

import (
	"context"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc/test/bufconn"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/shared/helper"
)

// Path is a helper path whose helpers run in this process, over the same protocol as in one of their own. A host that has its Attach in
// host.Config finds them by name, also for requirements and on demand, and may start each as often as it likes. It is safe for concurrent
// use.
type Path struct {
	t     testing.TB
	ended sync.WaitGroup // helpers that have been started

	mu      sync.Mutex // protects the following fields
	serve   map[string]func(context.Context, net.Listener) error
	running map[string][]context.CancelFunc
	starts  map[string]int
}

// NewPath returns an empty path. What it has started is ended with the test, after what is made later, such as the host.
func NewPath(t testing.TB) *Path {
	p := &Path{
		t: t, serve: map[string]func(context.Context, net.Listener) error{},
		running: map[string][]context.CancelFunc{}, starts: map[string]int{},
	}
	t.Cleanup(func() {
		p.mu.Lock()
		for _, cancels := range p.running {
			for _, cancel := range cancels {
				cancel()
			}
		}
		p.mu.Unlock()
		p.ended.Wait()
	})
	return p
}

// Put puts a helper on the path, instead of one of that name: the next start gets it.
func Put[S any](p *Path, hp helper.Helper[S]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.serve[hp.Name] = func(ctx context.Context, lis net.Listener) error { return helper.Run(ctx, lis, hp) }
}

// Remove takes a helper off the path. One that runs goes on.
func (p *Path) Remove(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.serve, name)
}

// Attach is for host.Config.Attach.
func (p *Path) Attach(name string) host.Dialer {
	p.mu.Lock()
	defer p.mu.Unlock()
	serve := p.serve[name]
	if serve == nil {
		return nil
	}
	lis := bufconn.Listen(pipeSize)
	var once sync.Once
	return func(ctx context.Context) (net.Conn, error) {
		once.Do(func() { p.start(name, serve, lis) })
		return lis.DialContext(ctx)
	}
}

func (p *Path) start(name string, serve func(context.Context, net.Listener) error, lis net.Listener) {
	ctx, cancel := context.WithCancel(context.Background())
	p.mu.Lock()
	p.running[name] = append(p.running[name], cancel)
	p.starts[name]++
	p.mu.Unlock()
	p.ended.Go(func() {
		defer cancel()
		if err := serve(ctx, lis); err != nil {
			p.t.Errorf("helper %s: %v", name, err)
		}
	})
}

// Starts returns how often a helper has been started.
func (p *Path) Starts(name string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.starts[name]
}

// Crash ends all that runs of a helper, without a word to its host.
func (p *Path) Crash(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, cancel := range p.running[name] {
		cancel()
	}
	delete(p.running, name)
}
