package wire_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// decodeCalls reads a whole frame by hand and makes of it what the generated code would.
func decodeCalls(frame []byte) (*wire.CallFrame, error) {
	out := &wire.CallFrame{}
	var c wire.CallView
	var err error
	for len(frame) > 0 {
		if frame, err = wire.NextCall(frame, &c); err != nil {
			return nil, err
		}
		call := &wire.Call{
			Seq: c.Seq, Kind: c.Kind, Hook: c.Hook, Object: c.Object, Chained: c.Chained, Context: c.Context,
			BudgetUs: uint64(c.Budget / time.Microsecond),
		}
		if c.HasData {
			call.Data = append([]byte{}, c.Data...)
		}
		for peers := c.PeerData; len(peers) > 0; {
			var p wire.PeerView
			if peers, err = wire.NextPeer(peers, &p); err != nil {
				return nil, err
			}
			call.Peers = append(call.Peers, &wire.PeerData{Helper: p.Helper, DataVersion: p.DataVersion, Data: p.Data})
		}
		out.Calls = append(out.Calls, call)
	}
	return out, nil
}

func encodeCalls(f *wire.CallFrame) []byte {
	var frame []byte
	for _, c := range f.GetCalls() {
		v := wire.CallView{
			Seq: c.GetSeq(), Kind: c.GetKind(), Hook: c.GetHook(), Object: c.GetObject(), Chained: c.GetChained(), Context: c.GetContext(),
			HasData: c.Data != nil, Data: c.GetData(), Budget: time.Duration(c.GetBudgetUs()) * time.Microsecond,
		}
		for _, p := range c.GetPeers() {
			v.PeerData = wire.AppendPeer(v.PeerData, &wire.PeerView{Helper: p.GetHelper(), DataVersion: p.GetDataVersion(), Data: p.GetData()})
		}
		frame = wire.AppendCall(frame, &v)
	}
	return frame
}

// decodeReplies reads a whole frame by hand and makes of it what the generated code would.
func decodeReplies(frame []byte) (*wire.ReplyFrame, error) {
	out := &wire.ReplyFrame{}
	var r wire.ReplyView
	var err error
	for len(frame) > 0 {
		if frame, err = wire.NextReply(frame, &r); err != nil {
			return nil, err
		}
		reply := &wire.Reply{Seq: r.Seq, Verdict: r.Verdict, Code: wire.Code(r.Code), Message: string(r.Message)}
		if r.HasData {
			reply.Data = append([]byte{}, r.Data...)
		}
		if r.HasContext {
			reply.Context = append([]byte{}, r.Context...)
		}
		out.Replies = append(out.Replies, reply)
	}
	return out, nil
}

func viewOf(r *wire.Reply) *wire.ReplyView {
	return &wire.ReplyView{
		Seq: r.GetSeq(), Verdict: r.GetVerdict(), Code: shared.Code(r.GetCode()), Message: []byte(r.GetMessage()),
		HasData: r.Data != nil, Data: r.GetData(), HasContext: r.Context != nil, Context: r.GetContext(),
	}
}

func encodeReplies(f *wire.ReplyFrame) []byte {
	var frame []byte
	for _, r := range f.GetReplies() {
		frame = wire.AppendReply(frame, viewOf(r))
	}
	return frame
}

// The generators draw the corners as often as the middle: absent and empty, 0 and the largest.

func drawBytes(t *rapid.T, name string) []byte {
	return rapid.OneOf(rapid.Just([]byte(nil)), rapid.Just([]byte{}), rapid.SliceOfN(rapid.Byte(), 0, 300)).Draw(t, name)
}

func drawUint64(t *rapid.T, name string) uint64 {
	return rapid.OneOf(rapid.SampledFrom([]uint64{0, 1, 127, 128, math.MaxUint32, math.MaxUint64}), rapid.Uint64()).Draw(t, name)
}

func drawInt32(t *rapid.T, name string) int32 {
	return rapid.OneOf(rapid.Int32Range(0, 20), rapid.Int32()).Draw(t, name)
}

func drawCalls(t *rapid.T) *wire.CallFrame {
	f := &wire.CallFrame{}
	for range rapid.IntRange(0, 4).Draw(t, "calls") {
		c := &wire.Call{
			Seq: drawUint64(t, "seq"), Kind: wire.CallKind(drawInt32(t, "kind")), Hook: uint32(drawUint64(t, "hook")),
			Object: drawUint64(t, "object"), Chained: rapid.Bool().Draw(t, "chained"), Data: drawBytes(t, "data"),
			Context: drawBytes(t, "context"), BudgetUs: drawUint64(t, "budget") % (math.MaxInt64 / 1000),
		}
		for range rapid.IntRange(0, 2).Draw(t, "peers") {
			c.Peers = append(c.Peers, &wire.PeerData{
				Helper: rapid.String().Draw(t, "helper"), DataVersion: uint32(drawUint64(t, "version")), Data: drawBytes(t, "peer"),
			})
		}
		f.Calls = append(f.Calls, c)
	}
	return f
}

func drawReplies(t *rapid.T) *wire.ReplyFrame {
	f := &wire.ReplyFrame{}
	for range rapid.IntRange(0, 4).Draw(t, "replies") {
		f.Replies = append(f.Replies, &wire.Reply{
			Seq: drawUint64(t, "seq"), Verdict: wire.Verdict(drawInt32(t, "verdict")), Code: wire.Code(drawInt32(t, "code")),
			Data: drawBytes(t, "data"), Context: drawBytes(t, "context"), Message: rapid.String().Draw(t, "message"),
		})
	}
	return f
}

// sameMessage compares messages as their receivers see them: nil and empty bytes are one where presence is not kept.
func sameMessage(want, got proto.Message) string {
	return cmp.Diff(want, got, protocmp.Transform())
}

// withUnknown returns the frame with fields of a later version before, between and behind its messages.
func withUnknown(t *rapid.T, frame []byte) []byte {
	unknown := func() (b []byte) {
		for range rapid.IntRange(0, 2).Draw(t, "unknown") {
			num := protowire.Number(rapid.SampledFrom([]int{2, 15, 16, 100, int(protowire.MaxValidNumber)}).Draw(t, "number"))
			switch rapid.IntRange(0, 4).Draw(t, "type") {
			case 0:
				b = protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), drawUint64(t, "value"))
			case 1:
				b = protowire.AppendFixed64(protowire.AppendTag(b, num, protowire.Fixed64Type), drawUint64(t, "value"))
			case 2:
				b = protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), drawBytes(t, "value"))
			case 3:
				b = protowire.AppendFixed32(protowire.AppendTag(b, num, protowire.Fixed32Type), 7)
			default:
				b = protowire.AppendTag(b, num, protowire.StartGroupType)
				b = protowire.AppendVarint(protowire.AppendTag(b, 1, protowire.VarintType), 1)
				b = protowire.AppendTag(b, num, protowire.EndGroupType)
			}
		}
		return b
	}
	out := unknown()
	for len(frame) > 0 {
		_, _, n := protowire.ConsumeTag(frame)
		msg, m := protowire.ConsumeBytes(frame[n:])
		// Numbers beyond 15 only within messages: the lower ones have, or may get, a meaning there.
		inner := protowire.AppendBytes(protowire.AppendTag(append([]byte{}, msg...), 1000, protowire.BytesType), []byte("later"))
		inner = protowire.AppendVarint(protowire.AppendTag(inner, 14, protowire.VarintType), 5)
		out = protowire.AppendBytes(protowire.AppendTag(out, 1, protowire.BytesType), inner)
		out = append(out, unknown()...)
		frame = frame[n+m:]
	}
	return out
}

func TestCallsDecodeLikeGeneratedCode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawCalls(t)
		stock, err := proto.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		for name, frame := range map[string][]byte{"generated": stock, "by hand": encodeCalls(want), "later version": withUnknown(t, stock)} {
			if name == "later version" && len(want.GetCalls()) == 0 {
				continue // a frame that holds nothing but what is unknown is refused, see TestFrameWithoutMessages
			}
			got, err := decodeCalls(frame)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if diff := sameMessage(want, got); diff != "" {
				t.Fatalf("%s:\n%s", name, diff)
			}
		}
		back := &wire.CallFrame{}
		if err := proto.Unmarshal(encodeCalls(want), back); err != nil {
			t.Fatal(err)
		}
		if diff := sameMessage(want, back); diff != "" {
			t.Fatalf("generated code reads\n%s", diff)
		}
	})
}

func TestRepliesDecodeLikeGeneratedCode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawReplies(t)
		stock, err := proto.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		for name, frame := range map[string][]byte{"generated": stock, "by hand": encodeReplies(want), "later version": withUnknown(t, stock)} {
			if name == "later version" && len(want.GetReplies()) == 0 {
				continue
			}
			got, err := decodeReplies(frame)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if diff := sameMessage(want, got); diff != "" {
				t.Fatalf("%s:\n%s", name, diff)
			}
		}
		size := 0
		for _, r := range want.GetReplies() {
			size += wire.SizeReply(viewOf(r))
		}
		frame := encodeReplies(want)
		if size != len(frame) {
			t.Fatalf("SizeReply says %d, AppendReply wrote %d", size, len(frame))
		}
		back := &wire.ReplyFrame{}
		if err := proto.Unmarshal(frame, back); err != nil {
			t.Fatal(err)
		}
		if diff := sameMessage(want, back); diff != "" {
			t.Fatalf("generated code reads\n%s", diff)
		}
	})
}

// Every proper prefix that is no whole number of messages is refused.
func TestTruncatedFrames(t *testing.T) {
	calls := encodeCalls(&wire.CallFrame{Calls: []*wire.Call{{
		Seq: 1 << 40, Hook: 300, Object: 1 << 33, Chained: true, Data: []byte("data"), Context: []byte("context"), BudgetUs: 200000,
		Peers: []*wire.PeerData{{Helper: "ertt", DataVersion: 2, Data: []byte("peer")}},
	}}})
	replies := encodeReplies(&wire.ReplyFrame{Replies: []*wire.Reply{{
		Seq: 1 << 40, Verdict: wire.Verdict_VERDICT_REJECT, Data: []byte("data"), Context: []byte("context"), Code: 13, Message: "no",
	}}})
	for n := 1; n < len(calls); n++ {
		if got, err := decodeCalls(calls[:n]); !errors.Is(err, shared.ErrBadReply) {
			t.Errorf("%d of %d bytes of a call: %v, %v", n, len(calls), got, err)
		}
	}
	for n := 1; n < len(replies); n++ {
		if got, err := decodeReplies(replies[:n]); !errors.Is(err, shared.ErrBadReply) {
			t.Errorf("%d of %d bytes of a reply: %v, %v", n, len(replies), got, err)
		}
	}
}

func TestMalformedFrames(t *testing.T) {
	for name, frame := range map[string]string{
		"text":                  "hello, world",
		"length past the end":   "\x0a\xff\xff\xff\xff\x0f",
		"varint without an end": "\x0a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80",
		"field 0":               "\x02\x00",
		"field beyond all":      "\x0a\x06\xf8\xff\xff\xff\x7f\x01",
		"end of no group":       "\x0a\x01\x0c",
		"reserved type":         "\x0a\x02\x0f\x00",
		"inner truncated":       "\x0a\x05\x09\x01\x02\x03\x04",
		"behind a good one":     "\x0a\x00\x0a",
	} {
		if got, err := decodeCalls([]byte(frame)); !errors.Is(err, shared.ErrBadReply) {
			t.Errorf("calls, %s: %v, %v", name, got, err)
		}
		if got, err := decodeReplies([]byte(frame)); !errors.Is(err, shared.ErrBadReply) {
			t.Errorf("replies, %s: %v, %v", name, got, err)
		}
	}
}

func TestFrameWithoutMessages(t *testing.T) {
	if got, err := decodeCalls(nil); err != nil || len(got.GetCalls()) != 0 {
		t.Errorf("an empty frame: %v, %v", got, err)
	}
	unknown := protowire.AppendVarint(protowire.AppendTag(nil, 2, protowire.VarintType), 1)
	if _, err := decodeReplies(unknown); !errors.Is(err, shared.ErrBadReply) || !strings.Contains(err.Error(), "neither") {
		t.Errorf("nothing but the unknown: %v", err)
	}
}

func TestBudgetOnTheWire(t *testing.T) {
	for budget, want := range map[time.Duration]time.Duration{
		-time.Second: 0, 0: 0, 1: time.Microsecond, 1999: time.Microsecond, 200 * time.Millisecond: 200 * time.Millisecond,
		math.MaxInt64: math.MaxInt64 / 1000 * 1000,
	} {
		var c wire.CallView
		if _, err := wire.NextCall(wire.AppendCall(nil, &wire.CallView{Budget: budget}), &c); err != nil || c.Budget != want {
			t.Errorf("%d ns came as %d ns, %v; want %d", budget, c.Budget, err, want)
		}
	}
	frame, err := proto.Marshal(&wire.CallFrame{Calls: []*wire.Call{{BudgetUs: math.MaxUint64}}})
	if err != nil {
		t.Fatal(err)
	}
	var c wire.CallView
	if _, err := wire.NextCall(frame, &c); err != nil || c.Budget != math.MaxInt64/1000*1000 {
		t.Errorf("the largest budget: %v, %v", c.Budget, err)
	}
}

func TestShiftCalls(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawCalls(t)
		by := drawUint64(t, "by")
		frame := encodeCalls(want)
		wire.ShiftCalls(frame, by)
		for _, c := range want.GetCalls() {
			c.Seq += by
		}
		got, err := decodeCalls(frame)
		if err != nil {
			t.Fatal(err)
		}
		if diff := sameMessage(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

var (
	benchCall = wire.CallView{
		Seq: 1 << 40, Hook: 1, Object: 70000, HasData: true, Data: make([]byte, 64), Context: make([]byte, 64), Budget: 200 * time.Millisecond,
	}
	benchReply = wire.ReplyView{Seq: 1 << 40, HasData: true, Data: make([]byte, 64)}
)

func TestHandCodecDoesNotAllocate(t *testing.T) {
	call, reply := wire.AppendCall(nil, &benchCall), wire.AppendReply(nil, &benchReply)
	buf := make([]byte, 0, 4096)
	var c wire.CallView
	var r wire.ReplyView
	for name, f := range map[string]func(){
		"AppendCall":  func() { buf = wire.AppendCall(buf[:0], &benchCall) },
		"AppendReply": func() { buf = wire.AppendReply(buf[:0], &benchReply) },
		"NextCall":    func() { _, _ = wire.NextCall(call, &c) },
		"NextReply":   func() { _, _ = wire.NextReply(reply, &r) },
		"ShiftCalls":  func() { wire.ShiftCalls(call, 1) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

func BenchmarkAppendCall(b *testing.B) {
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		buf = wire.AppendCall(buf[:0], &benchCall)
	}
}

func BenchmarkNextCall(b *testing.B) {
	frame := wire.AppendCall(nil, &benchCall)
	var c wire.CallView
	b.ReportAllocs()
	for b.Loop() {
		if _, err := wire.NextCall(frame, &c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendReply(b *testing.B) {
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		buf = wire.AppendReply(buf[:0], &benchReply)
	}
}

func BenchmarkNextReply(b *testing.B) {
	frame := wire.AppendReply(nil, &benchReply)
	var r wire.ReplyView
	b.ReportAllocs()
	for b.Loop() {
		if _, err := wire.NextReply(frame, &r); err != nil {
			b.Fatal(err)
		}
	}
}
