package control

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hosttest/testkit"
	"github.com/khelp/khelp/shared"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// fakeHost answers with what its functions say and keeps what it was asked.
type fakeHost struct {
	stat    func(ctx context.Context, name string) (host.Stat, error)
	hooks   []host.HeadStat
	objects func(host.ObjectFilter) ([]host.ObjectStat, error)
	change  func(ctx context.Context) error // Load and Unload

	mu     sync.Mutex // protects the following fields
	specs  []shared.HelperSpec
	loads  []host.LoadOptions
	unload []host.UnloadOptions
}

func (f *fakeHost) Load(ctx context.Context, spec shared.HelperSpec, opts host.LoadOptions) error {
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
	testkit.CheckLeaks(t)
	path = filepath.Join(t.TempDir(), "c.sock")
	lis, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	srv = newServer(h, opts)
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
