package hosttest

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc/test/bufconn"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/helper"
)

// pipeSize is the buffer of an in-memory connection, in bytes each way.
const pipeSize = 1 << 20

// New returns a host that is shut down at the end of the test, which fails if that does not go in order.
func New(t testing.TB, cfg host.Config) *host.Host {
	t.Helper()
	h, err := host.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			t.Errorf("the host does not shut down in order: %v", err)
		}
	})
	return h
}

// Serve serves a helper in this process, over the same protocol as one of its own, and returns how to connect to it. It is served until
// the host ends its control stream, or until the test ends.
func Serve[S any](t testing.TB, hp helper.Helper[S]) host.Dialer {
	t.Helper()
	lis := bufconn.Listen(pipeSize)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- helper.Run(ctx, lis, hp) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("helper %s: %v", hp.Name, err)
		}
	})
	return func(ctx context.Context) (net.Conn, error) { return lis.DialContext(ctx) }
}

// Load serves a helper in this process and loads it. The spec may be empty. At the end of the test the helper is unloaded, if nothing
// holds it any more.
func Load[S any](t testing.TB, h *host.Host, hp helper.Helper[S], spec shared.HelperSpec) {
	t.Helper()
	spec.Name = hp.Name
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := h.Load(ctx, spec, host.LoadOptions{Dial: Serve(t, hp)}); err != nil {
		t.Fatalf("loading %s: %v", hp.Name, err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		err := h.Unload(ctx, hp.Name, host.UnloadOptions{})
		if err != nil && !errors.Is(err, shared.ErrNotExist) && !errors.Is(err, shared.ErrBusy) {
			t.Errorf("unloading %s: %v", hp.Name, err)
		}
	})
}
