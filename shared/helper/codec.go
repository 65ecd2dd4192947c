package helper

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"reflect"
	"strings"
	"unsafe"

	"github.com/khelp/khelp/shared"
)

// codec turns the state at a pointer into the bytes of a slot and back. It is made once per type and is safe for concurrent use.
type codec struct {
	typ    reflect.Type
	size   int // bytes of the encoding; -1 if it varies
	steps  []step
	schema shared.DataSchema
	binary *binaryCodec // set if the type encodes itself
}

// step moves one run of values between memory and the wire. Neighbours that are neighbours on both sides share a step, so that most
// structs are one or two copies.
type step struct {
	kind stepKind
	mem  uintptr // bytes from the start of the state
	wire int     // bytes from the start of the encoding
	n    int     // bytes on the wire
}

type stepKind uint8

const (
	stepCopy  stepKind = iota // same bytes on both sides
	stepBool                  // one byte each; any but 0 is true
	stepZero                  // blank fields: zeros on the wire, nothing in memory
	stepSwap2                 // big-endian memory
	stepSwap4
	stepSwap8
	stepInt  // int in 32 bits of memory
	stepUint // uint in 32 bits of memory
)

var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// stateType is what generic code leaves behind of S, so that all else is compiled once.
type stateType struct {
	typ   reflect.Type
	alloc func() unsafe.Pointer    // a new S
	value func(unsafe.Pointer) any // the *S with its methods; a pointer in an interface allocates nothing
	zero  func(unsafe.Pointer)     // *S = zero value
}

func stateOf[S any]() stateType {
	return stateType{
		typ:   reflect.TypeFor[S](),
		alloc: func() unsafe.Pointer { return unsafe.Pointer(new(S)) },
		value: func(p unsafe.Pointer) any { return (*S)(p) },
		zero:  func(p unsafe.Pointer) { *(*S)(p) = *new(S) },
	}
}

// compileCodec makes the codec of a type, or a sentence about what to change in it.
func compileCodec(state stateType) (*codec, error) {
	t := state.typ
	b, err := newBinaryCodec(state)
	if err != nil {
		return nil, err
	}
	if b != nil {
		return &codec{typ: t, size: -1, binary: b}, nil
	}
	size, err := wireSize(t, typeName(t))
	if err != nil {
		return nil, err
	}
	if size > shared.MaxSlot {
		return nil, shared.ErrTooLarge.Errorf("%s takes %d bytes on each object, the limit is %d: keep less in it, or keep an index in it and the rest in the helper's memory",
			typeName(t), size, shared.MaxSlot)
	}
	c := &codec{typ: t, size: size}
	c.compile(t, "", 0, 0)
	if err := c.schema.Validate(size); err != nil {
		return nil, shared.ErrInvalid.Errorf("the fields of %s cannot be told apart (%w): rename one, or name it with a `khelp:\"name\"` tag", typeName(t), err)
	}
	return c, nil
}

// wireSize returns the bytes that a type takes, before anything is unrolled, so that a huge array costs nothing.
func wireSize(t reflect.Type, path string) (int, error) {
	switch t.Kind() {
	case reflect.Bool, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint8, reflect.Uint16, reflect.Uint32,
		reflect.Uint64, reflect.Float32, reflect.Float64, reflect.Complex64, reflect.Complex128:
		return int(t.Size()), nil
	case reflect.Int, reflect.Uint:
		return 8, nil
	case reflect.Array:
		elem, err := wireSize(t.Elem(), path+"[0]")
		if err != nil {
			return 0, err
		}
		hi, lo := bits.Mul64(uint64(elem), uint64(t.Len()))
		if hi != 0 || lo > 1<<30 {
			lo = 1 << 30
		}
		return int(lo), nil
	case reflect.Struct:
		total := 0
		for i := range t.NumField() {
			f := t.Field(i)
			size, err := wireSize(f.Type, path+"."+f.Name)
			if err != nil {
				return 0, err
			}
			total = min(total+size, 1<<30)
		}
		return total, nil
	default:
		return 0, shared.ErrInvalid.Errorf("%s is a %s, whose size is not fixed: use fixed-size fields (such as [16]byte for an address or a short text), or give %s the methods MarshalBinary and UnmarshalBinary",
			path, kindWord(t), strings.SplitN(path, ".", 2)[0])
	}
}

func kindWord(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return "pointer"
	case reflect.Struct, reflect.String, reflect.Slice, reflect.Map, reflect.Chan, reflect.Func, reflect.Interface:
		return t.Kind().String()
	default:
		return t.String()
	}
}

// compile adds the steps and fields of a value of type t and returns the wire offset behind it.
func (c *codec) compile(t reflect.Type, name string, mem uintptr, wire int) int {
	switch t.Kind() {
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			if f.Name == "_" {
				n, _ := wireSize(f.Type, "")
				c.add(step{stepZero, mem + f.Offset, wire, n})
				wire += n
				continue
			}
			wire = c.compile(f.Type, join(name, fieldName(f)), mem+f.Offset, wire)
		}
		return wire
	case reflect.Array:
		return c.compileArray(t, name, mem, wire)
	default:
		return c.compileRun(t, 1, name, mem, wire)
	}
}

func (c *codec) compileArray(t reflect.Type, name string, mem uintptr, wire int) int {
	elem := t.Elem()
	if k := elem.Kind(); k != reflect.Struct && k != reflect.Array {
		return c.compileRun(elem, t.Len(), name, mem, wire)
	}
	if size, _ := wireSize(elem, ""); size == 0 {
		return wire
	}
	for i := range t.Len() {
		wire = c.compile(elem, join(name, fmt.Sprint(i)), mem+uintptr(i)*elem.Size(), wire)
	}
	return wire
}

// compileRun adds n values of a basic type that lie side by side.
func (c *codec) compileRun(t reflect.Type, n int, name string, mem uintptr, wire int) int {
	if n == 0 {
		return wire
	}
	if name == "" {
		name = "value"
	}
	field, kind := basic(t)
	count := n
	if k := t.Kind(); k == reflect.Complex64 || k == reflect.Complex128 {
		count *= 2
	}
	bytes := field.Size() * count
	c.add(step{kind, mem, wire, bytes})
	c.schema = append(c.schema, shared.Field{Name: name, Type: field, Offset: uint32(wire), Count: uint32(count)})
	return wire + bytes
}

// basic returns a basic type's name on the wire and how it gets there.
func basic(t reflect.Type) (shared.FieldType, stepKind) {
	swap := func(k stepKind) stepKind {
		if littleEndian {
			return stepCopy
		}
		return k
	}
	switch t.Kind() {
	case reflect.Bool:
		return shared.FieldBool, stepBool
	case reflect.Int8:
		return shared.FieldInt8, stepCopy
	case reflect.Uint8:
		return shared.FieldUint8, stepCopy
	case reflect.Int16:
		return shared.FieldInt16, swap(stepSwap2)
	case reflect.Uint16:
		return shared.FieldUint16, swap(stepSwap2)
	case reflect.Int32:
		return shared.FieldInt32, swap(stepSwap4)
	case reflect.Uint32:
		return shared.FieldUint32, swap(stepSwap4)
	case reflect.Int64:
		return shared.FieldInt64, swap(stepSwap8)
	case reflect.Uint64:
		return shared.FieldUint64, swap(stepSwap8)
	case reflect.Float32, reflect.Complex64:
		return shared.FieldFloat32, swap(stepSwap4)
	case reflect.Float64, reflect.Complex128:
		return shared.FieldFloat64, swap(stepSwap8)
	case reflect.Int:
		if t.Size() == 4 {
			return shared.FieldInt64, stepInt
		}
		return shared.FieldInt64, swap(stepSwap8)
	default: // reflect.Uint; wireSize lets nothing else through
		if t.Size() == 4 {
			return shared.FieldUint64, stepUint
		}
		return shared.FieldUint64, swap(stepSwap8)
	}
}

// add appends a step, or lengthens the last one if the new one goes on where it ends.
func (c *codec) add(s step) {
	if s.n == 0 {
		return
	}
	if last := len(c.steps) - 1; last >= 0 && s.kind <= stepBool {
		l := &c.steps[last]
		if l.kind == s.kind && l.mem+uintptr(l.n) == s.mem && l.wire+l.n == s.wire {
			l.n += s.n
			return
		}
	}
	c.steps = append(c.steps, s)
}

// append adds the encoding of the state at p to dst.
func (c *codec) append(dst []byte, p unsafe.Pointer) ([]byte, error) {
	if c.binary != nil {
		return c.binary.append(dst, p)
	}
	at := len(dst)
	dst = grow(dst, c.size)
	out := dst[at:]
	for i := range c.steps {
		s := &c.steps[i]
		if s.kind == stepZero {
			clear(out[s.wire : s.wire+s.n])
			continue
		}
		if s.kind <= stepBool {
			copy(out[s.wire:s.wire+s.n], unsafe.Slice((*byte)(unsafe.Add(p, s.mem)), s.n))
			continue
		}
		s.store(out[s.wire:s.wire+s.n], unsafe.Add(p, s.mem))
	}
	return dst, nil
}

// grow lengthens b by n bytes whose value does not matter.
func grow(b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b[:len(b)+n]
	}
	return append(b, make([]byte, n)...)
}

// load fills the state at p from data. The state was zero or held another value of the type. Fixed-size state refuses data of another
// length, which is another version of the helper's.
func (c *codec) load(p unsafe.Pointer, data []byte) error {
	if c.binary != nil {
		return c.binary.load(p, data)
	}
	if len(data) != c.size {
		return shared.ErrInvalid.Errorf("the object's data is %d bytes long, %s takes %d", len(data), typeName(c.typ), c.size)
	}
	for i := range c.steps {
		s := &c.steps[i]
		in := data[s.wire : s.wire+s.n]
		switch s.kind {
		case stepCopy:
			copy(unsafe.Slice((*byte)(unsafe.Add(p, s.mem)), s.n), in)
		case stepBool:
			for j, b := range in {
				*(*bool)(unsafe.Add(p, s.mem+uintptr(j))) = b != 0
			}
		case stepZero:
		default:
			s.fetch(unsafe.Add(p, s.mem), in)
		}
	}
	return nil
}

// store encodes the values that are no plain copy on this machine.
func (s *step) store(out []byte, p unsafe.Pointer) {
	le := binary.LittleEndian
	switch s.kind {
	case stepSwap2:
		for i := 0; i < s.n; i += 2 {
			le.PutUint16(out[i:], *(*uint16)(unsafe.Add(p, i)))
		}
	case stepSwap4:
		for i := 0; i < s.n; i += 4 {
			le.PutUint32(out[i:], *(*uint32)(unsafe.Add(p, i)))
		}
	case stepSwap8:
		for i := 0; i < s.n; i += 8 {
			le.PutUint64(out[i:], *(*uint64)(unsafe.Add(p, i)))
		}
	case stepInt:
		for i := 0; i < s.n; i += 8 {
			le.PutUint64(out[i:], uint64(*(*int32)(unsafe.Add(p, i/2))))
		}
	case stepUint:
		for i := 0; i < s.n; i += 8 {
			le.PutUint64(out[i:], uint64(*(*uint32)(unsafe.Add(p, i/2))))
		}
	}
}

// fetch decodes what store encoded.
func (s *step) fetch(p unsafe.Pointer, in []byte) {
	le := binary.LittleEndian
	switch s.kind {
	case stepSwap2:
		for i := 0; i < s.n; i += 2 {
			*(*uint16)(unsafe.Add(p, i)) = le.Uint16(in[i:])
		}
	case stepSwap4:
		for i := 0; i < s.n; i += 4 {
			*(*uint32)(unsafe.Add(p, i)) = le.Uint32(in[i:])
		}
	case stepSwap8:
		for i := 0; i < s.n; i += 8 {
			*(*uint64)(unsafe.Add(p, i)) = le.Uint64(in[i:])
		}
	case stepInt, stepUint:
		for i := 0; i < s.n; i += 8 {
			*(*uint32)(unsafe.Add(p, i/2)) = uint32(le.Uint64(in[i:]))
		}
	}
}

// fieldName is the operator's name of a struct field: its khelp tag, or its Go name in snake case.
func fieldName(f reflect.StructField) string {
	if name, _, _ := strings.Cut(f.Tag.Get("khelp"), ","); name != "" {
		return name
	}
	return snake(f.Name)
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func typeName(t reflect.Type) string {
	if name := t.Name(); name != "" {
		return name
	}
	return "the state " + t.String()
}
