package wire_test

import (
	"errors"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// frameSeeds are frames that are wrong in ways that both kinds can be.
var frameSeeds = []string{
	"", "\x0a\x00", "\x0a\x00\x0a", "\x0a\xff\xff\xff\xff\x0f", "hello, world", "\x10\x01\x0a\x00\x18\x01", "\x8a\x00\x00", "\x0a\x02\x0f\x00",
	"\x0a\x06\xf8\xff\xff\xff\x7f\x01", "\x0a\x04\x1b\x08\x01\x1c", "\x0a\x01\x0c", "\x08\x01", "\x0a\x04\x18\x80\x80\x01", "\x0a\x03\x0a\x01x",
}

// The invariants of both targets: no panic; an error is ErrBadReply; what the generated code accepts is accepted and means the same; what
// it refuses is refused, but for text that is not UTF-8; what was read can be written and read again.

func FuzzNextCall(f *testing.F) {
	for _, s := range frameSeeds {
		f.Add([]byte(s))
	}
	f.Add(encodeCalls(&wire.CallFrame{Calls: []*wire.Call{
		{Seq: 1, Hook: 2, Object: 3, Data: []byte("data"), Context: []byte("context"), BudgetUs: 200000},
		{Seq: 2, Hook: 2, Object: 3, Chained: true, Kind: wire.CallKind_CALL_KIND_FREE},
		{Seq: 3, Data: []byte{}, Peers: []*wire.PeerData{{Helper: "ertt", DataVersion: 2, Data: []byte("peer")}, {}}},
	}}))
	f.Fuzz(func(t *testing.T, frame []byte) {
		want := &wire.CallFrame{}
		stockErr := proto.Unmarshal(frame, want)
		got, err := decodeCalls(frame)
		if err != nil {
			if !errors.Is(err, shared.ErrBadReply) {
				t.Fatalf("%v is not ErrBadReply", err)
			}
			if stockErr == nil && len(want.GetCalls()) > 0 {
				t.Fatalf("refused, %v, but generated code reads %v", err, want)
			}
			return
		}
		text := true
		for _, c := range got.GetCalls() {
			for _, p := range c.GetPeers() {
				text = text && utf8.ValidString(p.GetHelper())
			}
		}
		if !text {
			return
		}
		if stockErr != nil {
			t.Fatalf("accepted as %v, but generated code says %v", got, stockErr)
		}
		for _, c := range want.GetCalls() {
			c.BudgetUs = min(c.GetBudgetUs(), uint64((1<<63-1)/time.Microsecond))
		}
		dropUnknown(want)
		if diff := sameMessage(want, got); diff != "" {
			t.Fatal(diff)
		}
		again, err := decodeCalls(encodeCalls(got))
		if err != nil || sameMessage(got, again) != "" {
			t.Fatalf("read again: %v, %v; want %v", again, err, got)
		}
	})
}

func FuzzNextReply(f *testing.F) {
	for _, s := range frameSeeds {
		f.Add([]byte(s))
	}
	f.Add(encodeReplies(&wire.ReplyFrame{Replies: []*wire.Reply{
		{Seq: 1, Data: []byte("data")}, {Seq: 1 << 63, Verdict: wire.Verdict_VERDICT_REJECT, Message: "no"},
		{Seq: 3, Context: []byte{}, Code: wire.Code_CODE_TIMEOUT}, {Seq: 4, Code: -1, Verdict: 77},
	}}))
	f.Fuzz(func(t *testing.T, frame []byte) {
		want := &wire.ReplyFrame{}
		stockErr := proto.Unmarshal(frame, want)
		got, err := decodeReplies(frame)
		if err != nil {
			if !errors.Is(err, shared.ErrBadReply) {
				t.Fatalf("%v is not ErrBadReply", err)
			}
			if stockErr == nil && len(want.GetReplies()) > 0 {
				t.Fatalf("refused, %v, but generated code reads %v", err, want)
			}
			return
		}
		for _, r := range got.GetReplies() {
			if !utf8.ValidString(r.GetMessage()) {
				return
			}
		}
		if stockErr != nil {
			t.Fatalf("accepted as %v, but generated code says %v", got, stockErr)
		}
		dropUnknown(want)
		if diff := sameMessage(want, got); diff != "" {
			t.Fatal(diff)
		}
		again, err := decodeReplies(encodeReplies(got))
		if err != nil || sameMessage(got, again) != "" {
			t.Fatalf("read again: %v, %v; want %v", again, err, got)
		}
	})
}

// dropUnknown takes what a later version would have said out of a frame.
func dropUnknown(frame proto.Message) {
	clean := func(m proto.Message) { m.ProtoReflect().SetUnknown(nil) }
	clean(frame)
	switch f := frame.(type) {
	case *wire.CallFrame:
		for _, c := range f.GetCalls() {
			clean(c)
			for _, p := range c.GetPeers() {
				clean(p)
			}
		}
	case *wire.ReplyFrame:
		for _, r := range f.GetReplies() {
			clean(r)
		}
	}
}
