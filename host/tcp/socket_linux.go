package tcp

import (
	"net"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/khelp/khelp/shared/points/tcpv1"
)

// errReset is what a socket says whose other end was reset.
const errReset = syscall.ECONNRESET

// clockBase ties Go's monotonic clock, which is read without a system call, to CLOCK_MONOTONIC, which it is on Linux.
var clockBase, clockStart = func() (uint64, time.Time) {
	var ts unix.Timespec
	start := time.Now()
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0, start
	}
	return uint64(ts.Nano()), start
}()

// monotonic returns CLOCK_MONOTONIC in nanoseconds.
func monotonic() uint64 { return clockBase + uint64(time.Since(clockStart)) }

// infoReader reads TCP_INFO of one socket, for one goroutine.
type infoReader struct {
	raw  syscall.RawConn
	ask  func(fd uintptr) // readFrom, made once
	info unix.TCPInfo
	err  error
}

// open sets the socket. Without a TCP connection read will return nothing.
func (r *infoReader) open(c net.Conn) {
	if tc, ok := c.(*net.TCPConn); ok {
		r.raw, r.err = tc.SyscallConn()
		r.ask = r.readFrom
	}
}

func (r *infoReader) opened() bool { return r.ask != nil }

// readFrom is unix.GetsockoptTCPInfo without the allocation.
func (r *infoReader) readFrom(fd uintptr) {
	r.info = unix.TCPInfo{}
	size := uint32(unsafe.Sizeof(r.info))
	r.err = nil
	if _, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.IPPROTO_TCP, unix.TCP_INFO,
		uintptr(unsafe.Pointer(&r.info)), uintptr(unsafe.Pointer(&size)), 0); errno != 0 {
		r.err = errno
	}
}

// fetch fills r.info; fields that the kernel does not know are 0.
func (r *infoReader) fetch() bool {
	return r.raw != nil && r.raw.Control(r.ask) == nil && r.err == nil
}

// read fills m from the socket and reports whether it could.
func (r *infoReader) read(m *tcpv1.TcpInfo) bool {
	if !r.fetch() {
		return false
	}
	info := &r.info
	m.BytesAcked, m.BytesReceived, m.BytesSent = info.Bytes_acked, info.Bytes_received, info.Bytes_sent
	m.RttUs, m.RttvarUs, m.MinRttUs = info.Rtt, info.Rttvar, info.Min_rtt
	m.Cwnd, m.Retransmits, m.DeliveryRate = info.Snd_cwnd, info.Total_retrans, info.Delivery_rate
	m.Unacked, m.Mss, m.DeliveredCe = info.Unacked, info.Snd_mss, info.Delivered_ce
	return true
}

// socketDead reports whether a TCP socket is closed for the kernel, though not for us: it was reset, or both sides have finished.
func socketDead(c net.Conn) bool {
	var r infoReader
	r.open(c)
	return r.fetch() && r.info.State == unix.BPF_TCP_CLOSE
}

// watchReset waits, on a socket that has been read to its end, until it is reset, which is the error, or closed or woken by a
// deadline, which is nil.
func watchReset(c net.Conn) error {
	var r infoReader
	if r.open(c); r.raw == nil {
		return nil
	}
	var reset error
	// Readiness comes as an edge, so a socket at its end wakes this once for each thing that happens to it. The error is of the waiting
	// itself: closed, or woken.
	_ = r.raw.Read(func(fd uintptr) bool {
		errno, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && errno != 0 {
			reset = syscall.Errno(errno)
		}
		return reset != nil
	})
	return reset
}
