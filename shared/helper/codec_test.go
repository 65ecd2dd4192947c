package helper

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/khelp/khelp/shared"
)

// reflected is stateOf for a type that only reflection knows.
func reflected(t reflect.Type) stateType {
	return stateType{
		typ:   t,
		alloc: func() unsafe.Pointer { return reflect.New(t).UnsafePointer() },
		value: func(p unsafe.Pointer) any { return reflect.NewAt(t, p).Interface() },
		zero:  func(p unsafe.Pointer) { reflect.NewAt(t, p).Elem().SetZero() },
	}
}

// twin is a type of ours and what encoding/binary must be given for it, which does not know int and uint.
type twin struct{ ours, theirs reflect.Type }

func same(t reflect.Type) twin { return twin{t, t} }

var basics = []twin{
	same(reflect.TypeFor[bool]()),
	same(reflect.TypeFor[int8]()), same(reflect.TypeFor[int16]()), same(reflect.TypeFor[int32]()), same(reflect.TypeFor[int64]()),
	same(reflect.TypeFor[uint8]()), same(reflect.TypeFor[uint16]()), same(reflect.TypeFor[uint32]()), same(reflect.TypeFor[uint64]()),
	same(reflect.TypeFor[float32]()), same(reflect.TypeFor[float64]()),
	same(reflect.TypeFor[complex64]()), same(reflect.TypeFor[complex128]()),
	{reflect.TypeFor[int](), reflect.TypeFor[int64]()},
	{reflect.TypeFor[uint](), reflect.TypeFor[uint64]()},
}

func drawTwin(t *rapid.T, depth int) twin {
	kinds := []string{"basic", "basic", "array", "struct"}
	if depth == 0 {
		kinds = kinds[:1]
	}
	switch rapid.SampledFrom(kinds).Draw(t, "kind") {
	case "array":
		elem := drawTwin(t, depth-1)
		n := rapid.IntRange(0, 5).Draw(t, "length")
		return twin{reflect.ArrayOf(n, elem.ours), reflect.ArrayOf(n, elem.theirs)}
	case "struct":
		return drawStruct(t, depth)
	default:
		return rapid.SampledFrom(basics).Draw(t, "basic")
	}
}

func drawStruct(t *rapid.T, depth int) twin {
	var ours, theirs []reflect.StructField
	for i := range rapid.IntRange(0, 6).Draw(t, "fields") {
		f := drawTwin(t, depth-1)
		name := fmt.Sprintf("F%d", i)
		ours = append(ours, reflect.StructField{Name: name, Type: f.ours})
		theirs = append(theirs, reflect.StructField{Name: name, Type: f.theirs})
	}
	return twin{reflect.StructOf(ours), reflect.StructOf(theirs)}
}

// fill gives both values the same random content.
func fill(t *rapid.T, ours, theirs reflect.Value) {
	switch ours.Kind() {
	case reflect.Struct:
		for i := range ours.NumField() {
			fill(t, ours.Field(i), theirs.Field(i))
		}
	case reflect.Array:
		for i := range ours.Len() {
			fill(t, ours.Index(i), theirs.Index(i))
		}
	case reflect.Bool:
		b := rapid.Bool().Draw(t, "bool")
		ours.SetBool(b)
		theirs.SetBool(b)
	case reflect.Float32, reflect.Float64:
		f := rapid.Float64Range(-1e30, 1e30).Draw(t, "float")
		ours.SetFloat(f)
		theirs.SetFloat(f)
	case reflect.Complex64, reflect.Complex128:
		c := complex(rapid.Float64Range(-1e30, 1e30).Draw(t, "re"), rapid.Float64Range(-1e30, 1e30).Draw(t, "im"))
		ours.SetComplex(c)
		theirs.SetComplex(c)
	default:
		n := rapid.Int64().Draw(t, "int")
		if ours.CanInt() {
			ours.SetInt(n)
			theirs.SetInt(ours.Int())
			return
		}
		ours.SetUint(uint64(n))
		theirs.SetUint(ours.Uint())
	}
}

func TestCodecAgreesWithEncodingBinary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		types := drawStruct(t, 3)
		c, err := compileCodec(reflected(types.ours))
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := reflect.New(types.ours), reflect.New(types.theirs)
		fill(t, ours.Elem(), theirs.Elem())
		var want bytes.Buffer
		if err := binary.Write(&want, binary.LittleEndian, theirs.Interface()); err != nil {
			t.Fatal(err)
		}
		got, err := c.append([]byte("before"), ours.UnsafePointer())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, append([]byte("before"), want.Bytes()...)) {
			t.Fatalf("%v encodes as\n%x, want\n%x", types.ours, got[6:], want.Bytes())
		}
		back := reflect.New(types.ours)
		if err := c.load(back.UnsafePointer(), want.Bytes()); err != nil {
			t.Fatal(err)
		}
		if !back.Elem().Equal(ours.Elem()) {
			t.Fatalf("%v comes back as %v", ours.Elem(), back.Elem())
		}
		if err := c.schema.Validate(c.size); err != nil {
			t.Fatal(err)
		}
	})
}

type inner struct {
	A uint16
	B bool
}

type everything struct {
	small   uint8 // unexported fields are state like any other
	MinRTT  int64
	_       [3]byte
	Flag    bool
	Flags   [2]bool
	Inner   inner
	Many    [2]inner
	Address [16]byte
	Ratio   float32 `khelp:"share"`
	Count   int
}

func TestO9_SchemaIsDerivedFromState(t *testing.T) {
	c, err := compileCodec(stateOf[everything]())
	if err != nil {
		t.Fatal(err)
	}
	want := shared.DataSchema{
		{Name: "small", Type: shared.FieldUint8, Offset: 0, Count: 1},
		{Name: "min_rtt", Type: shared.FieldInt64, Offset: 1, Count: 1},
		{Name: "flag", Type: shared.FieldBool, Offset: 12, Count: 1},
		{Name: "flags", Type: shared.FieldBool, Offset: 13, Count: 2},
		{Name: "inner.a", Type: shared.FieldUint16, Offset: 15, Count: 1},
		{Name: "inner.b", Type: shared.FieldBool, Offset: 17, Count: 1},
		{Name: "many.0.a", Type: shared.FieldUint16, Offset: 18, Count: 1},
		{Name: "many.0.b", Type: shared.FieldBool, Offset: 20, Count: 1},
		{Name: "many.1.a", Type: shared.FieldUint16, Offset: 21, Count: 1},
		{Name: "many.1.b", Type: shared.FieldBool, Offset: 23, Count: 1},
		{Name: "address", Type: shared.FieldUint8, Offset: 24, Count: 16},
		{Name: "share", Type: shared.FieldFloat32, Offset: 40, Count: 1},
		{Name: "count", Type: shared.FieldInt64, Offset: 44, Count: 1},
	}
	if diff := cmp.Diff(want, c.schema); diff != "" {
		t.Error(diff)
	}
	s := everything{small: 7, MinRTT: -5, Flag: true, Flags: [2]bool{false, true}, Inner: inner{A: 9}, Ratio: 0.5, Count: -1}
	data, err := c.append(bytes.Repeat([]byte{0xff}, 100)[:0], unsafe.Pointer(&s))
	if err != nil {
		t.Fatal(err)
	}
	if len(data) != 52 || !bytes.Equal(data[9:12], []byte{0, 0, 0}) {
		t.Errorf("%d bytes, blank field %x: want 52, and zeros", len(data), data[9:12])
	}
	values := c.schema.Values(data)
	for name, want := range map[string]any{"small": uint64(7), "min_rtt": int64(-5), "flag": true, "inner.a": uint64(9), "share": 0.5, "count": int64(-1)} {
		if values[name] != want {
			t.Errorf("%s is %v, want %v", name, values[name], want)
		}
	}
}

func TestCodecMakesAnyByteAProperBool(t *testing.T) {
	c, err := compileCodec(stateOf[struct{ A, B bool }]())
	if err != nil {
		t.Fatal(err)
	}
	var s struct{ A, B bool }
	if err := c.load(unsafe.Pointer(&s), []byte{2, 0xff}); err != nil {
		t.Fatal(err)
	}
	if got := *(*[2]byte)(unsafe.Pointer(&s)); got != [2]byte{1, 1} {
		t.Errorf("the booleans are %v in memory", got)
	}
}

func TestCodecRefusesDataOfAnotherLength(t *testing.T) {
	c, err := compileCodec(stateOf[everything]())
	if err != nil {
		t.Fatal(err)
	}
	var s everything
	for _, n := range []int{0, c.size - 1, c.size + 1} {
		if err := c.load(unsafe.Pointer(&s), make([]byte, n)); !errors.Is(err, shared.ErrInvalid) {
			t.Errorf("%d bytes: %v, want ErrInvalid", n, err)
		}
	}
}

// The fields of these states cannot be encoded as they are, and the sentence says which and what to do.
func TestCodecSaysWhatToChange(t *testing.T) {
	type withText struct {
		N    int
		Peer struct{ Name string }
	}
	type same struct {
		RTT uint64
		Rtt uint64
	}
	tests := []struct {
		name  string
		state stateType
		is    error
		want  string
	}{
		{"text", stateOf[withText](), shared.ErrInvalid, "withText.Peer.Name is a string, whose size is not fixed"},
		{"slice", stateOf[struct{ L []byte }](), shared.ErrInvalid, ".L is a slice"},
		{"map", stateOf[map[string]int](), shared.ErrInvalid, "is a map"},
		{"pointer", stateOf[*inner](), shared.ErrInvalid, "is a pointer"},
		{"array of text", stateOf[struct{ L [2]string }](), shared.ErrInvalid, ".L[0] is a string"},
		{"too large", stateOf[[shared.MaxSlot + 1]byte](), shared.ErrTooLarge, "takes 65537 bytes on each object, the limit is 65536"},
		{"huge", reflected(reflect.ArrayOf(1<<10, reflect.ArrayOf(1<<10, reflect.TypeFor[int64]()))), shared.ErrTooLarge, "keep less in it"},
		{"same names", stateOf[same](), shared.ErrInvalid, "rename one"},
		{"half a marshaler", stateOf[marshalOnly](), shared.ErrInvalid, "no UnmarshalBinary: add it"},
		{"other half", stateOf[unmarshalOnly](), shared.ErrInvalid, "no MarshalBinary: add it"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := compileCodec(test.state)
			if !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %v with %q", err, test.is, test.want)
			}
		})
	}
}

type marshalOnly struct{ s string }

func (m *marshalOnly) MarshalBinary() ([]byte, error) { return []byte(m.s), nil }

type unmarshalOnly struct{ s string }

func (m *unmarshalOnly) UnmarshalBinary(b []byte) error { m.s = string(b); return nil }

// words encodes itself, and does not reset what it does not read.
type words struct{ list []string }

func (w words) MarshalBinary() ([]byte, error) { return []byte(strings.Join(w.list, " ")), nil }

func (w *words) UnmarshalBinary(b []byte) error {
	if bytes.Contains(b, []byte{0}) {
		return errors.New("a zero byte")
	}
	w.list = append(w.list, strings.Fields(string(b))...)
	return nil
}

func TestCodecTakesTypesThatEncodeThemselves(t *testing.T) {
	c, err := compileCodec(stateOf[words]())
	if err != nil {
		t.Fatal(err)
	}
	s := words{list: []string{"of", "another", "object"}}
	if err := c.load(unsafe.Pointer(&s), []byte("a b")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "b"}, s.list); diff != "" {
		t.Error(diff)
	}
	if data, err := c.append([]byte("x"), unsafe.Pointer(&s)); err != nil || string(data) != "xa b" {
		t.Errorf("%q, %v", data, err)
	}
	if err := c.load(unsafe.Pointer(&s), []byte{0}); !errors.Is(err, shared.ErrInvalid) {
		t.Errorf("bad data: %v, want ErrInvalid", err)
	}
	if len(c.schema) != 0 {
		t.Errorf("schema %v of bytes that only the type can read", c.schema)
	}
}

func TestSnake(t *testing.T) {
	for in, want := range map[string]string{
		"In": "in", "MinRTT": "min_rtt", "HTTPServer": "http_server", "already_snake": "already_snake", "A": "a", "RTT": "rtt",
		"bytesIn": "bytes_in", "X1Y": "x1_y", "Min_RTT": "min_rtt",
	} {
		if got := snake(in); got != want {
			t.Errorf("snake(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestCodecAllocatesNothing(t *testing.T) {
	c, err := compileCodec(stateOf[everything]())
	if err != nil {
		t.Fatal(err)
	}
	var s everything
	buf := make([]byte, 0, c.size)
	if n := testing.AllocsPerRun(100, func() {
		buf, _ = c.append(buf[:0], unsafe.Pointer(&s))
		if err := c.load(unsafe.Pointer(&s), buf); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations per round trip", n)
	}
}

func BenchmarkCodec(b *testing.B) {
	type eight struct{ A, B, C, D, E, F, G, H uint64 }
	run := func(b *testing.B, state stateType) {
		c, err := compileCodec(state)
		if err != nil {
			b.Fatal(err)
		}
		p := state.alloc()
		buf := make([]byte, 0, c.size)
		b.ReportAllocs()
		for b.Loop() {
			buf, _ = c.append(buf[:0], p)
			if err := c.load(p, buf); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("64 bytes", func(b *testing.B) { run(b, stateOf[eight]()) })
	b.Run("mixed", func(b *testing.B) { run(b, stateOf[everything]()) })
}
