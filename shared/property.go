package shared

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
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
}

// PropertyError is an error in one property, so that its place in the configuration can be found. It wraps ErrInvalid.
type PropertyError struct {
	Name string
	Err  error
}

// Error returns the property's name and what is wrong with it.
func (e *PropertyError) Error() string { return fmt.Sprintf("property %q: %v", e.Name, e.Err) }

// Unwrap returns the cause.
func (e *PropertyError) Unwrap() error { return e.Err }

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
			v, err := p.Type.convert(value)
			if err != nil {
				errs = append(errs, &PropertyError{p.Name, err})
				continue
			}
			out[p.Name] = v
		case p.Required:
			errs = append(errs, &PropertyError{p.Name, ErrInvalid.Errorf("is required (%s)", p.Type)})
		case p.Default != nil:
			v, err := p.Type.convert(p.Default)
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
