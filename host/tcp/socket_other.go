//go:build !linux

package tcp

import (
	"net"
	"syscall"
	"time"

	"github.com/khelp/khelp/shared/points/tcpv1"
)

// errReset is what a socket says whose other end was reset.
const errReset = syscall.ECONNRESET

var clockStart = time.Now()

// monotonic returns nanoseconds since the process started.
func monotonic() uint64 { return uint64(time.Since(clockStart)) }

// infoReader reads nothing: TCP_INFO is Linux's.
type infoReader struct{}

func (*infoReader) open(net.Conn) {}

func (*infoReader) opened() bool { return true }

func (*infoReader) read(*tcpv1.TcpInfo) bool { return false }

// socketDead is not known here: a reset that a write met is found by its own error.
func socketDead(net.Conn) bool { return false }

// watchReset does not watch here: a reset of a half-closed connection is found by the next write.
func watchReset(net.Conn) error { return nil }
