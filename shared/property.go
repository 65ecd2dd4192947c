package shared

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
)

// PropertyType is the type of a helper's property: NetBSD's prop_dictionary types, and lists of them.
type PropertyType string

// The property types. In Go the values are string, bool, int64, float64 and []any of strings.
const (
	PropertyString PropertyType = "string"
	PropertyBool   PropertyType = "bool"
	PropertyInt    PropertyType = "int"
	PropertyFloat  PropertyType = "float"
	PropertyList   PropertyType = "list" // of strings
)

// Property is one entry of the schema that a helper publishes for its `config` block.
type Property struct {
	Name     string
	Type     PropertyType
	Required bool
	Default  any // nil: the type's zero value
	Doc      string

	// The following narrow the type, so that a value that will not do is found before the helper is asked.
	Minimum *int64         // of an int; nil: none
	Maximum *int64         // of an int; nil: none
	Format  PropertyFormat // of a string
}

// PropertyFormat says how a string reads. One that this build does not know is not checked.
type PropertyFormat string

// The formats.
const (
	FormatNone     PropertyFormat = ""
	FormatDuration PropertyFormat = "duration" // as time.ParseDuration reads it: 200ms
)

// PropertyError is an error in one property, so that its place in the configuration can be found. It wraps ErrInvalid.
type PropertyError struct {
	Name string
	Err  error
}

// Error returns the property's name and what is wrong with it.
func (e *PropertyError) Error() string { return fmt.Sprintf("property %q: %v", e.Name, e.Err) }

// Unwrap returns the cause.
func (e *PropertyError) Unwrap() error { return e.Err }

// PropertyErrors collects every *PropertyError in the tree of err, in its order.
func PropertyErrors(err error) []*PropertyError {
	switch e := err.(type) { //nolint:errorlint // this walks the tree itself, to find them all
	case nil:
		return nil
	case *PropertyError:
		return []*PropertyError{e}
	case interface{ Unwrap() error }:
		return PropertyErrors(e.Unwrap())
	case interface{ Unwrap() []error }:
		var found []*PropertyError
		for _, inner := range e.Unwrap() {
			found = append(found, PropertyErrors(inner)...)
		}
		return found
	default:
		return nil
	}
}

// NameProperties returns an error with the text and the sentinel of err that names properties too: what PropertyErrors had found in an
// error before it crossed a wire. Without any it returns err itself.
func NameProperties(err error, properties []*PropertyError) error {
	if err == nil || len(properties) == 0 {
		return err
	}
	named := &namingError{text: err.Error()}
	if sentinel := (*Error)(nil); errors.As(err, &sentinel) {
		named.all = append(named.all, sentinel)
	}
	for _, p := range properties {
		named.all = append(named.all, p)
	}
	return named
}

// namingError has the whole text, which names its properties in the words of whoever made it.
type namingError struct {
	text string
	all  []error
}

func (e *namingError) Error() string   { return e.text }
func (e *namingError) Unwrap() []error { return e.all }

// CheckProperties holds values against a schema and returns them with defaults filled in and numbers converted. All that is wrong
// is joined into one error, made of *PropertyError.
func CheckProperties(schema []Property, values map[string]any) (map[string]any, error) {
	out := make(map[string]any, len(schema))
	var errs []error
	known := make(map[string]bool, len(schema))
	names := make([]string, 0, len(schema))
	for _, p := range schema {
		known[p.Name] = true
		names = append(names, p.Name)
		value, given := values[p.Name]
		switch {
		case given:
			v, err := p.convert(value)
			if err != nil {
				errs = append(errs, &PropertyError{p.Name, err})
				continue
			}
			out[p.Name] = v
		case p.Required:
			errs = append(errs, &PropertyError{p.Name, ErrInvalid.Errorf("is required (%s)", p.Type)})
		case p.Default != nil:
			v, err := p.convert(p.Default)
			if err != nil {
				errs = append(errs, &PropertyError{p.Name, fmt.Errorf("default %w", err)})
				continue
			}
			out[p.Name] = v
		}
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if !known[name] {
			errs = append(errs, &PropertyError{name, ErrInvalid.Errorf("is unknown%s", DidYouMean(name, names))})
		}
	}
	return out, errors.Join(errs...)
}

func (t PropertyType) known() bool {
	switch t {
	case PropertyString, PropertyBool, PropertyInt, PropertyFloat, PropertyList:
		return true
	default:
		return false
	}
}

// convert returns v as the property's Go type, or ErrInvalid. Whole floats serve as ints and ints as floats; nothing else is turned
// into something it is not.
func (t PropertyType) convert(v any) (any, error) {
	switch t {
	case PropertyString:
		if s, ok := v.(string); ok {
			return s, nil
		}
	case PropertyBool:
		if b, ok := v.(bool); ok {
			return b, nil
		}
	case PropertyInt:
		switch n := v.(type) {
		case int64:
			return n, nil
		case int:
			return int64(n), nil
		case float64:
			if n == math.Trunc(n) && math.Abs(n) < 1<<53 {
				return int64(n), nil
			}
		}
	case PropertyFloat:
		switch n := v.(type) {
		case float64:
			return n, nil
		case int64:
			return float64(n), nil
		case int:
			return float64(n), nil
		}
	case PropertyList:
		return convertList(v)
	}
	return nil, ErrInvalid.Errorf("must be of type %s, not %s", t, typeWord(v))
}

// convert returns v as the property's Go type, within its bounds and in its format, or ErrInvalid.
func (p *Property) convert(v any) (any, error) {
	v, err := p.Type.convert(v)
	if err != nil {
		return nil, err
	}
	switch x := v.(type) {
	case int64:
		return v, p.bound(x)
	case string:
		if p.Format != FormatDuration {
			return v, nil
		}
		if _, err := time.ParseDuration(x); err != nil {
			return nil, ErrInvalid.Errorf("%q is no duration such as 200ms", x)
		}
	}
	return v, nil
}

func (p *Property) bound(n int64) error {
	low, high := p.Minimum != nil && n < *p.Minimum, p.Maximum != nil && n > *p.Maximum
	switch {
	case !low && !high:
		return nil
	case p.Minimum != nil && p.Maximum != nil:
		return ErrInvalid.Errorf("must be from %d to %d, not %d", *p.Minimum, *p.Maximum, n)
	case low:
		return ErrInvalid.Errorf("must be at least %d, not %d", *p.Minimum, n)
	default:
		return ErrInvalid.Errorf("must be at most %d, not %d", *p.Maximum, n)
	}
}

// validateLimits checks what narrows the type.
func (p *Property) validateLimits() error {
	switch {
	case (p.Minimum != nil || p.Maximum != nil) && p.Type != PropertyInt:
		return ErrInvalid.Errorf("has a minimum or a maximum but is of type %s, not int", p.Type)
	case p.Minimum != nil && p.Maximum != nil && *p.Minimum > *p.Maximum:
		return ErrInvalid.Errorf("has the minimum %d above its maximum %d", *p.Minimum, *p.Maximum)
	case p.Format != FormatNone && p.Type != PropertyString:
		return ErrInvalid.Errorf("has the format %q but is of type %s, not string", string(p.Format), p.Type)
	default:
		return nil
	}
}

func convertList(v any) (any, error) {
	list, ok := v.([]any)
	if !ok {
		return nil, ErrInvalid.Errorf("must be a list of strings, not %s", typeWord(v))
	}
	for i, e := range list {
		if _, ok := e.(string); !ok {
			return nil, ErrInvalid.Errorf("must be a list of strings; element %d is %s", i, typeWord(e))
		}
	}
	return list, nil
}

func typeWord(v any) string {
	switch v.(type) {
	case string:
		return "string"
	case bool:
		return "bool"
	case int, int64:
		return "int"
	case float64:
		return "float"
	case []any:
		return "list"
	default:
		return fmt.Sprintf("%T", v)
	}
}

// DidYouMean returns `; did you mean "x"?` for the candidate nearest to name, or "" if none is near.
func DidYouMean(name string, candidates []string) string {
	best, distance := "", max(2, len(name)/3)+1
	for _, c := range candidates {
		if d := editDistance(name, c); d < distance {
			best, distance = c, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// editDistance counts the insertions, deletions and changes between two short words.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
