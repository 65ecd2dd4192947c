package tcp_test

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/hosttest/testkit"
	"github.com/khelp/khelp/host/tcp"
	"github.com/khelp/khelp/shared"
)

// faultyListener fails with the errors it is given, one by one, and after that accepts.
type faultyListener struct {
	net.Listener
	faults chan error
}

func (l faultyListener) Accept() (net.Conn, error) {
	select {
	case err := <-l.faults:
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", err)}
	default:
		return l.Listener.Accept()
	}
}

func TestAcceptErrors(t *testing.T) {
	h := &testHost{t: t, heads: map[shared.HookPoint]*hhook.Head{}}
	sub, err := tcp.New(h, tcp.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ln := faultyListener{Listener: listen(t), faults: make(chan error, 4)}
	p, err := sub.NewProxy(ln, tcp.ProxyOptions{Name: "web", Upstream: "127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ECONNABORTED, syscall.EMFILE} {
		ln.faults <- errno
	}
	served := make(chan error, 1)
	go func() { served <- p.Serve(context.Background()) }()
	testkit.Until(t, "three failures to accept", func() bool { return p.Stats().AcceptErrors == 3 })
	ln.faults <- syscall.EBADF
	// The listener is asked for a connection by now, or will meet the fault at once.
	if c, err := net.Dial("tcp", p.Addr().String()); err == nil {
		c.Close()
	}
	if err := <-served; !errors.Is(err, syscall.EBADF) || !strings.HasPrefix(err.Error(), `tcp "web": accept tcp`) {
		t.Errorf("Serve with a listener that is gone: %v", err)
	}
	if err := p.Serve(context.Background()); !errors.Is(err, shared.ErrBusy) {
		t.Errorf("Serve again: %v", err)
	}
	if err := sub.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if _, err := sub.NewProxy(ln, tcp.ProxyOptions{Name: "late", Upstream: "127.0.0.1:1"}); !errors.Is(err, shared.ErrClosed) {
		t.Errorf("a proxy on a closed subsystem: %v, want ErrClosed", err)
	}
}

func TestServeAfterClose(t *testing.T) {
	f := newFixture(t, false, tcp.Options{}, echo)
	p, err := f.sub.Listen(t.Context(), tcp.ProxyOptions{Name: "two", Listen: "127.0.0.1:0", Upstream: f.upstream.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := p.Serve(context.Background()); err != nil {
		t.Errorf("Serve after Close: %v, want nil", err)
	}
	if err := p.Shutdown(context.Background()); err != nil {
		t.Errorf("Shutdown after Close: %v", err)
	}
}
