package control

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hosttest/testkit"
	"github.com/khelp/khelp/shared"
)

func TestMain(m *testing.M) { testkit.Main(m, programs) }

// fakeHost answers with what its functions say and keeps what it was asked.
type fakeHost struct {
	stat    func(ctx context.Context, name string) (host.Stat, error)
	hooks   []host.HeadStat
	objects func(host.ObjectFilter) ([]host.ObjectStat, error)
	change  func(ctx context.Context) error // Load, Unload, Restart, Hold and Rele
	known   map[string]shared.Modinfo
	history []host.Event
	events  *fakeFollower[host.Event]
	logs    func(name string) ([]host.LogRecord, error)
	lines   *fakeFollower[host.LogRecord]
	changes []host.Change

	mu        sync.Mutex // protects the following fields
	specs     []shared.HelperSpec
	loads     []host.LoadOptions
	unload    []host.UnloadOptions
	described []string
	planned   []shared.HelperSpec
	others    []string // other changes, and of whom
}

// fakeFollower delivers what its channel does; a closed channel is the end of the host.
type fakeFollower[T any] struct {
	what   chan T
	closed atomic.Int32
}

func (f *fakeFollower[T]) Next(ctx context.Context) (T, error) {
	select {
	case v, ok := <-f.what:
		if !ok {
			return v, shared.ErrClosed.Errorf("the host is shut down")
		}
		return v, nil
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

func (f *fakeFollower[T]) Close() { f.closed.Add(1) }

func (f *fakeHost) Follow() follower[host.Event] { return f.events }

func (f *fakeHost) FollowLogs(name string) ([]host.LogRecord, follower[host.LogRecord], error) {
	records, err := f.logs(name)
	if err != nil {
		return nil, nil, err
	}
	return records, f.lines, nil
}

func (f *fakeHost) History() []host.Event { return f.history }

func (f *fakeHost) Known(spec shared.HelperSpec) (shared.Modinfo, bool) {
	info, ok := f.known[spec.Name]
	return info, ok
}

func (f *fakeHost) Describe(_ context.Context, spec shared.HelperSpec) (shared.Modinfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.described = append(f.described, spec.Name)
	return shared.Modinfo{Name: spec.Name}, nil
}

func (f *fakeHost) Plan(specs []shared.HelperSpec) ([]host.Change, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.planned = specs
	return f.changes, nil
}

func (f *fakeHost) Restart(ctx context.Context, name string) error {
	return f.other(ctx, "restart "+name)
}

func (f *fakeHost) Hold(name string) error { return f.other(context.Background(), "hold "+name) }

func (f *fakeHost) Rele(name string) error { return f.other(context.Background(), "rele "+name) }

func (f *fakeHost) other(ctx context.Context, what string) error {
	f.mu.Lock()
	f.others = append(f.others, what)
	f.mu.Unlock()
	if f.change != nil {
		return f.change(ctx)
	}
	return nil
}

func (f *fakeHost) Load(ctx context.Context, spec shared.HelperSpec, opts host.LoadOptions) error {
	opts.Loaded("itself")
	opts.Loaded = nil // functions do not compare
	f.mu.Lock()
	f.specs, f.loads = append(f.specs, spec), append(f.loads, opts)
	f.mu.Unlock()
	if f.change != nil {
		return f.change(ctx)
	}
	return nil
}

func (f *fakeHost) Unload(ctx context.Context, _ string, opts host.UnloadOptions) error {
	f.mu.Lock()
	f.unload = append(f.unload, opts)
	f.mu.Unlock()
	if f.change != nil {
		return f.change(ctx)
	}
	return nil
}

func (f *fakeHost) Stat(ctx context.Context, name string) (host.Stat, error) {
	if f.stat != nil {
		return f.stat(ctx, name)
	}
	return host.Stat{}, nil
}

func (f *fakeHost) Hooks() []host.HeadStat { return f.hooks }

func (f *fakeHost) Objects(filter host.ObjectFilter) ([]host.ObjectStat, error) {
	if f.objects != nil {
		return f.objects(filter)
	}
	return nil, nil
}

// serve serves a fake host on a socket of its own until the test ends, and checks that the end is clean.
func serve(t *testing.T, h backend, opts Options) (path string, srv *Server) {
	t.Helper()
	return serveWithin(t, h, opts, usual)
}

func serveWithin(t *testing.T, h backend, opts Options, b bounds) (path string, srv *Server) {
	t.Helper()
	testkit.CheckLeaks(t)
	path = filepath.Join(t.TempDir(), "c.sock")
	lis, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	srv = newServer(h, opts, b)
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(lis) }()
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if _, err := net.Dial("unix", path); err == nil {
			t.Error("the socket is still there after Close")
		}
	})
	return path, srv
}

// dial connects and closes at the end of the test.
func dial(t *testing.T, path string) *Client {
	t.Helper()
	c, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return c
}

func wantIs(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want one that is %v", err, want)
	}
}
