package helper

import (
	"encoding"
	"reflect"
	"unsafe"

	"github.com/khelp/khelp/shared"
)

// binaryCodec encodes a type by its own methods.
type binaryCodec struct {
	state stateType
	adds  bool // the type has AppendBinary, which needs no buffer of its own
}

var (
	appenderType    = reflect.TypeFor[encoding.BinaryAppender]()
	marshalerType   = reflect.TypeFor[encoding.BinaryMarshaler]()
	unmarshalerType = reflect.TypeFor[encoding.BinaryUnmarshaler]()
)

// newBinaryCodec returns nil if the type has no methods to encode itself, and a sentence if it has half of them.
func newBinaryCodec(state stateType) (*binaryCodec, error) {
	t := state.typ
	p := reflect.PointerTo(t)
	appends, marshals := p.Implements(appenderType), p.Implements(marshalerType)
	reads := p.Implements(unmarshalerType)
	switch {
	case !appends && !marshals && !reads:
		return nil, nil
	case !reads:
		return nil, shared.ErrInvalid.Errorf("%s has MarshalBinary but no UnmarshalBinary: add it, or take both away if its fields have a fixed size", typeName(t))
	case !appends && !marshals:
		return nil, shared.ErrInvalid.Errorf("%s has UnmarshalBinary but no MarshalBinary: add it, or take both away if its fields have a fixed size", typeName(t))
	case t.Kind() == reflect.Pointer || t.Kind() == reflect.Interface:
		return nil, shared.ErrInvalid.Errorf("the state is the %s %s: use the type it points to", kindWord(t), t)
	}
	return &binaryCodec{state: state, adds: appends}, nil
}

func (b *binaryCodec) append(dst []byte, p unsafe.Pointer) ([]byte, error) {
	if b.adds {
		return b.state.value(p).(encoding.BinaryAppender).AppendBinary(dst)
	}
	data, err := b.state.value(p).(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		return dst, err
	}
	return append(dst, data...), nil
}

// load starts from the zero value: UnmarshalBinary may leave fields alone, and they are another object's.
func (b *binaryCodec) load(p unsafe.Pointer, data []byte) error {
	b.state.zero(p)
	if err := b.state.value(p).(encoding.BinaryUnmarshaler).UnmarshalBinary(data); err != nil {
		return shared.ErrInvalid.Errorf("the object's data does not decode: %w", err)
	}
	return nil
}
