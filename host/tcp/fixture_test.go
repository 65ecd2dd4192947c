package tcp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/osd"
	"github.com/khelp/khelp/host/tcp"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/points/tcpv1"
)

// patience bounds every wait of a test.
const patience = 20 * time.Second

func TestMain(m *testing.M) {
	before := openSockets()
	code := m.Run()
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if code == 0 && !settled(before) {
		fmt.Fprintf(os.Stderr, "%d sockets and pipes are open after the tests, %d were before\n", openSockets(), before)
		code = 1
	}
	os.Exit(code)
}

// settled waits until no more than n sockets and pipes are open. The net package leaves the pipes of its own splicing to the garbage
// collector.
func settled(n int) bool {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); openSockets() > n; <-tick.C {
		if time.Now().After(end) {
			return false
		}
		runtime.GC()
	}
	return true
}

// openSockets counts the sockets and pipes of the process, where /proc tells.
func openSockets() int {
	n := 0
	links, _ := filepath.Glob("/proc/self/fd/*")
	for _, link := range links {
		target, err := os.Readlink(link)
		if err == nil && (strings.HasPrefix(target, "socket:") || strings.HasPrefix(target, "pipe:")) {
			n++
		}
	}
	return n
}

// testHost registers heads and makes objects, and nothing else.
type testHost struct {
	t       testing.TB
	objects osd.Table

	mu     sync.Mutex // protects the following fields
	heads  map[shared.HookPoint]*hhook.Head
	probes []*probe
	nextID uint64
	refuse error // what NewObject fails with
}

func (h *testHost) RegisterHead(point shared.HookPoint, opts hhook.Options) (*hhook.Head, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.heads[point] != nil {
		return nil, shared.ErrExist.Errorf("%s is registered already", point)
	}
	head, err := hhook.NewHead(point, "", opts, func(*hhook.Head) {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.heads, point)
	})
	if err == nil {
		h.heads[point] = head
	}
	return head, err
}

func (h *testHost) NewObject(ctx context.Context, classes ...shared.Class) (*osd.Object, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.refuse != nil {
		return nil, h.refuse
	}
	h.nextID++
	o := osd.NewObject(h.nextID, "", classes, nil, h)
	h.objects.Add(o)
	return o, nil
}

func (h *testHost) DestroyObject(_ context.Context, o *osd.Object) error {
	h.objects.Remove(o)
	return nil
}

func (h *testHost) head(point shared.HookPoint) *hhook.Head {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.heads[point]
}

// probe is a hook in this process. It is its own target and counts its calls.
type probe struct {
	point shared.HookPoint
	head  *hhook.Head
	hook  *hhook.Hook
	base  uint64 // forwarded when it was attached
	calls atomic.Uint64
	run   func(inv hhook.Invocation) hhook.Outcome // nil: commit
}

func (p *probe) Call(_ context.Context, inv hhook.Invocation) hhook.Outcome {
	p.calls.Add(1)
	if p.run == nil {
		return hhook.Outcome{}
	}
	return p.run(inv)
}

func (p *probe) Queue(ctx context.Context, inv hhook.Invocation) { inv.Done(p.Call(ctx, inv), 0) }

// attach adds a hook to a point. If there is traffic already, none may be under way.
func (h *testHost) attach(point shared.HookPoint, run func(inv hhook.Invocation) hhook.Outcome) *probe {
	h.t.Helper()
	h.mu.Lock()
	p := &probe{point: point, head: h.heads[point], run: run}
	id := shared.HelperID(len(h.probes) + 1)
	h.probes = append(h.probes, p)
	h.mu.Unlock()
	p.hook = hhook.NewHook(hhook.HookConfig{Helper: fmt.Sprintf("probe%d", id), ID: id, InProc: true, Target: p})
	p.base = p.head.Options().Forwarded()
	if err := p.head.Add(p.hook); err != nil {
		h.t.Fatal(err)
	}
	return p
}

// verify checks, for a hook that stayed to the end, that what was forwarded since equals what it made of it.
func (p *probe) verify(t testing.TB) {
	t.Helper()
	got := p.hook.Stats().Read()
	handled := got.Committed + got.Skipped
	for _, n := range got.Missed {
		handled += n
	}
	if forwarded := p.head.Options().Forwarded() - p.base; forwarded != handled {
		t.Errorf("%s: forwarded %d, %s committed %d, missed %v, skipped %d", p.point, forwarded, p.hook.Helper, got.Committed,
			got.Missed, got.Skipped)
	}
}

// fixture is a host, a subsystem, a proxy on it and an upstream behind that.
type fixture struct {
	*testHost
	sub      *tcp.Subsystem
	proxy    *tcp.Proxy
	others   []*tcp.Proxy // that a test added
	upstream *net.TCPListener
}

// wrapped hides that its connections are TCP, but for what its methods tell, so that they are neither spliced nor asked for TCP_INFO.
type wrapped struct{ net.Listener }

type wrappedConn struct{ *net.TCPConn }

func (w wrapped) Accept() (net.Conn, error) {
	c, err := w.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return wrappedConn{c.(*net.TCPConn)}, nil
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
	f := &fixture{testHost: &testHost{t: t, heads: map[shared.HookPoint]*hhook.Head{}}}
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
	var ln net.Listener = listen(t)
	if wrap {
		ln = wrapped{ln}
	}
	f.proxy, err = f.sub.NewProxy(ln, tcp.ProxyOptions{Name: "web", Upstream: f.upstream.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- f.proxy.Serve(context.Background()) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
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
		for {
			c, err := f.upstream.AcceptTCP()
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
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln.(*net.TCPListener)
}

func deadline(c net.Conn) {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		panic(err)
	}
}

// dial connects to the proxy.
func (f *fixture) dial() *net.TCPConn {
	f.t.Helper()
	c, err := net.Dial("tcp", f.proxy.Addr().String())
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { c.Close() })
	deadline(c)
	return c.(*net.TCPConn)
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
	eventually(f.t, "the connections to end", func() bool { return f.proxy.Stats().Active == 0 })
}

func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !done(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
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

func reject(reason string) func(hhook.Invocation) hhook.Outcome {
	return func(hhook.Invocation) hhook.Outcome { return hhook.Outcome{Reject: true, Reason: reason} }
}
