package wire_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/points/tcpv1"
	"github.com/khelp/khelp/shared/wire"
)

func protocolText(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// hexBlock returns the bytes of the fenced block ```hex NAME, whose comments begin with #.
func hexBlock(t *testing.T, doc, name string) []byte {
	t.Helper()
	_, rest, found := strings.Cut(doc, "```hex "+name+"\n")
	block, _, closed := strings.Cut(rest, "```")
	if !found || !closed {
		t.Fatalf("PROTOCOL.md has no block %s", name)
	}
	var digits strings.Builder
	for line := range strings.Lines(block) {
		code, _, _ := strings.Cut(line, "#")
		digits.WriteString(strings.Join(strings.Fields(code), ""))
	}
	b, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatalf("block %s: %v", name, err)
	}
	return b
}

// counter is the helper's data in the example: a little-endian uint64.
func counter(n uint64) []byte { return binary.LittleEndian.AppendUint64(nil, n) }

func segment(t *testing.T, length uint32) []byte {
	t.Helper()
	b, err := proto.Marshal(&tcpv1.Segment{Len: length})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestProtocolDocument_CallFrame(t *testing.T) {
	doc := protocolText(t)
	want := hexBlock(t, doc, "CallFrame")
	const budget = 200 * time.Millisecond
	calls := []wire.CallView{
		{Seq: 0x100007000, Object: 7, HasData: true, Data: counter(2), Context: segment(t, 5), Budget: budget},
		{Seq: 0x100007001, Hook: 1, Object: 7, Chained: true, Context: segment(t, 9), Budget: budget},
	}
	var frame []byte
	for i := range calls {
		frame = wire.AppendCall(frame, &calls[i])
	}
	if !bytes.Equal(frame, want) {
		t.Errorf("the codec writes\n% x\nPROTOCOL.md has\n% x", frame, want)
	}
	generated := &wire.CallFrame{}
	for _, c := range calls {
		m := &wire.Call{
			Seq: c.Seq, Hook: c.Hook, Object: c.Object, Chained: c.Chained, Context: c.Context, BudgetUs: uint64(c.Budget.Microseconds()),
		}
		if c.HasData {
			m.Data = c.Data
		}
		generated.Calls = append(generated.Calls, m)
	}
	wantMessage(t, want, generated, &wire.CallFrame{})
	wantPrefix(t, doc, len(want))
}

func TestProtocolDocument_ReplyFrame(t *testing.T) {
	doc := protocolText(t)
	want := hexBlock(t, doc, "ReplyFrame")
	replies := []wire.ReplyView{
		{Seq: 0x100007000, HasData: true, Data: counter(3)},
		{Seq: 0x100007001, Code: shared.CodeBusy, Message: []byte("not now")},
	}
	var frame []byte
	for i := range replies {
		frame = wire.AppendReply(frame, &replies[i])
	}
	if !bytes.Equal(frame, want) {
		t.Errorf("the codec writes\n% x\nPROTOCOL.md has\n% x", frame, want)
	}
	wantMessage(t, want, &wire.ReplyFrame{Replies: []*wire.Reply{
		{Seq: 0x100007000, Data: counter(3)},
		{Seq: 0x100007001, Code: wire.Code_CODE_BUSY, Message: "not now"},
	}}, &wire.ReplyFrame{})
	wantPrefix(t, doc, len(want))
}

// wantMessage wants the generated code to read b as want.
func wantMessage(t *testing.T, b []byte, want, into proto.Message) {
	t.Helper()
	if err := proto.Unmarshal(b, into); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(into, want) {
		t.Errorf("PROTOCOL.md's bytes are\n%v\nwant\n%v", into, want)
	}
}

// wantPrefix wants the document to show gRPC's prefix of a message.
func wantPrefix(t *testing.T, doc string, length int) {
	t.Helper()
	if prefix := fmt.Sprintf("`% x`", binary.BigEndian.AppendUint32([]byte{0}, uint32(length))); !strings.Contains(doc, prefix) {
		t.Errorf("PROTOCOL.md does not show the prefix %s", prefix)
	}
}

func TestProtocolDocument_Codes(t *testing.T) {
	row := regexp.MustCompile("(?m)^\\| `(CODE_[A-Z_]+)` \\| (\\d+) \\| *([A-Z]*) *\\| ([^|]+) \\|$")
	documented := map[string]bool{}
	for _, m := range row.FindAllStringSubmatch(protocolText(t), -1) {
		name, word, meaning := m[1], m[3], m[4]
		documented[name] = true
		number, err := strconv.Atoi(m[2])
		if err != nil || wire.Code_value[name] != int32(number) {
			t.Errorf("%s is %d, PROTOCOL.md says %s", name, wire.Code_value[name], m[2])
		}
		if word == "" {
			continue // OK and UNKNOWN have no sentinel
		}
		sentinel := shared.FromCode(shared.Code(number), "")
		if shared.ErrWord(sentinel) != word {
			t.Errorf("%s is %v, PROTOCOL.md says %s", name, sentinel, word)
		}
		if text := strings.TrimPrefix(sentinel.Error(), word+": "); !strings.HasPrefix(meaning, text) {
			t.Errorf("%s means %q, PROTOCOL.md says %q", name, text, meaning)
		}
	}
	for name := range wire.Code_value {
		if !documented[name] {
			t.Errorf("PROTOCOL.md does not list %s", name)
		}
	}
}

func TestProtocolDocument_Numbers(t *testing.T) {
	doc := protocolText(t)
	for _, line := range []string{
		fmt.Sprintf("| one frame, one control message, one Modinfo | %d bytes |", wire.MaxFrame),
		fmt.Sprintf("| context of one invocation | %d bytes |", shared.MaxContext),
		fmt.Sprintf("| one slot | %d bytes,", shared.MaxSlot),
		fmt.Sprintf("| all slots of one helper | %d bytes |", shared.MaxSlots),
		fmt.Sprintf("| calls of one helper that are queued or unanswered | %d;", shared.DefaultInflight),
		fmt.Sprintf("| hooks of one helper | %d |", shared.MaxHooks),
		fmt.Sprintf("| classes of one helper | %d |", shared.MaxClasses),
		fmt.Sprintf("| a name | %d bytes |", shared.MaxName),
		fmt.Sprintf("| a text of a helper's that is shown: message, reason, description, version | %d bytes;", shared.MaxText),
		fmt.Sprintf("# The khelp protocol, version %d\n", wire.ProtocolVersion),
		fmt.Sprintf("| API generation, %d |", shared.APIGeneration),
		fmt.Sprintf("| `%s` | `%s`, the cookie |", wire.Handshake.MagicCookieKey, wire.Handshake.MagicCookieValue),
		fmt.Sprintf("| `%s` |", wire.EnvProtocolVersions),
		fmt.Sprintf("| `%s` |", wire.EnvClientCert),
		fmt.Sprintf("| `%s` |", wire.EnvSocketDir),
		fmt.Sprintf("| `%s` |", wire.EnvLogLevel),
	} {
		if !strings.Contains(doc, line) {
			t.Errorf("PROTOCOL.md lacks %q", line)
		}
	}
}

// The specification names every method, every request and every field that matters to a peer.
func TestProtocolDocument_NamesEverything(t *testing.T) {
	doc := protocolText(t)
	file := wire.File_shared_wire_khelp_proto
	service := file.Services().Get(0)
	for i := range service.Methods().Len() {
		m := service.Methods().Get(i)
		if path := fmt.Sprintf("`/%s/%s`", service.FullName(), m.Name()); !strings.Contains(doc, path) {
			t.Errorf("PROTOCOL.md lacks the method %s", path)
		}
	}
	for _, name := range []string{"Call", "Reply", "Modinfo", "ControlToHelper", "ControlToHost"} {
		m := file.Messages().ByName(protoreflect.Name(name))
		for i := range m.Fields().Len() {
			field := string(m.Fields().Get(i).Name())
			if !regexp.MustCompile(`\b` + field + `\b`).MatchString(doc) {
				t.Errorf("PROTOCOL.md lacks %s.%s", name, field)
			}
		}
	}
}
