package wire

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"

	"github.com/khelp/khelp/shared"
)

// RawFrame is the encoded form of one CallFrame or ReplyFrame. Codec passes it through a stream as it is, so that the hot messages
// are written and read by AppendCall, NextCall, AppendReply and NextReply and not by reflection.
type RawFrame struct {
	// Buf is the frame's bytes. On sending it is lent to the stream until Sent; on receiving it is filled in and good until the next
	// receive into the same RawFrame.
	Buf []byte
	// Sent is called when the stream has done with Buf. May be nil.
	Sent func()
}

// Codec is the stock protobuf codec of gRPC but for *RawFrame. Use it with grpc.ForceCodecV2 and grpc.ForceServerCodecV2; on the wire
// it is "proto". The zero value is ready; it is safe for concurrent use.
type Codec struct{}

var stock = encoding.GetCodecV2(proto.Name)

// Name returns "proto".
func (Codec) Name() string { return proto.Name }

// Marshal encodes v.
func (Codec) Marshal(v any) (mem.BufferSlice, error) {
	f, ok := v.(*RawFrame)
	if !ok {
		return stock.Marshal(v)
	}
	if f.Sent == nil {
		return mem.BufferSlice{mem.SliceBuffer(f.Buf)}, nil
	}
	if mem.IsBelowBufferPoolingThreshold(cap(f.Buf)) {
		// gRPC gives a small buffer back to nobody, so it gets a copy.
		own := append([]byte(nil), f.Buf...)
		f.Sent()
		return mem.BufferSlice{mem.SliceBuffer(own)}, nil
	}
	buf := f.Buf
	return mem.BufferSlice{mem.NewBuffer(&buf, sentPool{f.Sent})}, nil
}

// sentPool hears from gRPC when a frame's bytes are no longer needed.
type sentPool struct{ sent func() }

func (p sentPool) Get(length int) *[]byte { b := make([]byte, length); return &b }
func (p sentPool) Put(*[]byte)            { p.sent() }

// Unmarshal decodes data into v.
func (Codec) Unmarshal(data mem.BufferSlice, v any) error {
	f, ok := v.(*RawFrame)
	if !ok {
		return stock.Unmarshal(data, v)
	}
	n := data.Len()
	if n > MaxFrame {
		return shared.ErrBadReply.Errorf("frame of %d bytes, the limit is %d", n, MaxFrame)
	}
	if cap(f.Buf) < n {
		f.Buf = make([]byte, n)
	}
	f.Buf = f.Buf[:n]
	data.CopyTo(f.Buf)
	return nil
}
