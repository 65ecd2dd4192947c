package tcp

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// maxPipe is how large pipes are made, in bytes, where the system allows: the largest chunk.
	maxPipe = 256 << 10
	// maxIdlePipes bounds the pipes that wait for work.
	maxIdlePipes = 64
)

// pipe holds one chunk in the kernel between two sockets.
type pipe struct {
	r, w int
	size int // how much to ask for at most
	n    int // bytes in it
}

func newPipe() (*pipe, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	p := &pipe{r: fds[0], w: fds[1]}
	// A user's pipes may be limited (pipe-user-pages-soft); then they stay as they are.
	size, err := unix.FcntlInt(uintptr(p.r), unix.F_SETPIPE_SZ, maxPipe)
	if err != nil {
		size, err = unix.FcntlInt(uintptr(p.r), unix.F_GETPIPE_SZ, 0)
	}
	if err != nil {
		p.close()
		return nil, os.NewSyscallError("fcntl", err)
	}
	p.size = size
	return p, nil
}

func (p *pipe) close() {
	_ = unix.Close(p.r) // a pipe's close does not fail
	_ = unix.Close(p.w)
}

// chunkPool keeps pipes for reuse. A flow has one only while it holds a chunk, so idle connections cost none. The zero value is ready;
// it is safe for concurrent use.
type chunkPool struct {
	mu     sync.Mutex // protects the following fields
	idle   []*pipe
	closed bool
}

func (cp *chunkPool) get() (*pipe, error) {
	cp.mu.Lock()
	if n := len(cp.idle); n > 0 {
		p := cp.idle[n-1]
		cp.idle = cp.idle[:n-1]
		cp.mu.Unlock()
		return p, nil
	}
	cp.mu.Unlock()
	return newPipe()
}

// put takes a pipe back. One with bytes left in it is closed: they belong to a connection.
func (cp *chunkPool) put(p *pipe) {
	cp.mu.Lock()
	keep := p.n == 0 && !cp.closed && len(cp.idle) < maxIdlePipes
	if keep {
		cp.idle = append(cp.idle, p)
	}
	cp.mu.Unlock()
	if !keep {
		p.close()
	}
}

func (cp *chunkPool) close() {
	cp.mu.Lock()
	idle := cp.idle
	cp.idle, cp.closed = nil, true
	cp.mu.Unlock()
	for _, p := range idle {
		p.close()
	}
}

// spliceMover moves chunks through a pipe with splice(2): they never enter this process.
type spliceMover struct {
	pool        *chunkPool
	dst, src    syscall.RawConn
	read, write func(fd uintptr) bool // fillFrom and drainTo, made once
	p           *pipe                 // nil: none held
	moved       int                   // what the last fill or drain moved
	err         error                 // and how it ended
}

// newMover returns a mover that splices if it can.
func newMover(dst, src net.Conn, pool *chunkPool) mover {
	d, dok := dst.(*net.TCPConn)
	s, sok := src.(*net.TCPConn)
	if !dok || !sok {
		return newBufferMover(dst, src)
	}
	rawDst, derr := d.SyscallConn()
	rawSrc, serr := s.SyscallConn()
	if derr != nil || serr != nil {
		return newBufferMover(dst, src)
	}
	m := &spliceMover{pool: pool, dst: rawDst, src: rawSrc}
	m.read, m.write = m.fillFrom, m.drainTo
	return m
}

func (m *spliceMover) fill() (int, error) {
	m.moved, m.err = 0, nil
	if err := m.src.Read(m.read); err != nil {
		return 0, err
	}
	switch {
	case m.err != nil:
		return 0, m.err
	case m.moved == 0:
		return 0, io.EOF
	}
	return m.moved, nil
}

// fillFrom is one try of fill; false waits until the socket is readable.
func (m *spliceMover) fillFrom(fd uintptr) bool {
	if m.p == nil {
		p, err := m.pool.get()
		if err != nil {
			m.err = errors.Join(errNoSplice, err)
			return true
		}
		m.p = p
	}
	n, err := splice(int(fd), m.p.w, m.p.size)
	switch {
	case errors.Is(err, unix.EAGAIN): // the pipe is empty, so it is the socket
		m.release()
		return false
	case errors.Is(err, unix.EINVAL): // this kernel, or this kind of socket, has no splice
		m.err = errNoSplice
	case err != nil:
		m.err = os.NewSyscallError("splice", err)
	}
	m.moved, m.p.n = n, n
	return true
}

func (m *spliceMover) drain() (int, error) {
	m.moved, m.err = 0, nil
	if err := m.dst.Write(m.write); err != nil {
		return m.moved, err
	}
	return m.moved, m.err
}

// drainTo is one try of drain; false waits until the socket is writable.
func (m *spliceMover) drainTo(fd uintptr) bool {
	for m.p.n > 0 {
		n, err := splice(m.p.r, int(fd), m.p.n)
		if errors.Is(err, unix.EAGAIN) { // the pipe is not empty, so it is the socket
			return false
		}
		if err == nil && n == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			m.err = os.NewSyscallError("splice", err)
			return true
		}
		m.moved += n
		m.p.n -= n
	}
	return true
}

func (m *spliceMover) release() {
	if m.p != nil {
		m.pool.put(m.p)
		m.p = nil
	}
}

// splice is splice(2) without offsets. Either end is a pipe.
func splice(from, to, limit int) (int, error) {
	for {
		n, err := unix.Splice(from, nil, to, nil, limit, unix.SPLICE_F_NONBLOCK)
		if !errors.Is(err, unix.EINTR) {
			return max(int(n), 0), err
		}
	}
}
