package wire_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// sent returns a message as its receiver has it.
func sent[M proto.Message](t interface{ Fatal(args ...any) }, m, into M) M {
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := proto.Unmarshal(b, into); err != nil {
		t.Fatal(err)
	}
	return into
}

// Every code of the protocol is one of shared's, and the other way round.
func TestCodesOfTheWireAreThoseOfShared(t *testing.T) {
	for n, name := range wire.Code_name {
		back := (&wire.Status{Code: wire.Code(n), Message: "why"}).Err()
		switch shared.Code(n) {
		case shared.CodeOK:
			if back != nil {
				t.Errorf("%s came as %v", name, back)
			}
		case shared.CodeUnknown:
			if back == nil || back.Error() != "why" {
				t.Errorf("%s came as %v", name, back)
			}
		default:
			if shared.CodeOf(back) != shared.Code(n) {
				t.Errorf("%s (%d) came as %v, code %d", name, n, back, shared.CodeOf(back))
			}
		}
	}
	for code, name := range map[shared.Code]string{
		shared.CodeOK: "OK", shared.CodeUnknown: "UNKNOWN", shared.CodeExist: "EXIST", shared.CodeNotExist: "NOT_EXIST",
		shared.CodeBusy: "BUSY", shared.CodeInvalid: "INVALID", shared.CodeNameTooLong: "NAME_TOO_LONG", shared.CodeNoExec: "NO_EXEC",
		shared.CodePermission: "PERMISSION", shared.CodeDeadlock: "DEADLOCK", shared.CodeTooManyLinks: "TOO_MANY_LINKS",
		shared.CodeIncompatible: "INCOMPATIBLE", shared.CodeHelperGone: "HELPER_GONE", shared.CodeTimeout: "TIMEOUT",
		shared.CodeBadReply: "BAD_REPLY", shared.CodeOverload: "OVERLOAD", shared.CodeTooLarge: "TOO_LARGE", shared.CodeClosed: "CLOSED",
		shared.CodeRejected: "REJECTED", shared.CodeUnsupported: "UNSUPPORTED", shared.CodeCanceled: "CANCELED",
	} {
		if got := wire.Code(code).String(); got != "CODE_"+name {
			t.Errorf("code %d is %s on the wire, want CODE_%s", code, got, name)
		}
	}
	if _, more := wire.Code_name[int32(shared.CodeCanceled)+1]; more {
		t.Error("the wire has a code that shared does not know")
	}
}

func TestStatusRoundTrip(t *testing.T) {
	if s := sent(t, wire.StatusOf(nil), &wire.Status{}); s.Err() != nil {
		t.Errorf("no error came as %v", s.Err())
	}
	if err := (*wire.Status)(nil).Err(); err != nil {
		t.Errorf("an absent status is %v", err)
	}
	for _, err := range []error{
		shared.ErrBusy, shared.ErrBusy.Errorf("held by %d objects", 12), fmt.Errorf("load: %w", shared.ErrNoExec.Errorf("x")), io.EOF,
	} {
		back := sent(t, wire.StatusOf(err), &wire.Status{}).Err()
		if back.Error() != err.Error() || shared.CodeOf(back) != shared.CodeOf(err) {
			t.Errorf("%v came as %v", err, back)
		}
	}
	// A path need not be UTF-8, and must not end the stream on which the error goes.
	err := shared.ErrNotExist.Errorf("no file /tmp/\xff\xfe")
	back := sent(t, wire.StatusOf(err), &wire.Status{}).Err()
	if !errors.Is(back, shared.ErrNotExist) || !utf8.ValidString(back.Error()) {
		t.Errorf("%q came as %q", err, back)
	}
	// What a peer says can neither forge a line of a log nor fill it.
	back = (&wire.Status{Code: wire.Code_CODE_BUSY, Message: "hi\x1b[2J\n[ERROR] forged" + strings.Repeat("\n", 3<<20)}).Err()
	if !errors.Is(back, shared.ErrBusy) || !strings.HasPrefix(back.Error(), `hi\x1b[2J\n[ERROR] forged\n\n`) || len(back.Error()) > shared.MaxText+16 {
		t.Errorf("%d bytes that begin with %.64q", len(back.Error()), back)
	}
	if err := (&wire.Status{Code: 4711, Message: "from the future"}).Err(); err == nil || shared.CodeOf(err) != shared.CodeUnknown {
		t.Errorf("an unknown code came as %v", err)
	}
}

// An error that names properties does so across the wire, each with its own words, and what a peer says of them is made printable too.
func TestStatusNamesProperties(t *testing.T) {
	err := fmt.Errorf("settings: %w", errors.Join(
		&shared.PropertyError{Name: "every", Err: shared.ErrInvalid.Errorf("is odd")},
		&shared.PropertyError{Name: "net", Err: io.ErrUnexpectedEOF},
	))
	back := sent(t, wire.StatusOf(err), &wire.Status{}).Err()
	if !errors.Is(back, shared.ErrInvalid) || back.Error() != strings.ReplaceAll(err.Error(), "\n", `\n`) {
		t.Errorf("%q came as %q", err, back)
	}
	var names []string
	for _, p := range shared.PropertyErrors(back) {
		names = append(names, p.Error())
	}
	if diff := cmp.Diff([]string{`property "every": is odd`, `property "net": unexpected EOF`}, names); diff != "" {
		t.Error(diff)
	}
	evil := &wire.Status{Code: wire.Code_CODE_INVALID, Message: "x"}
	for range 2 * shared.MaxProperties {
		evil.Properties = append(evil.Properties, &wire.PropertyError{Name: "a\n", Message: "b\n"})
	}
	found := shared.PropertyErrors(evil.Err())
	if len(found) != shared.MaxProperties || found[0].Name != `a\n` || found[0].Err.Error() != `b\n` {
		t.Errorf("%d properties, the first %v", len(found), found[0])
	}
	if err := (&wire.Status{Properties: evil.Properties}).Err(); err != nil {
		t.Errorf("a success that names properties is %v", err)
	}
}

func drawValue(t *rapid.T) any {
	return rapid.OneOf(
		rapid.Map(rapid.String(), func(s string) any { return s }), rapid.Map(rapid.Bool(), func(b bool) any { return b }),
		rapid.Map(rapid.Int64(), func(i int64) any { return i }), rapid.Map(rapid.Float64(), func(f float64) any { return f }),
		rapid.Map(rapid.SliceOf(rapid.String()), func(l []string) any {
			list := []any{}
			for _, s := range l {
				list = append(list, s)
			}
			return list
		}),
	).Draw(t, "value")
}

func drawModinfo(t *rapid.T) *shared.Modinfo {
	text := rapid.Map(rapid.String(), func(s string) string { return shared.Printable(s, shared.MaxText) })
	word := rapid.String() // as it is: what is no name is refused with quotes around it
	number := rapid.Uint32()
	m := &shared.Modinfo{
		Name: text.Draw(t, "name"), Version: text.Draw(t, "version"), API: number.Draw(t, "api"), Description: text.Draw(t, "description"),
		NeedsOSD: rapid.Bool().Draw(t, "needs"), Reads: rapid.SliceOf(word).Draw(t, "reads"),
	}
	if m.NeedsOSD {
		m.OSD = shared.OSDInfo{
			Template: drawBytes(t, "template"), HasNew: rapid.Bool().Draw(t, "new"), HasFree: rapid.Bool().Draw(t, "free"),
			MaxBytes: number.Draw(t, "max"), DataVersion: number.Draw(t, "data version"),
		}
		m.OSD.HasTemplate = m.OSD.Template != nil
	}
	for range rapid.IntRange(0, 3).Draw(t, "n") {
		m.Classes = append(m.Classes, shared.Class(word.Draw(t, "class")))
		m.Hooks = append(m.Hooks, shared.HookInfo{
			Point: shared.HookPoint(word.Draw(t, "point")), Index: number.Draw(t, "index"), UData: drawBytes(t, "udata"), MaySleep: rapid.Bool().Draw(t, "sleep"),
		})
		m.Requires = append(m.Requires, shared.Requirement{Name: word.Draw(t, "required"), Constraint: text.Draw(t, "constraint")})
		p := shared.Property{Name: text.Draw(t, "property"), Type: shared.PropertyType(word.Draw(t, "type")), Required: rapid.Bool().Draw(t, "must"), Doc: text.Draw(t, "doc"), Format: shared.PropertyFormat(text.Draw(t, "format"))}
		if rapid.Bool().Draw(t, "has bounds") {
			low, high := rapid.Int64().Draw(t, "minimum"), rapid.Int64().Draw(t, "maximum")
			p.Minimum, p.Maximum = &low, &high
		}
		if rapid.Bool().Draw(t, "has default") {
			p.Default = drawValue(t)
		}
		m.Properties = append(m.Properties, p)
		m.Sections = append(m.Sections, shared.Section{Name: text.Draw(t, "section"), Data: drawBytes(t, "bytes")})
		if m.NeedsOSD {
			m.OSD.Schema = append(m.OSD.Schema, shared.Field{
				Name: text.Draw(t, "field"), Type: shared.FieldType(word.Draw(t, "field type")), Offset: number.Draw(t, "offset"), Count: number.Draw(t, "count"),
			})
		}
	}
	return m
}

func TestModinfoRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawModinfo(t)
		got, err := wire.ModinfoFromProto(sent(t, wire.ModinfoToProto(want), &wire.Modinfo{}))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateNaNs()); diff != "" {
			t.Fatal(diff)
		}
		if got.OSD.HasTemplate != want.OSD.HasTemplate {
			t.Fatal("an empty template and none are not the same")
		}
	})
}

// All that is shown of a Modinfo, whatever a helper put into it, is one printable line of a length that somebody reads.
func TestModinfoTextsArePrintable(t *testing.T) {
	const evil = "1.0\x1b[2J\nforged"
	const shown = `1.0\x1b[2J\nforged`
	m, err := wire.ModinfoFromProto(&wire.Modinfo{
		Name: evil, Version: evil, Description: evil + strings.Repeat("x", 1<<20),
		Osd:        &wire.OsdInfo{Schema: []*wire.Field{{Name: evil}}},
		Requires:   []*wire.Requirement{{Name: "ertt", Constraint: evil}},
		Properties: []*wire.Property{{Name: evil, Doc: evil}},
		Sections:   []*wire.Section{{Name: evil, Data: []byte(evil)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for what, got := range map[string]string{
		"name": m.Name, "version": m.Version, "field": m.OSD.Schema[0].Name, "constraint": m.Requires[0].Constraint,
		"property": m.Properties[0].Name, "doc": m.Properties[0].Doc, "section": m.Sections[0].Name,
	} {
		if got != shown {
			t.Errorf("%s came as %q", what, got)
		}
	}
	if d := m.Description; !strings.HasPrefix(d, shown) || len(d) > shared.MaxText+16 {
		t.Errorf("a description of %d bytes, %.64q", len(d), d)
	}
	if data := string(m.Sections[0].Data); data != evil {
		t.Errorf("the bytes of a section came as %q", data)
	}
	if err := m.Validate(); !errors.Is(err, shared.ErrInvalid) {
		t.Errorf("such a Modinfo validates: %v", err)
	}
}

func TestPropertiesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := map[string]any{}
		for range rapid.IntRange(0, 4).Draw(t, "n") {
			want[rapid.String().Draw(t, "name")] = drawValue(t)
		}
		got, err := wire.PropertiesFromProto(sent(t, &wire.InitRequest{Config: wire.PropertiesToProto(want)}, &wire.InitRequest{}).GetConfig())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateNaNs()); diff != "" {
			t.Fatal(diff)
		}
	})
	if got, err := wire.ValueFromProto(wire.ValueToProto(5)); err != nil || got != int64(5) {
		t.Errorf("an int came as %v (%T), %v", got, got, err)
	}
}

func TestValuesThatAreNone(t *testing.T) {
	list := func(v ...*wire.Value) *wire.Value {
		return &wire.Value{Kind: &wire.Value_ListValue{ListValue: &wire.ValueList{Values: v}}}
	}
	for name, v := range map[string]*wire.Value{
		"nil": nil, "no type": {}, "element without type": list(&wire.Value{}), "list in a list": list(list()),
	} {
		if got, err := wire.ValueFromProto(v); !errors.Is(err, shared.ErrInvalid) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		_, err := wire.PropertiesFromProto(map[string]*wire.Value{"window": v})
		var bad *shared.PropertyError
		if !errors.As(err, &bad) || bad.Name != "window" {
			t.Errorf("%s: %v does not name the property", name, err)
		}
	}
	_, err := wire.ModinfoFromProto(&wire.Modinfo{Properties: []*wire.Property{{Name: "window", Default: list(list())}}})
	var bad *shared.PropertyError
	if !errors.As(err, &bad) || bad.Name != "window" {
		t.Errorf("a bad default: %v", err)
	}
	defer func() {
		if recover() == nil {
			t.Error("a value of no property type was encoded")
		}
	}()
	wire.ValueToProto(uint8(1))
}
