package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/khelp/khelp/shared"
)

// propertyFlag is one of modload(8)'s -b, -i and -s: name=value, repeatable, of one type. The last one given for a name counts.
type propertyFlag struct {
	values map[string]any    // shared by the three
	flags  map[string]string // which of them has set a property, likewise
	flag   string            // this one: "-b"
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
	f.values[name], f.flags[name] = v, f.flag
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

// flagError is an error about properties in which they go by the flags that have set them.
type flagError struct {
	text string
	err  error
}

func (e *flagError) Error() string { return e.text }
func (e *flagError) Unwrap() error { return e.err }

// byFlag returns err with the names of flags where it names properties that flags have set.
func byFlag(err error, flags map[string]string) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	for _, p := range shared.PropertyErrors(err) {
		if flag, ok := flags[p.Name]; ok {
			text = strings.ReplaceAll(text, fmt.Sprintf("property %q:", p.Name), flag+" "+p.Name+":")
		}
	}
	if text == err.Error() {
		return err
	}
	return &flagError{text, err}
}
