package tcp

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"

	"github.com/khelp/khelp/shared/points/tcpv1"
)

// flow is one direction of a connection. Its fields belong to the goroutine that runs it, but for finSent.
type flow struct {
	c            *conn
	peer         *flow // the other direction
	src, dst     net.Conn
	srcIs, dstIs string // client or upstream
	mover        mover
	msg          message
	bytes        uint64      // that went this way, on the client's side
	segments     uint64      // likewise
	finSent      atomic.Bool // the end of the stream is being, or has been, passed to dst
}

// mover takes bytes from one socket to another, chunk by chunk. Between fill and drain the chunk is held, outside the two sockets.
type mover interface {
	// fill takes the next bytes of the source: a chunk, or io.EOF.
	fill() (int, error)
	// drain writes the chunk and returns how much of it the destination took, all unless there is an error.
	drain() (int, error)
	// release gives back what is held, and the chunk with it.
	release()
}

func (f *flow) init(c *conn, src, dst net.Conn, srcIs, dstIs string) {
	f.c, f.src, f.dst, f.srcIs, f.dstIs = c, src, dst, srcIs, dstIs
	f.mover = newMover(dst, src, &c.p.sub.pool)
}

// run forwards until the flow ends, and then watches its source for a reset as long as the other flow lasts: the source has nothing
// more to send, but it may still die.
func (f *flow) run(forward func(n int) error) {
	err := f.copy(forward)
	f.mover.release()
	if f.c.flowEnded() || err != nil {
		return
	}
	if err := watchReset(f.src); err != nil {
		f.c.cut(fmt.Errorf("%s: %w", f.srcIs, err))
	}
}

// copy forwards until the end of the stream, which it passes on and reports by nil, or an error, which the connection then has as its
// cause.
func (f *flow) copy(forward func(n int) error) error {
	for {
		n, err := f.mover.fill()
		if n > 0 {
			if err := forward(n); err != nil {
				return err
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			return f.passEnd()
		default:
			err = fmt.Errorf("%s: %w", f.srcIs, err)
			f.c.cut(err)
			return err
		}
	}
}

// forwardIn passes tcp.est_in and socket.rcv with a chunk from the client and sends it to the upstream.
func (f *flow) forwardIn(n int) error {
	c := f.c
	f.msg.segment(tcpv1.Direction_DIRECTION_IN, n, f.bytes)
	f.count(n, &c.p.stats.bytesIn, &c.p.stats.segmentsIn)
	_ = c.pass(ptEstIn, &f.msg) // an observer rejects nothing
	if err := c.pass(ptRcv, &f.msg); err != nil {
		return f.rejected(err)
	}
	if _, err := f.mover.drain(); err != nil {
		return f.writeFailed(err)
	}
	return nil
}

// forwardOut passes socket.snd with a chunk from the upstream, writes it to the client and passes tcp.est_out with what was written.
func (f *flow) forwardOut(n int) error {
	c := f.c
	f.msg.segment(tcpv1.Direction_DIRECTION_OUT, n, f.bytes)
	if err := c.pass(ptSnd, &f.msg); err != nil {
		return f.rejected(err)
	}
	n, err := f.mover.drain()
	if n > 0 {
		f.msg.segment(tcpv1.Direction_DIRECTION_OUT, n, f.bytes)
		f.count(n, &c.p.stats.bytesOut, &c.p.stats.segmentsOut)
		_ = c.pass(ptEstOut, &f.msg) // an observer rejects nothing
	}
	if err != nil {
		return f.writeFailed(err)
	}
	return nil
}

func (f *flow) count(n int, bytes, segments *atomic.Uint64) {
	f.bytes += uint64(n)
	f.segments++
	bytes.Add(uint64(n))
	segments.Add(1)
}

// rejected resets the connection because a filter's hook said so.
func (f *flow) rejected(err error) error {
	f.c.p.stats.rejected.Add(1)
	f.c.cut(err)
	return err
}

// writeFailed ends the connection because dst does not take more. If dst is dead, what it had sent before still waits to be read, such
// as a server's answer to a request that it did not want to read whole: the other flow hands that on and then meets the end.
func (f *flow) writeFailed(err error) error {
	dead := peerDied(err)
	err = fmt.Errorf("%s: %w", f.dstIs, err)
	if dead {
		f.c.fail(err)
	} else {
		f.c.cut(err)
	}
	return err
}

// passEnd passes the end of the stream on: a half-close. An end that is a reset in truth, of which a write to the same socket has
// swallowed the error, resets the connection instead.
func (f *flow) passEnd() error {
	if socketDead(f.src) && !f.peer.finSent.Load() {
		err := fmt.Errorf("%s: %w", f.srcIs, errReset)
		f.c.cut(err)
		return err
	}
	if f.c.failed() {
		return nil
	}
	f.finSent.Store(true)
	if w, ok := f.dst.(interface{ CloseWrite() error }); ok {
		if err := w.CloseWrite(); err != nil {
			// Dst is gone: whoever reads from it meets the reason.
			f.c.p.log.Debug("passing on a half-close failed", "to", f.dstIs, "error", err)
		}
	}
	return nil
}
