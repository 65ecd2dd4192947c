package helper

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/khelp/khelp/shared"
)

// configSchema derives the properties of a helper from the struct that Config points to, and fills that struct from values. The
// struct's values at Serve are the defaults.
type configSchema struct {
	target     reflect.Value // the struct itself
	defaults   reflect.Value // a copy of it as it was at Serve
	fields     []configField
	properties []shared.Property
}

type configField struct {
	index int
	name  string
}

var (
	durationType        = reflect.TypeFor[time.Duration]()
	textMarshalerType   = reflect.TypeFor[encoding.TextMarshaler]()
	textUnmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// newConfigSchema returns the schema of config, nil for none, or a sentence about what to change.
func newConfigSchema(config any) (*configSchema, error) {
	if config == nil {
		return nil, nil
	}
	v := reflect.ValueOf(config)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return nil, shared.ErrInvalid.Errorf("Config is a %T: make it a pointer to a struct, such as &config", config)
	}
	c := &configSchema{target: v.Elem()}
	c.defaults = reflect.New(c.target.Type()).Elem()
	c.defaults.Set(c.target)
	seen := map[string]string{}
	for i := range c.target.NumField() {
		f := c.target.Type().Field(i)
		tag := f.Tag.Get("khelp")
		if !f.IsExported() || tag == "-" {
			if tag != "" && tag != "-" {
				return nil, shared.ErrInvalid.Errorf("Config's field %s has a khelp tag but is not exported: begin its name with a capital letter", f.Name)
			}
			continue
		}
		p, err := c.property(f, tag)
		if err != nil {
			return nil, err
		}
		if other, twice := seen[p.Name]; twice {
			return nil, shared.ErrExist.Errorf("Config's fields %s and %s are both the property %q: name one of them with a `khelp:\"name\"` tag", other, f.Name, p.Name)
		}
		seen[p.Name] = f.Name
		c.fields = append(c.fields, configField{i, p.Name})
		c.properties = append(c.properties, p)
	}
	return c, nil
}

func (c *configSchema) property(f reflect.StructField, tag string) (shared.Property, error) {
	_, options, _ := strings.Cut(tag, ",")
	p := shared.Property{Name: fieldName(f), Doc: f.Tag.Get("doc")}
	switch options {
	case "":
	case "required":
		p.Required = true
	default:
		return p, shared.ErrInvalid.Errorf("Config's field %s has the unknown option %q in its khelp tag: the only one is required", f.Name, options)
	}
	if err := shared.ValidateName("property", p.Name); err != nil {
		return p, fmt.Errorf("field %s of Config: %w", f.Name, err)
	}
	t, ok := propertyType(f.Type)
	if !ok {
		return p, shared.ErrInvalid.Errorf("Config's field %s is a %s: properties are strings, booleans, integers, floats, time.Duration, []string and types with MarshalText and UnmarshalText", f.Name, f.Type)
	}
	p.Type = t
	if f.Type == durationType {
		p.Format = shared.FormatDuration
	} else if t == shared.PropertyInt {
		p.Minimum, p.Maximum = bounds(f.Type)
	}
	value := c.defaults.FieldByIndex(f.Index)
	if value.IsZero() {
		return p, nil
	}
	if p.Required {
		return p, shared.ErrInvalid.Errorf("Config's field %s is required and has the default %v: take one of the two away", f.Name, value)
	}
	def, err := propertyValue(value)
	if err != nil {
		return p, fmt.Errorf("field %s of Config: the default: %w", f.Name, err)
	}
	p.Default = def
	return p, nil
}

func isText(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(textMarshalerType) && p.Implements(textUnmarshalerType)
}

func propertyType(t reflect.Type) (shared.PropertyType, bool) {
	if t == durationType || isText(t) {
		return shared.PropertyString, true
	}
	switch t.Kind() {
	case reflect.String:
		return shared.PropertyString, true
	case reflect.Bool:
		return shared.PropertyBool, true
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return shared.PropertyInt, true
	case reflect.Float32, reflect.Float64:
		return shared.PropertyFloat, true
	case reflect.Slice:
		return shared.PropertyList, t.Elem().Kind() == reflect.String
	default:
		return "", false
	}
}

// bounds returns the least and the greatest value of a type of integers, nil where that is int64's own.
func bounds(t reflect.Type) (least, most *int64) {
	bits := t.Bits()
	switch t.Kind() {
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		least = new(int64)
	default:
		if bits--; bits < 63 {
			least = pointer(int64(-1) << bits)
		}
	}
	if bits < 63 {
		most = pointer(int64(1)<<bits - 1)
	}
	return least, most
}

func pointer[T any](v T) *T { return &v }

// propertyValue turns a field's value into a property's.
func propertyValue(v reflect.Value) (any, error) {
	switch {
	case v.Type() == durationType:
		return time.Duration(v.Int()).String(), nil
	case isText(v.Type()):
		text, err := v.Addr().Interface().(encoding.TextMarshaler).MarshalText()
		return string(text), err
	case v.Kind() == reflect.String:
		return v.String(), nil
	case v.Kind() == reflect.Bool:
		return v.Bool(), nil
	case v.CanInt():
		return v.Int(), nil
	case v.CanUint():
		if v.Uint() > 1<<63-1 {
			return nil, shared.ErrInvalid.Errorf("%d is beyond %d", v.Uint(), int64(1<<63-1))
		}
		return int64(v.Uint()), nil
	case v.CanFloat():
		return v.Float(), nil
	default:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = v.Index(i).String()
		}
		return list, nil
	}
}

// decode fills the struct: defaults first, then values. On an error the struct holds the defaults. All that is wrong is joined into
// one error made of *shared.PropertyError.
func (c *configSchema) decode(values map[string]any) error {
	if c == nil {
		_, err := shared.CheckProperties(nil, values)
		return err
	}
	c.target.Set(c.defaults)
	checked, err := shared.CheckProperties(c.properties, values)
	if err != nil {
		return err
	}
	next := reflect.New(c.target.Type()).Elem()
	next.Set(c.defaults)
	var errs []error
	for _, f := range c.fields {
		// What was not given keeps the default as it was, not as it reads.
		if _, given := values[f.name]; !given {
			continue
		}
		if err := setProperty(next.Field(f.index), checked[f.name]); err != nil {
			errs = append(errs, &shared.PropertyError{Name: f.name, Err: err})
		}
	}
	if len(errs) == 0 {
		c.target.Set(next)
	}
	return errors.Join(errs...)
}

// setProperty sets a field to a value that CheckProperties has checked.
func setProperty(v reflect.Value, value any) error {
	switch x := value.(type) {
	case string:
		return setText(v, x)
	case bool:
		v.SetBool(x)
	case int64:
		switch {
		case v.CanInt() && !v.OverflowInt(x):
			v.SetInt(x)
		case v.CanUint() && x >= 0 && !v.OverflowUint(uint64(x)):
			v.SetUint(uint64(x))
		default:
			return shared.ErrInvalid.Errorf("%d does not fit into %s", x, v.Type())
		}
	case float64:
		if v.OverflowFloat(x) {
			return shared.ErrInvalid.Errorf("%g does not fit into %s", x, v.Type())
		}
		v.SetFloat(x)
	case []any:
		list := reflect.MakeSlice(v.Type(), len(x), len(x))
		for i, e := range x {
			list.Index(i).SetString(e.(string))
		}
		v.Set(list)
	}
	return nil
}

func setText(v reflect.Value, text string) error {
	switch {
	case v.Type() == durationType:
		d, err := time.ParseDuration(text)
		if err != nil {
			return shared.ErrInvalid.Errorf("%q is no duration such as 200ms", text)
		}
		v.SetInt(int64(d))
	case isText(v.Type()):
		if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text)); err != nil {
			return shared.ErrInvalid.Errorf("%w", err)
		}
	default:
		v.SetString(text)
	}
	return nil
}
