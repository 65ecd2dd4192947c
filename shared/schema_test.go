package shared_test

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/khelp/khelp/shared"
)

var fieldTypes = []shared.FieldType{
	shared.FieldBool, shared.FieldInt8, shared.FieldInt16, shared.FieldInt32, shared.FieldInt64, shared.FieldUint8,
	shared.FieldUint16, shared.FieldUint32, shared.FieldUint64, shared.FieldFloat32, shared.FieldFloat64,
}

func TestO9_SchemaValues(t *testing.T) {
	data := []byte{
		1,
		0xff,
		0xfe, 0xff,
		0xfd, 0xff, 0xff, 0xff,
		0xfc, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		200,
		0x34, 0x12,
		0x78, 0x56, 0x34, 0x12,
		8, 7, 6, 5, 4, 3, 2, 1,
		0, 0, 0xc0, 0x3f,
		0, 0, 0, 0, 0, 0, 4, 0xc0,
		'h', 'i', 0, 0,
		0xde, 0xad,
		1, 0, 2, 0,
	}
	s := shared.DataSchema{
		{Name: "bool", Type: shared.FieldBool, Offset: 0},
		{Name: "int8", Type: shared.FieldInt8, Offset: 1},
		{Name: "int16", Type: shared.FieldInt16, Offset: 2},
		{Name: "int32", Type: shared.FieldInt32, Offset: 4},
		{Name: "int64", Type: shared.FieldInt64, Offset: 8},
		{Name: "uint8", Type: shared.FieldUint8, Offset: 16, Count: 1},
		{Name: "uint16", Type: shared.FieldUint16, Offset: 17},
		{Name: "uint32", Type: shared.FieldUint32, Offset: 19},
		{Name: "uint64", Type: shared.FieldUint64, Offset: 23},
		{Name: "float32", Type: shared.FieldFloat32, Offset: 31},
		{Name: "float64", Type: shared.FieldFloat64, Offset: 35},
		{Name: "text", Type: shared.FieldUint8, Offset: 43, Count: 4},
		{Name: "hex", Type: shared.FieldUint8, Offset: 47, Count: 2},
		{Name: "run", Type: shared.FieldUint16, Offset: 49, Count: 2},
	}
	if err := s.Validate(len(data)); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"bool": true, "int8": int64(-1), "int16": int64(-2), "int32": int64(-3), "int64": int64(-4),
		"uint8": uint64(200), "uint16": uint64(0x1234), "uint32": uint64(0x12345678), "uint64": uint64(0x0102030405060708),
		"float32": 1.5, "float64": -2.5, "text": "hi", "hex": "dead", "run": []any{uint64(1), uint64(2)},
	}
	if diff := cmp.Diff(want, s.Values(data)); diff != "" {
		t.Error(diff)
	}
	if err := s.Validate(len(data) - 1); !errors.Is(err, shared.ErrInvalid) || !strings.Contains(err.Error(), `"run"`) {
		t.Errorf("one byte less: %v", err)
	}
	short := s.Values(data[:50])
	if _, there := short["run"]; there || len(short) != len(s)-1 {
		t.Errorf("data too short for one field: %v", short)
	}
}

func TestO9_FloatsThatAreNoNumbersPassJSON(t *testing.T) {
	s := shared.DataSchema{{Name: "nan", Type: shared.FieldFloat64}, {Name: "inf", Type: shared.FieldFloat32, Offset: 8}}
	nan := math.Float64bits(math.NaN())
	data := make([]byte, 12)
	for i := range 8 {
		data[i] = byte(nan >> (8 * i))
	}
	data[10], data[11] = 0x80, 0xff
	values := s.Values(data)
	if diff := cmp.Diff(map[string]any{"nan": "NaN", "inf": "-Inf"}, values); diff != "" {
		t.Error(diff)
	}
	if _, err := json.Marshal(values); err != nil {
		t.Error(err)
	}
}

func TestO9_SchemaValidate(t *testing.T) {
	for _, tc := range []struct {
		name   string
		schema shared.DataSchema
		word   string
	}{
		{"no name", shared.DataSchema{{Type: shared.FieldBool}}, "no name"},
		{"twice", shared.DataSchema{{Name: "a", Type: shared.FieldBool}, {Name: "a", Type: shared.FieldBool, Offset: 1}}, "stands twice"},
		{"type", shared.DataSchema{{Name: "a", Type: "int128"}}, `unknown type "int128"`},
		{"offset", shared.DataSchema{{Name: "a", Type: shared.FieldInt64, Offset: 9}}, "does not fit"},
		{"count", shared.DataSchema{{Name: "a", Type: shared.FieldInt64, Count: 3}}, "does not fit"},
		{"overflow", shared.DataSchema{{Name: "a", Type: shared.FieldInt64, Offset: math.MaxUint32, Count: math.MaxUint32}}, "does not fit"},
		{"overlap", shared.DataSchema{{Name: "a", Type: shared.FieldInt64, Count: 2}, {Name: "b", Type: shared.FieldUint8, Offset: 3}}, "overlaps"},
	} {
		if err := tc.schema.Validate(16); !errors.Is(err, shared.ErrInvalid) || !strings.Contains(err.Error(), tc.word) {
			t.Errorf("%s: %v, want ErrInvalid with %q", tc.name, err, tc.word)
		}
	}
	if err := (shared.DataSchema{}).Validate(0); err != nil {
		t.Errorf("no fields: %v", err)
	}
}

// A schema that validates for some size gives every field of data of that size, and never panics on data of another.
func TestO9_ValidSchemasReadEveryField(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(0, 64).Draw(t, "size")
		var s shared.DataSchema
		for i := range rapid.IntRange(0, 5).Draw(t, "fields") {
			s = append(s, shared.Field{
				Name: string(rune('a' + i)), Type: rapid.SampledFrom(fieldTypes).Draw(t, "type"),
				Offset: rapid.Uint32Range(0, 70).Draw(t, "offset"), Count: rapid.Uint32Range(0, 9).Draw(t, "count"),
			})
		}
		values := s.Values(rapid.SliceOfN(rapid.Byte(), 0, 80).Draw(t, "other"))
		if len(values) > len(s) {
			t.Fatalf("%d values of %d fields", len(values), len(s))
		}
		if s.Validate(size) != nil {
			return
		}
		if values = s.Values(make([]byte, size)); len(values) != len(s) {
			t.Fatalf("%d values of %d fields", len(values), len(s))
		}
	})
}
