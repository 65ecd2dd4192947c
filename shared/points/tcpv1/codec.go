package tcpv1

import (
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/khelp/khelp/shared"
)

// The codec below writes and reads the very bytes that the generated code does, without reflection and without allocating: a context
// is built and read for every segment.

// Field numbers of tcpv1.proto.
const (
	fieldConnection  = 1
	fieldClient      = 2
	fieldLocal       = 3
	fieldUpstream    = 4
	fieldDirection   = 5
	fieldLen         = 6
	fieldOffset      = 7
	fieldTimeNs      = 8
	fieldTCPInfo     = 9
	fieldError       = 10
	fieldBytesIn     = 11
	fieldBytesOut    = 12
	fieldSegmentsIn  = 13
	fieldSegmentsOut = 14
	fieldOpenedNs    = 15
	fieldProxy       = 16

	infoBytesAcked    = 1
	infoBytesReceived = 2
	infoBytesSent     = 3
	infoRttUs         = 4
	infoRttvarUs      = 5
	infoMinRttUs      = 6
	infoCwnd          = 7
	infoRetransmits   = 8
	infoDeliveryRate  = 9
	infoUnacked       = 10
	infoMss           = 11
	infoDeliveredCe   = 12
)

// AppendTo appends m in protobuf's wire format to b and returns the longer slice. It does not allocate if b has the room. Strings must
// be valid UTF-8, as protobuf demands; they are not checked. Fields that this build does not know are not written.
func (m *Segment) AppendTo(b []byte) []byte {
	b = appendUint(b, fieldConnection, m.Connection)
	b = appendString(b, fieldClient, m.Client)
	b = appendString(b, fieldLocal, m.Local)
	b = appendString(b, fieldUpstream, m.Upstream)
	b = appendUint(b, fieldDirection, uint64(m.Direction))
	b = appendUint(b, fieldLen, uint64(m.Len))
	b = appendUint(b, fieldOffset, m.Offset)
	b = appendUint(b, fieldTimeNs, m.TimeNs)
	if m.TcpInfo != nil {
		b = protowire.AppendTag(b, fieldTCPInfo, protowire.BytesType)
		b = m.TcpInfo.appendSized(b)
	}
	b = appendString(b, fieldError, m.Error)
	b = appendUint(b, fieldBytesIn, m.BytesIn)
	b = appendUint(b, fieldBytesOut, m.BytesOut)
	b = appendUint(b, fieldSegmentsIn, m.SegmentsIn)
	b = appendUint(b, fieldSegmentsOut, m.SegmentsOut)
	b = appendUint(b, fieldOpenedNs, m.OpenedNs)
	return appendString(b, fieldProxy, m.Proxy)
}

// appendSized appends the message with its length before it. Twelve varints of 11 bytes and less make 132 at most, so the length may
// take two bytes; most often it takes one, and then nothing is moved.
func (m *TcpInfo) appendSized(b []byte) []byte {
	at := len(b)
	b = append(b, 0)
	b = m.appendTo(b)
	n := len(b) - at - 1
	if n < 0x80 {
		b[at] = byte(n)
		return b
	}
	b = append(b, 0)
	copy(b[at+2:], b[at+1:])
	b[at], b[at+1] = byte(n)|0x80, byte(n>>7)
	return b
}

func (m *TcpInfo) appendTo(b []byte) []byte {
	b = appendUint(b, infoBytesAcked, m.BytesAcked)
	b = appendUint(b, infoBytesReceived, m.BytesReceived)
	b = appendUint(b, infoBytesSent, m.BytesSent)
	b = appendUint(b, infoRttUs, uint64(m.RttUs))
	b = appendUint(b, infoRttvarUs, uint64(m.RttvarUs))
	b = appendUint(b, infoMinRttUs, uint64(m.MinRttUs))
	b = appendUint(b, infoCwnd, uint64(m.Cwnd))
	b = appendUint(b, infoRetransmits, uint64(m.Retransmits))
	b = appendUint(b, infoDeliveryRate, m.DeliveryRate)
	b = appendUint(b, infoUnacked, uint64(m.Unacked))
	b = appendUint(b, infoMss, uint64(m.Mss))
	return appendUint(b, infoDeliveredCe, uint64(m.DeliveredCe))
}

func appendUint(b []byte, num protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
}

func appendString(b []byte, num protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), s)
}

// Decode sets every field of m from b, in protobuf's wire format; what m held before is gone. It keeps nothing of b. Decoding into the
// same m again allocates only for strings that changed, so a context costs a helper no garbage. Fields that this build does not know
// are skipped. The error is shared.ErrInvalid, and m is then half-filled.
//
// Not safe for concurrent use of one m.
func (m *Segment) Decode(b []byte) error {
	info, seen := m.TcpInfo, uint32(0)
	m.clearNumbers()
	for len(b) > 0 {
		num, typ, n := consumeTag(b)
		if n < 0 {
			return badContext(n)
		}
		b = b[n:]
		switch {
		case typ == protowire.VarintType:
			var v uint64
			if v, n = protowire.ConsumeVarint(b); n >= 0 {
				m.setNumber(num, v)
			}
		case typ == protowire.BytesType:
			var v []byte
			if v, n = protowire.ConsumeBytes(b); n < 0 {
				break
			}
			if num == fieldTCPInfo {
				m.reuseInfo(&info)
				if err := m.TcpInfo.decode(v); err != nil {
					return err
				}
			} else if s := m.stringField(num); s != nil {
				if !utf8.Valid(v) {
					return shared.ErrInvalid.Errorf("field %d of %s is not valid UTF-8", num, Message)
				}
				seen |= 1 << num
				if *s != string(v) {
					*s = string(v)
				}
			}
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return badContext(n)
		}
		b = b[n:]
	}
	m.clearStrings(seen)
	return nil
}

// consumeTag is protowire.ConsumeTag, but for refusing field numbers that no message can have, as the generated code does.
func consumeTag(b []byte) (protowire.Number, protowire.Type, int) {
	num, typ, n := protowire.ConsumeTag(b)
	if n >= 0 && !num.IsValid() {
		return 0, 0, errFieldNumber
	}
	return num, typ, n
}

// errFieldNumber is what protowire.ConsumeTag returns for the field number 0.
var errFieldNumber = func() int { _, _, n := protowire.ConsumeTag([]byte{0}); return n }()

func badContext(n int) error {
	return shared.ErrInvalid.Errorf("context is not a %s: %w", Message, protowire.ParseError(n))
}

// clearNumbers clears what Decode sets but for the strings, which are kept to be compared.
func (m *Segment) clearNumbers() {
	m.Connection, m.Direction, m.Len, m.Offset, m.TimeNs, m.OpenedNs = 0, 0, 0, 0, 0, 0
	m.BytesIn, m.BytesOut, m.SegmentsIn, m.SegmentsOut = 0, 0, 0, 0
	m.TcpInfo, m.unknownFields = nil, nil
}

// clearStrings clears the strings that were not in the message.
func (m *Segment) clearStrings(seen uint32) {
	for _, num := range [...]protowire.Number{fieldClient, fieldLocal, fieldUpstream, fieldError, fieldProxy} {
		if seen&(1<<num) == 0 {
			*m.stringField(num) = ""
		}
	}
}

func (m *Segment) stringField(num protowire.Number) *string {
	switch num {
	case fieldClient:
		return &m.Client
	case fieldLocal:
		return &m.Local
	case fieldUpstream:
		return &m.Upstream
	case fieldError:
		return &m.Error
	case fieldProxy:
		return &m.Proxy
	}
	return nil
}

func (m *Segment) setNumber(num protowire.Number, v uint64) {
	switch num {
	case fieldConnection:
		m.Connection = v
	case fieldDirection:
		m.Direction = Direction(v)
	case fieldLen:
		m.Len = uint32(v)
	case fieldOffset:
		m.Offset = v
	case fieldTimeNs:
		m.TimeNs = v
	case fieldBytesIn:
		m.BytesIn = v
	case fieldBytesOut:
		m.BytesOut = v
	case fieldSegmentsIn:
		m.SegmentsIn = v
	case fieldSegmentsOut:
		m.SegmentsOut = v
	case fieldOpenedNs:
		m.OpenedNs = v
	}
}

// reuseInfo gives m a cleared TcpInfo, the one it had before if there was one. A second tcp_info in one message merges into the
// first, as protobuf has it.
func (m *Segment) reuseInfo(spare **TcpInfo) {
	switch {
	case m.TcpInfo != nil:
	case *spare != nil:
		m.TcpInfo, *spare = *spare, nil
		m.TcpInfo.clear()
	default:
		m.TcpInfo = new(TcpInfo)
	}
}

func (m *TcpInfo) clear() {
	m.BytesAcked, m.BytesReceived, m.BytesSent, m.DeliveryRate = 0, 0, 0, 0
	m.RttUs, m.RttvarUs, m.MinRttUs, m.Cwnd = 0, 0, 0, 0
	m.Retransmits, m.Unacked, m.Mss, m.DeliveredCe = 0, 0, 0, 0
	m.unknownFields = nil
}

func (m *TcpInfo) decode(b []byte) error {
	for len(b) > 0 {
		num, typ, n := consumeTag(b)
		if n < 0 {
			return badContext(n)
		}
		b = b[n:]
		if typ == protowire.VarintType {
			var v uint64
			if v, n = protowire.ConsumeVarint(b); n >= 0 {
				m.setNumber(num, v)
			}
		} else {
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return badContext(n)
		}
		b = b[n:]
	}
	return nil
}

func (m *TcpInfo) setNumber(num protowire.Number, v uint64) {
	switch num {
	case infoBytesAcked:
		m.BytesAcked = v
	case infoBytesReceived:
		m.BytesReceived = v
	case infoBytesSent:
		m.BytesSent = v
	case infoRttUs:
		m.RttUs = uint32(v)
	case infoRttvarUs:
		m.RttvarUs = uint32(v)
	case infoMinRttUs:
		m.MinRttUs = uint32(v)
	case infoCwnd:
		m.Cwnd = uint32(v)
	case infoRetransmits:
		m.Retransmits = uint32(v)
	case infoDeliveryRate:
		m.DeliveryRate = v
	case infoUnacked:
		m.Unacked = uint32(v)
	case infoMss:
		m.Mss = uint32(v)
	case infoDeliveredCe:
		m.DeliveredCe = uint32(v)
	}
}
