package tcp

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// spliceMover moves chunks through a pipe with splice(2), so that they never enter this process, and through a buffer what splice does
// not take.
//
// Splice and read differ on a socket with urgent data: splice stops in front of the urgent byte, for good, with EAGAIN, and once the end
// of the stream has arrived with 0, however much is left. The same goes for bytes that a sockmap holds. So what splice says of a socket
// without bytes is never believed: only a read ends a flow or makes it wait. Readiness comes as an edge, and one that was taken for
// something else would not come again.
type spliceMover struct {
	pool   *chunkPool
	dst    net.Conn
	rawDst syscall.RawConn
	rawSrc syscall.RawConn
	inline bool // the source keeps urgent bytes in the stream, where atMark finds them

	// Methods, bound once.
	read, write, writeUrgent func(fd uintptr) bool

	p       *pipe             // nil: none held
	buf     *[bufferSize]byte // likewise
	n       int               // bytes of a chunk in buf; 0: the chunk is in p
	urgent  bool              // the one byte in buf is urgent
	noPipes bool              // splice or pipes are not to be had: everything goes through buf

	likely bool    // bytes are there in all likelihood: try splice before asking
	waited bool    // the last fill had to wait
	peeked [1]byte // memory for asking
	moved  int     // what the last fill or drain moved
	err    error   // and how it ended
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
	m := &spliceMover{pool: pool, dst: dst, rawDst: rawDst, rawSrc: rawSrc}
	m.read, m.write, m.writeUrgent = m.fillFrom, m.drainTo, m.drainUrgentTo
	// A socket that cannot, or is closed, drops urgent bytes by itself.
	_ = rawSrc.Control(func(fd uintptr) {
		m.inline = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_OOBINLINE, 1) == nil
	})
	return m
}

func (m *spliceMover) fill() (int, error) {
	m.moved, m.err = 0, nil
	// In a stream of requests each chunk is waited for, and in a bulk transfer none: taking the next to be like the last costs neither
	// a system call too many.
	m.likely, m.waited = !m.waited, false
	if err := m.rawSrc.Read(m.read); err != nil {
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
	if m.likely && m.fillPipe(int(fd)) {
		return true
	}
	n, err := receive(int(fd), m.peeked[:], unix.MSG_PEEK)
	switch {
	case errors.Is(err, unix.EAGAIN):
		return m.wait()
	case err != nil || n == 0:
		m.err = os.NewSyscallError("recvfrom", err)
		return true
	}
	if !m.likely && m.fillPipe(int(fd)) {
		return true
	}
	return m.fillBuffer(int(fd))
}

// wait makes fillFrom wait, holding nothing.
func (m *spliceMover) wait() bool {
	m.release()
	m.likely, m.waited = true, true
	return false
}

// fillPipe is fillFrom by splice. It reports whether that brought bytes or an error; if not a read has to tell what there is.
func (m *spliceMover) fillPipe(fd int) bool {
	if m.noPipes {
		return false
	}
	if m.p == nil {
		p, err := m.pool.get()
		if err != nil {
			m.noPipes = true
			return false
		}
		m.p = p
	}
	n, err := splice(fd, m.p.w, m.p.size)
	switch {
	case errors.Is(err, unix.EAGAIN): // the pipe is empty, so it is the socket
		return false
	case errors.Is(err, unix.EINVAL): // this kernel, or this kind of socket, has no splice
		m.noPipes = true
		return false
	case err != nil:
		m.err = os.NewSyscallError("splice", err)
		return true
	}
	m.moved, m.p.n = n, n
	return n > 0
}

// fillBuffer is fillFrom by a read, of a socket that has bytes. An urgent byte is a chunk of its own; a read ends in front of one.
func (m *spliceMover) fillBuffer(fd int) bool {
	if m.buf == nil {
		m.buf = getBuffer()
	}
	chunk := m.buf[:]
	// The first byte has arrived, and its mark, if it has one, before it.
	if m.urgent = m.inline && atMark(fd); m.urgent {
		chunk = chunk[:1]
	}
	n, err := receive(fd, chunk, 0)
	if errors.Is(err, unix.EAGAIN) {
		return m.wait()
	}
	m.moved, m.n, m.err = n, n, os.NewSyscallError("recvfrom", err)
	return true
}

func (m *spliceMover) drain() (int, error) {
	m.moved, m.err = 0, nil
	n := m.n
	m.n = 0
	switch {
	case n == 0:
		if err := m.rawDst.Write(m.write); err != nil {
			return m.moved, err
		}
	case m.urgent:
		if err := m.rawDst.Write(m.writeUrgent); err != nil {
			return 0, err
		}
	default:
		return m.dst.Write(m.buf[:n])
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

// drainUrgentTo is drainTo for an urgent byte.
func (m *spliceMover) drainUrgentTo(fd uintptr) bool {
	err := unix.Send(int(fd), m.buf[:1], unix.MSG_OOB|unix.MSG_NOSIGNAL)
	for errors.Is(err, unix.EINTR) {
		err = unix.Send(int(fd), m.buf[:1], unix.MSG_OOB|unix.MSG_NOSIGNAL)
	}
	switch {
	case errors.Is(err, unix.EAGAIN):
		return false
	case err != nil:
		m.err = os.NewSyscallError("sendto", err)
	default:
		m.moved = 1
	}
	return true
}

func (m *spliceMover) release() {
	if m.p != nil {
		m.pool.put(m.p)
		m.p = nil
	}
	if m.buf != nil {
		putBuffer(m.buf)
		m.buf, m.n = nil, 0
	}
}

// receive reads from a socket without waiting. At the end of the stream it returns 0 and no error. It is unix.Recvfrom without the
// allocation.
func receive(fd int, b []byte, flags int) (int, error) {
	for {
		n, _, errno := unix.Syscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
			uintptr(flags|unix.MSG_DONTWAIT), 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// atMark reports whether the next byte is the urgent one: sockatmark(3).
func atMark(fd int) bool {
	mark, err := unix.IoctlGetUint32(fd, unix.SIOCATMARK)
	return err == nil && mark != 0
}
