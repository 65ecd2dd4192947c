package tcp_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/hosttest/testkit"
	"github.com/khelp/khelp/host/tcp"
	"github.com/khelp/khelp/shared/points/tcpv1"
)

// A socket that has sent its end of stream is not forgotten: if it dies after that, the other side learns of it at once.
func TestResetAfterHalfClose(t *testing.T) {
	t.Run("by the client", func(t *testing.T) {
		atEnd, ended := make(chan struct{}), make(chan error, 1)
		f := newFixture(t, false, tcp.Options{}, func(c *net.TCPConn) {
			_, _ = io.Copy(io.Discard, struct{ io.Reader }{c})
			close(atEnd)
			// The end was read, so a reset shows only in the state of the socket, and in what waits for it.
			ended <- waitError(c)
		})
		words := lastWords(f)
		c := f.dial()
		_ = c.CloseWrite()
		<-atEnd
		reset(t, c)
		if err := <-ended; !isReset(err) {
			t.Errorf("the upstream's socket has %v, want a reset", err)
		}
		wantError(t, words, "client: ")
	})
	t.Run("by the upstream", func(t *testing.T) {
		read := make(chan struct{})
		f := newFixture(t, false, tcp.Options{}, func(c *net.TCPConn) {
			_ = c.CloseWrite()
			<-read
			reset(t, c)
		})
		words := lastWords(f)
		c := f.dial()
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		close(read)
		if err := waitError(c); !isReset(err) {
			t.Errorf("the client's socket has %v, want a reset", err)
		}
		wantError(t, words, "upstream: ")
	})
}

// waitError waits for the pending error of a socket.
func waitError(c *net.TCPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	errno := 0
	if err := raw.Read(func(fd uintptr) bool {
		errno, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		return errno != 0
	}); err != nil {
		return err
	}
	return syscall.Errno(errno)
}

func TestTCPInfo(t *testing.T) {
	f := newFixture(t, false, tcp.Options{}, echo)
	words := lastWords(f)
	var acked, received atomic.Uint64
	f.attach(tcpv1.EstIn, func(inv hhook.Invocation) hhook.Outcome {
		info := decode(t, inv.Context).TcpInfo
		if info == nil || info.Cwnd == 0 || info.Mss == 0 || info.RttUs == 0 {
			t.Errorf("TCP_INFO is %v", info)
			return hhook.Outcome{}
		}
		acked.Store(info.BytesAcked)
		received.Store(info.BytesReceived)
		return hhook.Outcome{}
	})
	c := f.dial()
	for range 3 {
		ask(t, c, "hello")
	}
	c.Close()
	if info := wantError(t, words).TcpInfo; info == nil || info.BytesReceived != 15+1 { // the end of stream counts as one
		t.Errorf("socket.close has TCP_INFO %v", info)
	}
	if received.Load() != 15 || acked.Load() < 10 {
		t.Errorf("received %d, acknowledged %d", received.Load(), acked.Load())
	}
}

func TestTimeIsTheKernelsMonotonicClock(t *testing.T) {
	f := newFixture(t, false, tcp.Options{}, echo)
	now := func() uint64 {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
			t.Fatal(err)
		}
		return uint64(ts.Nano())
	}
	words := lastWords(f)
	const slack = uint64(time.Millisecond) // of tying the clocks together
	before := now() - slack
	f.dial().Close()
	seg := wantError(t, words)
	if after := now() + slack; seg.OpenedNs < before || seg.TimeNs > after {
		t.Errorf("opened at %d, closed at %d, between %d and %d", seg.OpenedNs, seg.TimeNs, before, after)
	}
}

// Without file descriptors for a pipe the bytes take the long way; without any for a connection the proxy waits and goes on.
func TestNoFileDescriptors(t *testing.T) {
	f := newFixture(t, false, tcp.Options{}, func(c *net.TCPConn) {
		_, _ = io.CopyBuffer(struct{ io.Writer }{c}, struct{ io.Reader }{c}, make([]byte, 100))
	})
	second, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(second)
	var restore func()
	f.attach(tcpv1.NewConn, func(hhook.Invocation) hhook.Outcome {
		if restore == nil {
			restore = limitFiles(t, 2) // both ends of the connection to the upstream
		}
		return hhook.Outcome{}
	})
	c := f.dial()
	ask(t, c, "through a buffer")
	defer restore()
	to := netip.MustParseAddrPort(f.proxy.Addr().String())
	if err := unix.Connect(second, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}); err != nil {
		t.Fatal(err)
	}
	testkit.Until(t, "failures to accept", func() bool { return f.proxy.Stats().AcceptErrors > 1 })
	ask(t, c, "still")
	restore()
	testkit.Until(t, "the second connection", func() bool { return f.proxy.Stats().Accepted == 2 })
	ask(t, c, "again")
}

// limitFiles leaves the process room for n more file descriptors, until the returned function is called.
func limitFiles(t *testing.T, n int) func() {
	t.Helper()
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	// Descriptors are given out from the lowest free one up.
	free := make([]int, n+1)
	for i := range free {
		fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		free[i] = fd
	}
	for _, fd := range free {
		unix.Close(fd)
	}
	limit := before
	limit.Cur = uint64(free[n])
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
			t.Error(err)
		}
	}
}
