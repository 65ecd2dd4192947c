package shared

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// FieldType is the type of one field of object data. All are little-endian.
type FieldType string

// The field types.
const (
	FieldBool    FieldType = "bool" // one byte, 0 or 1
	FieldInt8    FieldType = "int8"
	FieldInt16   FieldType = "int16"
	FieldInt32   FieldType = "int32"
	FieldInt64   FieldType = "int64"
	FieldUint8   FieldType = "uint8"
	FieldUint16  FieldType = "uint16"
	FieldUint32  FieldType = "uint32"
	FieldUint64  FieldType = "uint64"
	FieldFloat32 FieldType = "float32"
	FieldFloat64 FieldType = "float64"
)

// Size returns the width of one value in bytes, or 0 for a type this build does not know.
func (t FieldType) Size() int {
	switch t {
	case FieldBool, FieldInt8, FieldUint8:
		return 1
	case FieldInt16, FieldUint16:
		return 2
	case FieldInt32, FieldUint32, FieldFloat32:
		return 4
	case FieldInt64, FieldUint64, FieldFloat64:
		return 8
	default:
		return 0
	}
}

// Field is one value, or a run of values, at a fixed offset in a helper's object data.
type Field struct {
	Name   string // dotted for a field of a nested struct
	Type   FieldType
	Offset uint32 // bytes from the start
	Count  uint32 // 0 or 1: one value; more: an array
}

// DataSchema describes object data so that tools can show values rather than bytes. An empty schema describes nothing.
type DataSchema []Field

// Validate returns ErrInvalid if a field has no name or an unknown type, stands twice, or does not fit into size bytes, and if all
// fields together do not, so that the values of a slot are never more than its bytes.
func (s DataSchema) Validate(size int) error {
	seen := make(map[string]bool, len(s))
	var sum uint64
	for _, f := range s {
		width := uint64(f.Type.Size())
		switch {
		case f.Name == "":
			return ErrInvalid.Errorf("data schema: a field at offset %d has no name", f.Offset)
		case seen[f.Name]:
			return ErrInvalid.Errorf("data schema: field %q stands twice", f.Name)
		case width == 0:
			return ErrInvalid.Errorf("data schema: field %q has the unknown type %q", f.Name, f.Type)
		case uint64(f.Offset)+width*uint64(max(f.Count, 1)) > uint64(size):
			return ErrInvalid.Errorf("data schema: field %q at offset %d does not fit into %d bytes", f.Name, f.Offset, size)
		}
		seen[f.Name] = true
		if sum += width * uint64(max(f.Count, 1)); sum > uint64(size) {
			return ErrInvalid.Errorf("data schema: field %q overlaps others, all do not fit into %d bytes", f.Name, size)
		}
	}
	return nil
}

// Values reads the fields out of data: bool, int64, uint64, float64, string for a uint8 array, []any for other arrays. A float that is
// no number comes as the string NaN, +Inf or -Inf, which JSON has no numbers for. A field that data is too short for is left out.
func (s DataSchema) Values(data []byte) map[string]any {
	values := make(map[string]any, len(s))
	for _, f := range s {
		width := f.Type.Size()
		count := int(max(f.Count, 1))
		if width == 0 || uint64(f.Offset)+uint64(width)*uint64(count) > uint64(len(data)) {
			continue
		}
		at := data[f.Offset:]
		if f.Count <= 1 {
			values[f.Name] = f.Type.value(at)
			continue
		}
		if f.Type == FieldUint8 {
			values[f.Name] = textOrHex(at[:count])
			continue
		}
		run := make([]any, count)
		for i := range run {
			run[i] = f.Type.value(at[i*width:])
		}
		values[f.Name] = run
	}
	return values
}

func (t FieldType) value(b []byte) any {
	switch t {
	case FieldBool:
		return b[0] != 0
	case FieldInt8:
		return int64(int8(b[0]))
	case FieldInt16:
		return int64(int16(binary.LittleEndian.Uint16(b)))
	case FieldInt32:
		return int64(int32(binary.LittleEndian.Uint32(b)))
	case FieldInt64:
		return int64(binary.LittleEndian.Uint64(b))
	case FieldUint8:
		return uint64(b[0])
	case FieldUint16:
		return uint64(binary.LittleEndian.Uint16(b))
	case FieldUint32:
		return uint64(binary.LittleEndian.Uint32(b))
	case FieldUint64:
		return binary.LittleEndian.Uint64(b)
	case FieldFloat32:
		return finite(float64(math.Float32frombits(binary.LittleEndian.Uint32(b))))
	default:
		return finite(math.Float64frombits(binary.LittleEndian.Uint64(b)))
	}
}

func finite(f float64) any {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return strconv.FormatFloat(f, 'g', -1, 64)
	}
	return f
}

// textOrHex shows a byte array as text if it is ASCII text, padded with zeros at most, and else all its bytes in hex. It is not
// Printable: escapes would hide where an address or a hash begins, and short runs of bytes are UTF-8 by chance.
func textOrHex(b []byte) string {
	text := strings.TrimRight(string(b), "\x00")
	for _, r := range text {
		if r < ' ' || r > '~' {
			return fmt.Sprintf("%x", b)
		}
	}
	return text
}
