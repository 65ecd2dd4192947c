package helper

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/khelp/khelp/shared/wire"
)

// frame is the bytes of calls or of replies, in a buffer that is used again.
type frame struct {
	wire.RawFrame
	batches atomic.Int32 // of calls: how many batches have views into it
}

const (
	frameRoom = 4 << 10        // what a new frame holds; gRPC gives back only buffers beyond 1 KiB
	keepBytes = 2 * flushBytes // buffers beyond this are left to the garbage collector,
	keepCalls = 4 << 10        // and so are lists of calls
)

// frames and batches have the buffers that are free.
var frames, batches sync.Pool

func newFrame() *frame {
	if f, ok := frames.Get().(*frame); ok {
		f.Buf = f.Buf[:0]
		return f
	}
	f := &frame{}
	f.Buf = make([]byte, 0, frameRoom)
	f.Sent = f.release
	return f
}

func (f *frame) release() {
	if cap(f.Buf) <= keepBytes {
		frames.Put(f)
	}
}

// batch is what one worker gets of a frame: calls that are decoded, as views into the frame.
type batch struct {
	calls   []wire.CallView
	arrived time.Duration // since epoch
	frame   *frame
}

func newBatch(f *frame, arrived time.Duration) *batch {
	b, ok := batches.Get().(*batch)
	if !ok {
		b = &batch{}
	}
	b.arrived, b.frame = arrived, f
	f.batches.Add(1)
	return b
}

// release gives the batch back, and with the last batch the frame.
func (b *batch) release() {
	f := b.frame
	clear(b.calls)
	b.calls, b.frame = b.calls[:0], nil
	if cap(b.calls) <= keepCalls {
		batches.Put(b)
	}
	if f.batches.Add(-1) == 0 {
		f.release()
	}
}

// decode makes a batch of a frame, which has just come and is the batch's from now on. The error is ErrBadReply.
func decode(f *frame) (*batch, error) {
	b := newBatch(f, now())
	for rest := f.Buf; len(rest) > 0; {
		b.calls = append(b.calls, wire.CallView{})
		var err error
		if rest, err = wire.NextCall(rest, &b.calls[len(b.calls)-1]); err != nil {
			b.release()
			return nil, err
		}
	}
	return b, nil
}

// split gives the calls out among n batches, those of one object to one batch.
func (b *batch) split(n int) []*batch {
	parts := make([]*batch, n)
	for i := range parts {
		parts[i] = newBatch(b.frame, b.arrived)
	}
	to := parts[0]
	for i := range b.calls {
		if v := &b.calls[i]; !v.Chained {
			to = parts[v.Object*0x9e3779b97f4a7c15>>32%uint64(n)]
		}
		to.calls = append(to.calls, b.calls[i])
	}
	b.release()
	return parts
}

// chainEnd returns the index behind the calls that are chained to the one at from.
func chainEnd(calls []wire.CallView, from int) int {
	end := from + 1
	for end < len(calls) && calls[end].Chained {
		end++
	}
	return end
}
