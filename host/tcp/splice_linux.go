package tcp

import (
	"errors"
	"os"
	"sync"

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

// splice is splice(2) without offsets. Either end is a pipe.
func splice(from, to, limit int) (int, error) {
	for {
		n, err := unix.Splice(from, nil, to, nil, limit, unix.SPLICE_F_NONBLOCK)
		if !errors.Is(err, unix.EINTR) {
			return max(int(n), 0), err
		}
	}
}
