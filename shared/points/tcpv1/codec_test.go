package tcpv1

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/khelp/khelp/shared"
)

func sample() *Segment {
	return &Segment{
		Connection: 42, Client: "192.0.2.7:51234", Local: "192.0.2.1:8080", Upstream: "127.0.0.1:9000", Direction: Direction_DIRECTION_IN,
		Len: 1448, Offset: 1 << 33, TimeNs: 1 << 60, OpenedNs: 1<<60 - 5, Proxy: "web",
		TcpInfo: &TcpInfo{
			BytesAcked: 1, BytesReceived: 2, BytesSent: 3, RttUs: 4, RttvarUs: 5, MinRttUs: 6, Cwnd: 7, Retransmits: 8, DeliveryRate: 9,
			Unacked: 10, Mss: 11, DeliveredCe: 12,
		},
	}
}

func drawSegment(t *rapid.T) *Segment {
	num := func(name string) uint64 {
		return rapid.OneOf(rapid.Just(uint64(0)), rapid.Uint64Max(200), rapid.Uint64()).Draw(t, name)
	}
	m := &Segment{
		Connection: num("connection"), Client: rapid.String().Draw(t, "client"), Local: rapid.String().Draw(t, "local"),
		Upstream: rapid.String().Draw(t, "upstream"), Direction: Direction(rapid.Int32().Draw(t, "direction")), Len: uint32(num("len")),
		Offset: num("offset"), TimeNs: num("time"), Error: rapid.String().Draw(t, "error"), BytesIn: num("bytes in"),
		BytesOut: num("bytes out"), SegmentsIn: num("segments in"), SegmentsOut: num("segments out"), OpenedNs: num("opened"),
		Proxy: rapid.String().Draw(t, "proxy"),
	}
	if rapid.Bool().Draw(t, "info") {
		m.TcpInfo = &TcpInfo{
			BytesAcked: num("acked"), BytesReceived: num("received"), BytesSent: num("sent"), RttUs: uint32(num("rtt")),
			RttvarUs: uint32(num("rttvar")), MinRttUs: uint32(num("min")), Cwnd: uint32(num("cwnd")), Retransmits: uint32(num("retransmits")),
			DeliveryRate: num("rate"), Unacked: uint32(num("unacked")), Mss: uint32(num("mss")), DeliveredCe: uint32(num("ce")),
		}
	}
	return m
}

// The hand codec and the generated code are the same function of the message, both ways, whatever was decoded before.
func TestCodecAgreesWithGenerated(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawSegment(t)
		want, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		got := m.AppendTo([]byte("before"))
		if !bytes.Equal(got, append([]byte("before"), want...)) {
			t.Fatalf("AppendTo\n%x, generated code\n%x", got[len("before"):], want)
		}
		reused := drawSegment(t)
		if err := reused.Decode(want); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(reused, m) {
			t.Fatalf("Decode gave %v, want %v", reused, m)
		}
	})
}

// Every field of the message is written: a field added to the proto and forgotten in the codec fails here.
func TestCodecKnowsEveryField(t *testing.T) {
	full := sample()
	full.Error, full.BytesIn, full.BytesOut, full.SegmentsIn, full.SegmentsOut = "reset", 1, 2, 3, 4
	for _, m := range []proto.Message{full, full.TcpInfo} {
		fields := m.ProtoReflect().Descriptor().Fields()
		for i := range fields.Len() {
			if f := fields.Get(i); !m.ProtoReflect().Has(f) {
				t.Errorf("the sample lacks %s", f.FullName())
			}
		}
	}
	want, err := proto.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	if got := full.AppendTo(nil); !bytes.Equal(got, want) {
		t.Errorf("AppendTo\n%x, generated code\n%x", got, want)
	}
	var back Segment
	if err := back.Decode(want); err != nil || !proto.Equal(&back, full) {
		t.Errorf("Decode gave %v, %v; want %v", &back, err, full)
	}
}

func TestDecodeRefusesGarbage(t *testing.T) {
	for name, b := range map[string][]byte{
		"truncated tag":    {0x80},
		"truncated value":  {0x08},
		"truncated string": {0x12, 0x05, 'a'},
		"field zero":       {0x00, 0x00},
		"bad UTF-8":        {0x12, 0x01, 0xff},
		"bad tcp_info":     {0x4a, 0x01, 0x08},
		"stray group end":  {0x0c},
	} {
		var m Segment
		if err := m.Decode(b); !errors.Is(err, shared.ErrInvalid) {
			t.Errorf("%s: error is %v, want ErrInvalid", name, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(sample().AppendTo(nil))
	f.Add((&Segment{Error: "reset", BytesIn: 1 << 40}).AppendTo(nil))
	f.Add([]byte{0x4a, 0x02, 0x08, 0x01, 0x4a, 0x02, 0x10, 0x01})                   // tcp_info twice: merged
	f.Add([]byte{0x0d, 1, 2, 3, 4, 0x12, 0x00, 0xa3, 0x06, 0xa4, 0x06, 0xf8, 0x7f}) // wrong type, empty string, group, cut off
	f.Fuzz(func(t *testing.T, b []byte) {
		before := slices.Clone(b)
		var want Segment
		wantErr := proto.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(b, &want)
		got := sample()
		gotErr := got.Decode(b)
		if (wantErr == nil) != (gotErr == nil) {
			t.Fatalf("Decode: %v; generated code: %v", gotErr, wantErr)
		}
		if gotErr == nil && !proto.Equal(got, &want) {
			t.Fatalf("Decode gave %v, generated code %v", got, &want)
		}
		if !bytes.Equal(b, before) {
			t.Fatal("Decode changed its input")
		}
	})
}

func TestCodecDoesNotAllocate(t *testing.T) {
	m, buf := sample(), make([]byte, 0, 512)
	if n := testing.AllocsPerRun(100, func() { buf = m.AppendTo(buf[:0]) }); n != 0 {
		t.Errorf("AppendTo allocates %v times", n)
	}
	var back Segment
	if n := testing.AllocsPerRun(100, func() { _ = back.Decode(buf) }); n != 0 {
		t.Errorf("Decode allocates %v times when it meets the same connection again", n)
	}
}

func TestPoints(t *testing.T) {
	for i, p := range Points {
		if err := p.Validate(); err != nil {
			t.Error(err)
		}
		if slices.Index(Points, p) != i {
			t.Errorf("%s is listed twice", p)
		}
	}
	if got := string((&Segment{}).ProtoReflect().Descriptor().FullName()); got != Message {
		t.Errorf("Message is %q, the message is called %q", Message, got)
	}
	for _, c := range []shared.Class{ClassTCP, ClassSocket} {
		if err := c.Validate(); err != nil {
			t.Error(err)
		}
	}
}

func BenchmarkAppendTo(b *testing.B) {
	m, buf := sample(), make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		buf = m.AppendTo(buf[:0])
	}
}

func BenchmarkDecode(b *testing.B) {
	buf := sample().AppendTo(nil)
	var m Segment
	b.ReportAllocs()
	for b.Loop() {
		if err := m.Decode(buf); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGeneratedMarshal(b *testing.B) {
	m, buf := sample(), make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = proto.MarshalOptions{}.MarshalAppend(buf[:0], m)
	}
}
