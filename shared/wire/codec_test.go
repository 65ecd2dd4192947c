package wire_test

import (
	"bytes"
	"errors"
	"testing"

	"google.golang.org/grpc/mem"

	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

func TestCodecPassesRawFrames(t *testing.T) {
	var codec wire.Codec
	if codec.Name() != "proto" {
		t.Errorf("name %q", codec.Name())
	}
	want := encodeReplies(&wire.ReplyFrame{Replies: []*wire.Reply{{Seq: 7, Data: []byte("x")}}})
	out, err := codec.Marshal(&wire.RawFrame{Buf: want})
	if err != nil || !bytes.Equal(out.Materialize(), want) {
		t.Fatalf("%x, %v", out.Materialize(), err)
	}
	// What a raw frame carries is what the stock codec reads, and the other way round.
	var reply wire.ReplyFrame
	if err := codec.Unmarshal(out, &reply); err != nil || len(reply.GetReplies()) != 1 || reply.GetReplies()[0].GetSeq() != 7 {
		t.Errorf("%v, %v", &reply, err)
	}
	stock, err := codec.Marshal(&reply)
	if err != nil {
		t.Fatal(err)
	}
	in := wire.RawFrame{Buf: make([]byte, 0, 4096)}
	buf := in.Buf
	if err := codec.Unmarshal(stock, &in); err != nil {
		t.Fatal(err)
	}
	got, err := decodeReplies(in.Buf)
	if err != nil || sameMessage(&reply, got) != "" {
		t.Errorf("%v, %v", got, err)
	}
	if &in.Buf[0] != &buf[:1][0] {
		t.Error("a buffer that was large enough was not used")
	}
	// In pieces, and larger than the buffer.
	pieces := mem.BufferSlice{mem.SliceBuffer(make([]byte, 3000)), mem.SliceBuffer(make([]byte, 3000)), mem.SliceBuffer("end")}
	if err := codec.Unmarshal(pieces, &in); err != nil || len(in.Buf) != 6003 || string(in.Buf[6000:]) != "end" {
		t.Errorf("%d bytes, %v", len(in.Buf), err)
	}
	if err := codec.Unmarshal(nil, &in); err != nil || len(in.Buf) != 0 {
		t.Errorf("an empty frame: %d bytes, %v", len(in.Buf), err)
	}
}

func TestCodecTellsWhenAFrameIsSent(t *testing.T) {
	for _, size := range []int{0, 1, 1 << 10, 1<<10 + 1, 64 << 10} {
		sent := 0
		buf := bytes.Repeat([]byte{0x5a}, size)
		out, err := wire.Codec{}.Marshal(&wire.RawFrame{Buf: buf, Sent: func() {
			sent++
			clear(buf) // the buffer is ours again
		}})
		if err != nil {
			t.Fatal(err)
		}
		out.Ref()
		out.Free()
		if !bytes.Equal(out.Materialize(), bytes.Repeat([]byte{0x5a}, size)) {
			t.Errorf("%d bytes: the frame is gone before it is freed", size)
		}
		out.Free()
		if sent != 1 {
			t.Errorf("%d bytes: Sent was called %d times", size, sent)
		}
	}
}

func TestCodecRefusesOversize(t *testing.T) {
	var in wire.RawFrame
	if err := (wire.Codec{}).Unmarshal(mem.BufferSlice{mem.SliceBuffer(make([]byte, wire.MaxFrame))}, &in); err != nil || len(in.Buf) != wire.MaxFrame {
		t.Errorf("the largest frame: %d bytes, %v", len(in.Buf), err)
	}
	err := wire.Codec{}.Unmarshal(mem.BufferSlice{mem.SliceBuffer(make([]byte, wire.MaxFrame+1))}, &in)
	if !errors.Is(err, shared.ErrBadReply) {
		t.Errorf("one byte more: %v", err)
	}
}

func TestCodecReportsWhatItCannotCarry(t *testing.T) {
	if _, err := (wire.Codec{}).Marshal(struct{}{}); err == nil {
		t.Error("a struct was encoded")
	}
	if err := (wire.Codec{}).Unmarshal(mem.BufferSlice{mem.SliceBuffer("\xff")}, &wire.Reply{}); err == nil {
		t.Error("garbage was decoded")
	}
}
