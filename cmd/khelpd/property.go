package main

import (
	"strconv"
	"strings"

	"github.com/khelp/khelp/shared"
)

// propertyFlag is one of modload(8)'s -b, -i and -s: name=value, repeatable, of one type. The last one given for a name counts.
type propertyFlag struct {
	values map[string]any // shared by the three
	parse  func(string) (any, error)
	kind   string
}

// String, Set and Type make it a flag.
func (f *propertyFlag) String() string { return "" }

func (f *propertyFlag) Set(text string) error {
	name, value, ok := strings.Cut(text, "=")
	if !ok {
		return shared.ErrInvalid.Errorf("must be NAME=%s, there is no %q in it", strings.ToUpper(f.kind), "=")
	}
	if err := shared.ValidateName("property", name); err != nil {
		return err
	}
	v, err := f.parse(value)
	if err != nil {
		return err
	}
	f.values[name] = v
	return nil
}

func (f *propertyFlag) Type() string { return "NAME=" + strings.ToUpper(f.kind) }

func parseBool(s string) (any, error) {
	switch s {
	case "true", "yes", "on", "1":
		return true, nil
	case "false", "no", "off", "0":
		return false, nil
	default:
		return nil, shared.ErrInvalid.Errorf("%q must be true or false", s)
	}
}

func parseInt(s string) (any, error) {
	n, err := strconv.ParseInt(s, 0, 64)
	if err != nil {
		return nil, shared.ErrInvalid.Errorf("%q must be a whole number of 64 bits at most", s)
	}
	return n, nil
}

func parseString(s string) (any, error) { return s, nil }
