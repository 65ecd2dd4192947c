package tcp

import (
	"net"
	"sync"
)

// bufferSize is the largest chunk that goes through this process, in bytes: what io.Copy takes.
const bufferSize = 32 << 10

var buffers sync.Pool // of *[bufferSize]byte

func getBuffer() *[bufferSize]byte {
	if buf, ok := buffers.Get().(*[bufferSize]byte); ok {
		return buf
	}
	return new([bufferSize]byte)
}

func putBuffer(buf *[bufferSize]byte) { buffers.Put(buf) }

// bufferMover copies through a buffer. It works between all connections and on all systems.
type bufferMover struct {
	dst, src net.Conn
	buf      *[bufferSize]byte
	n        int // bytes of the chunk
}

func newBufferMover(dst, src net.Conn) mover { return &bufferMover{dst: dst, src: src} }

func (m *bufferMover) fill() (int, error) {
	if m.buf == nil {
		m.buf = getBuffer()
	}
	var err error
	m.n, err = m.src.Read(m.buf[:])
	return m.n, err
}

func (m *bufferMover) drain() (int, error) { return m.dst.Write(m.buf[:m.n]) }

func (m *bufferMover) release() {
	if m.buf != nil {
		putBuffer(m.buf)
		m.buf = nil
	}
}
