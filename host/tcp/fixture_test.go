package tcp_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/hosttest/testkit"
	"github.com/khelp/khelp/host/tcp"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/points/tcpv1"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// fixture is a host, a subsystem, a proxy on it and an upstream behind that.
type fixture struct {
	*testHost
	sub      *tcp.Subsystem
	proxy    *tcp.Proxy
	others   []*tcp.Proxy // that a test added
	upstream *net.TCPListener
	starved  chan struct{} // has a token when the upstream had no descriptor for a connection
}

// wrapped hides that its connections are TCP, but for what its methods tell, so that they are neither spliced nor asked for TCP_INFO.
type wrapped struct{ *net.TCPListener }

type wrappedConn struct{ *net.TCPConn }

func (w wrapped) Accept() (net.Conn, error) {
	c, err := w.AcceptTCP()
	if err != nil {
		return nil, err
	}
	return wrappedConn{c}, nil
}

// bothWays runs a test with spliced and with buffered connections.
func bothWays(t *testing.T, test func(t *testing.T, wrap bool)) {
	t.Run("spliced", func(t *testing.T) { test(t, false) })
	t.Run("buffered", func(t *testing.T) { test(t, true) })
}

// newFixture starts everything. Serve is called by handle for each connection to the upstream; nil: there is no upstream. At the end
// everything is checked: objects gone, hooks' counts, heads gone.
func newFixture(t testing.TB, wrap bool, opts tcp.Options, handle func(*net.TCPConn)) *fixture {
	t.Helper()
	testkit.CheckLeaks(t)
	f := &fixture{testHost: &testHost{t: t, heads: map[shared.HookPoint]*hhook.Head{}}, starved: make(chan struct{}, 1)}
	var err error
	f.upstream = listen(t)
	if handle == nil {
		f.upstream.Close()
	} else {
		f.serveUpstream(handle)
	}
	if f.sub, err = tcp.New(f, opts); err != nil {
		t.Fatal(err)
	}
	tcpListener := listen(t)
	var ln net.Listener = tcpListener
	if wrap {
		ln = wrapped{tcpListener}
	}
	f.proxy, err = f.sub.NewProxy(ln, tcp.ProxyOptions{Name: "web", Upstream: f.upstream.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- f.proxy.Serve(context.Background()) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
		defer cancel()
		if err := f.proxy.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		f.verify()
		if err := f.sub.Close(ctx); err != nil {
			t.Error(err)
		}
		if n := len(f.heads); n != 0 {
			t.Errorf("%d heads are left", n)
		}
	})
	return f
}

func (f *fixture) verify() {
	f.t.Helper()
	if n := f.objects.Len(); n != 0 {
		f.t.Errorf("%d objects are left", n)
	}
	for _, p := range f.probes {
		if p.head.Enabled() {
			p.verify(f.t)
		}
	}
	forwarded, stats := f.sub.Forwarded(), f.proxy.Stats()
	for _, p := range f.others {
		other := p.Stats()
		stats.SegmentsIn += other.SegmentsIn
		stats.SegmentsOut += other.SegmentsOut
		stats.Active += other.Active
	}
	if forwarded[tcpv1.NewConn] != forwarded[tcpv1.Close] {
		f.t.Errorf("%d connections were opened and %d closed", forwarded[tcpv1.NewConn], forwarded[tcpv1.Close])
	}
	if forwarded[tcpv1.EstIn] != stats.SegmentsIn || forwarded[tcpv1.EstOut] != stats.SegmentsOut || stats.Active != 0 {
		f.t.Errorf("forwarded %v, but the proxy counted %+v", forwarded, stats)
	}
}

func (f *fixture) serveUpstream(handle func(*net.TCPConn)) {
	var wg sync.WaitGroup
	wg.Go(func() {
		for first := true; ; first = false {
			c, err := f.upstream.AcceptTCP()
			for first && errors.Is(err, syscall.EMFILE) { // of a test that limits them, and has to take that back
				select {
				case f.starved <- struct{}{}:
				default:
				}
				runtime.Gosched()
				c, err = f.upstream.AcceptTCP()
			}
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				deadline(c)
				handle(c)
			})
		}
	})
	f.t.Cleanup(func() {
		f.upstream.Close()
		wg.Wait()
	})
}

func listen(t testing.TB) *net.TCPListener {
	t.Helper()
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func resolve(t testing.TB, addr net.Addr) *net.TCPAddr {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func deadline(c net.Conn) {
	if err := c.SetDeadline(time.Now().Add(testkit.Patience)); err != nil {
		panic(err)
	}
}

// dial connects to the proxy.
func (f *fixture) dial() *net.TCPConn {
	f.t.Helper()
	c, err := net.DialTCP("tcp", nil, resolve(f.t, f.proxy.Addr()))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { c.Close() })
	deadline(c)
	return c
}

// dialRefused connects to the proxy and wants a reset, which may come before the connection is even noticed here.
func (f *fixture) dialRefused() {
	f.t.Helper()
	c, err := net.Dial("tcp", f.proxy.Addr().String())
	if err != nil {
		if !isReset(err) {
			f.t.Errorf("dialling ended with %v, want a reset", err)
		}
		return
	}
	defer c.Close()
	deadline(c)
	expectReset(f.t, c)
}

// idle waits until every connection has ended.
func (f *fixture) idle() {
	f.t.Helper()
	testkit.Until(f.t, "the connections to end", func() bool { return f.proxy.Stats().Active == 0 })
}

// ask sends a message and expects it back.
func ask(t testing.TB, c net.Conn, text string) {
	t.Helper()
	send(t, c, text)
	expect(t, c, text)
}

func send(t testing.TB, c net.Conn, text string) {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

func expect(t testing.TB, c net.Conn, text string) {
	t.Helper()
	buf := make([]byte, len(text))
	for n := 0; n < len(buf); {
		m, err := c.Read(buf[n:])
		if err != nil {
			t.Fatalf("after %q: %v", buf[:n], err)
		}
		n += m
	}
	if !bytes.Equal(buf, []byte(text)) {
		t.Fatalf("got %q, want %q", buf, text)
	}
}

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// expectReset reads until the connection ends, and wants a reset.
func expectReset(t testing.TB, c net.Conn) {
	t.Helper()
	buf := make([]byte, 4096)
	for {
		if _, err := c.Read(buf); err != nil {
			if !isReset(err) {
				t.Errorf("the connection ended with %v, want a reset", err)
			}
			return
		}
	}
}

func decode(t testing.TB, b []byte) *tcpv1.Segment {
	var seg tcpv1.Segment
	if err := seg.Decode(b); err != nil {
		t.Error(err)
	}
	return &seg
}
