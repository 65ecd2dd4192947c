package wire

import (
	"encoding/binary"
	"math"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/khelp/khelp/shared"
)

// CallView is one Call as it stands in a frame: its byte slices point into the frame.
type CallView struct {
	Seq      uint64
	Kind     CallKind
	Hook     uint32
	Object   uint64
	Chained  bool
	HasData  bool
	Data     []byte
	Context  []byte
	Budget   time.Duration // whole microseconds on the wire, at least one if there is any; 0: none
	PeerData []byte        // the encoded peers, one field after another; see NextPeer
}

// PeerView is one PeerData as it stands in a frame.
type PeerView struct {
	Helper      string
	DataVersion uint32
	Data        []byte
}

// ReplyView is one Reply as it stands in a frame: its byte slices point into the frame.
type ReplyView struct {
	Seq        uint64
	Verdict    Verdict
	HasData    bool
	Data       []byte
	HasContext bool
	Context    []byte
	Code       shared.Code
	Message    []byte
}

// The tags of the fields, each one byte long; see khelp.proto.
const (
	tagVarint = byte(protowire.VarintType)
	tagFixed  = byte(protowire.Fixed64Type)
	tagBytes  = byte(protowire.BytesType)

	frameEntry = 1<<3 | tagBytes

	callSeq     = 1<<3 | tagFixed
	callKind    = 2<<3 | tagVarint
	callHook    = 3<<3 | tagVarint
	callObject  = 4<<3 | tagVarint
	callChained = 5<<3 | tagVarint
	callData    = 6<<3 | tagBytes
	callContext = 7<<3 | tagBytes
	callBudget  = 8<<3 | tagVarint
	callPeers   = 9<<3 | tagBytes

	replySeq     = 1<<3 | tagFixed
	replyVerdict = 2<<3 | tagVarint
	replyData    = 3<<3 | tagBytes
	replyContext = 4<<3 | tagBytes
	replyCode    = 5<<3 | tagVarint
	replyMessage = 6<<3 | tagBytes
)

func sizeVarint(v uint64) int {
	if v == 0 {
		return 0
	}
	return 1 + protowire.SizeVarint(v)
}

func sizeBytes(b []byte) int { return 1 + protowire.SizeBytes(len(b)) }

func appendVarint(frame []byte, tag byte, v uint64) []byte {
	if v == 0 {
		return frame
	}
	return protowire.AppendVarint(append(frame, tag), v)
}

func appendBytes(frame []byte, tag byte, b []byte) []byte {
	return protowire.AppendBytes(append(frame, tag), b)
}

// AppendCall appends one call to a frame. A frame is the calls one behind the other.
func AppendCall(frame []byte, c *CallView) []byte {
	budget := uint64(max(c.Budget, 0) / time.Microsecond)
	if budget == 0 && c.Budget > 0 {
		budget = 1 // 0 would be no limit
	}
	n := 9 + sizeVarint(uint64(c.Kind)) + sizeVarint(uint64(c.Hook)) + sizeVarint(c.Object) + sizeVarint(budget) + len(c.PeerData)
	if c.Chained {
		n += 2
	}
	if c.HasData {
		n += sizeBytes(c.Data)
	}
	if len(c.Context) > 0 {
		n += sizeBytes(c.Context)
	}
	frame = protowire.AppendVarint(append(frame, frameEntry), uint64(n))
	frame = protowire.AppendFixed64(append(frame, callSeq), c.Seq)
	frame = appendVarint(frame, callKind, uint64(c.Kind))
	frame = appendVarint(frame, callHook, uint64(c.Hook))
	frame = appendVarint(frame, callObject, c.Object)
	if c.Chained {
		frame = append(frame, callChained, 1)
	}
	if c.HasData {
		frame = appendBytes(frame, callData, c.Data)
	}
	if len(c.Context) > 0 {
		frame = appendBytes(frame, callContext, c.Context)
	}
	frame = appendVarint(frame, callBudget, budget)
	return append(frame, c.PeerData...)
}

// ShiftCalls adds by to the sequence numbers of the calls in a frame that AppendCall made, in place: so calls can be encoded before
// their numbers are known.
func ShiftCalls(frame []byte, by uint64) {
	for len(frame) > 0 {
		n, m := protowire.ConsumeVarint(frame[1:])
		call := frame[1+m:]
		seq := call[1:9] // what AppendCall puts first
		binary.LittleEndian.PutUint64(seq, binary.LittleEndian.Uint64(seq)+by)
		frame = call[n:]
	}
}

// AppendPeer appends one peer's data to a CallView's PeerData.
func AppendPeer(peers []byte, p *PeerView) []byte {
	n := sizeBytes([]byte(p.Helper)) + sizeVarint(uint64(p.DataVersion)) + sizeBytes(p.Data)
	peers = protowire.AppendVarint(append(peers, callPeers), uint64(n))
	peers = protowire.AppendString(append(peers, 1<<3|tagBytes), p.Helper)
	peers = appendVarint(peers, 2<<3|tagVarint, uint64(p.DataVersion))
	return appendBytes(peers, 3<<3|tagBytes, p.Data)
}

// SizeReply returns how many bytes AppendReply adds to a frame.
func SizeReply(r *ReplyView) int {
	n := r.size()
	return 1 + protowire.SizeVarint(uint64(n)) + n
}

func (r *ReplyView) size() int {
	n := 9 + sizeVarint(uint64(r.Verdict)) + sizeVarint(uint64(r.Code))
	if r.HasData {
		n += sizeBytes(r.Data)
	}
	if r.HasContext {
		n += sizeBytes(r.Context)
	}
	if len(r.Message) > 0 {
		n += sizeBytes(r.Message)
	}
	return n
}

// AppendReply appends one reply to a frame.
func AppendReply(frame []byte, r *ReplyView) []byte {
	frame = protowire.AppendVarint(append(frame, frameEntry), uint64(r.size()))
	frame = protowire.AppendFixed64(append(frame, replySeq), r.Seq)
	frame = appendVarint(frame, replyVerdict, uint64(r.Verdict))
	if r.HasData {
		frame = appendBytes(frame, replyData, r.Data)
	}
	if r.HasContext {
		frame = appendBytes(frame, replyContext, r.Context)
	}
	frame = appendVarint(frame, replyCode, uint64(r.Code))
	if len(r.Message) > 0 {
		frame = appendBytes(frame, replyMessage, r.Message)
	}
	return frame
}

// nextEntry takes one message off a frame, and the unknown fields around it, so that what is left begins with a message or is empty.
func nextEntry(frame []byte) (entry, rest []byte, err error) {
	if frame, err = passUnknown(frame); err != nil {
		return nil, nil, err
	}
	if len(frame) == 0 {
		return nil, nil, shared.ErrBadReply.Errorf("malformed frame: neither a call nor a reply is in it")
	}
	_, _, n := protowire.ConsumeTag(frame)
	entry, m := protowire.ConsumeBytes(frame[n:])
	if m < 0 {
		return nil, nil, badFrame(protowire.ParseError(m))
	}
	rest, err = passUnknown(frame[n+m:])
	return entry, rest, err
}

// passUnknown passes over the fields of a frame that are not its messages: those of a later version.
func passUnknown(frame []byte) ([]byte, error) {
	for len(frame) > 0 && frame[0] != frameEntry {
		num, typ, n, err := consumeTag(frame)
		if err != nil {
			return nil, err
		}
		if num == 1 && typ == protowire.BytesType { // a tag in more bytes than it needs
			break
		}
		m := protowire.ConsumeFieldValue(num, typ, frame[n:])
		if m < 0 {
			return nil, badFrame(protowire.ParseError(m))
		}
		frame = frame[n+m:]
	}
	return frame, nil
}

// consumeTag is protowire.ConsumeTag, which lets numbers through that no field can have.
func consumeTag(b []byte) (num protowire.Number, typ protowire.Type, n int, err error) {
	num, typ, n = protowire.ConsumeTag(b)
	switch {
	case n < 0:
		return 0, 0, 0, badFrame(protowire.ParseError(n))
	case !num.IsValid():
		return 0, 0, 0, shared.ErrBadReply.Errorf("malformed frame: field number %d", num)
	default:
		return num, typ, n, nil
	}
}

func badFrame(err error) error { return shared.ErrBadReply.Errorf("malformed frame: %w", err) }

// field is one field of a message: the tag byte, and the value in v or b.
type field struct {
	tag byte
	v   uint64
	b   []byte
}

// nextField takes one field off a message. Fields with numbers beyond 15 and unknown types come out with tag 0: to be passed over.
func nextField(msg []byte) (f field, rest []byte, err error) {
	num, typ, n, err := consumeTag(msg)
	if err != nil {
		return f, nil, err
	}
	msg = msg[n:]
	switch typ {
	case protowire.VarintType:
		f.v, n = protowire.ConsumeVarint(msg)
	case protowire.Fixed64Type:
		f.v, n = protowire.ConsumeFixed64(msg)
	case protowire.BytesType:
		f.b, n = protowire.ConsumeBytes(msg)
	default:
		n = protowire.ConsumeFieldValue(num, typ, msg)
	}
	if n < 0 {
		return f, nil, badFrame(protowire.ParseError(n))
	}
	if num <= 15 {
		f.tag = byte(num)<<3 | byte(typ)
	}
	return f, msg[n:], nil
}

// NextCall takes one call off a frame and returns what is left; an empty frame has none. The view's slices point into frame, but for
// PeerData, which is a copy. The error is ErrBadReply.
func NextCall(frame []byte, c *CallView) (rest []byte, err error) {
	msg, rest, err := nextEntry(frame)
	if err != nil {
		return nil, err
	}
	*c = CallView{}
	for len(msg) > 0 {
		var f field
		whole := msg
		if f, msg, err = nextField(msg); err != nil {
			return nil, err
		}
		switch f.tag {
		case callSeq:
			c.Seq = f.v
		case callKind:
			c.Kind = CallKind(f.v)
		case callHook:
			c.Hook = uint32(f.v)
		case callObject:
			c.Object = f.v
		case callChained:
			c.Chained = f.v != 0
		case callData:
			c.HasData, c.Data = true, f.b
		case callContext:
			c.Context = f.b
		case callBudget:
			c.Budget = time.Duration(min(f.v, math.MaxInt64/1000)) * time.Microsecond
		case callPeers:
			c.PeerData = append(c.PeerData, whole[:len(whole)-len(msg)]...)
		}
	}
	return rest, nil
}

// NextPeer takes one peer's data off a CallView's PeerData and returns what is left.
func NextPeer(peers []byte, p *PeerView) (rest []byte, err error) {
	entry, rest, err := nextField(peers)
	if err != nil {
		return nil, err
	}
	*p = PeerView{}
	for msg := entry.b; len(msg) > 0; {
		var f field
		if f, msg, err = nextField(msg); err != nil {
			return nil, err
		}
		switch f.tag {
		case 1<<3 | tagBytes:
			p.Helper = string(f.b)
		case 2<<3 | tagVarint:
			p.DataVersion = uint32(f.v)
		case 3<<3 | tagBytes:
			p.Data = f.b
		}
	}
	return rest, nil
}

// NextReply takes one reply off a frame and returns what is left; an empty frame has none. The view's slices point into frame. The
// error is ErrBadReply.
func NextReply(frame []byte, r *ReplyView) (rest []byte, err error) {
	msg, rest, err := nextEntry(frame)
	if err != nil {
		return nil, err
	}
	*r = ReplyView{}
	for len(msg) > 0 {
		var f field
		if f, msg, err = nextField(msg); err != nil {
			return nil, err
		}
		switch f.tag {
		case replySeq:
			r.Seq = f.v
		case replyVerdict:
			r.Verdict = Verdict(f.v)
		case replyData:
			r.HasData, r.Data = true, f.b
		case replyContext:
			r.HasContext, r.Context = true, f.b
		case replyCode:
			r.Code = shared.Code(int32(f.v))
		case replyMessage:
			r.Message = f.b
		}
	}
	return rest, nil
}
