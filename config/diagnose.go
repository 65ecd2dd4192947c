package config

import (
	"errors"
	"syscall"

	"github.com/hashicorp/hcl/v2"

	"github.com/khelp/khelp/shared"
)

// Diagnose gives an error that came up after the configuration was read, while a helper was loaded, its place in the configuration:
// each *shared.PropertyError in it the property's own attribute, or the config block if the attribute is not there, and everything
// else the helper's block. A helper that is not configured has no place. It returns nil for a nil error.
func (c *Config) Diagnose(helper string, err error) hcl.Diagnostics {
	if err == nil {
		return nil
	}
	h := c.Helper(helper)
	var diags hcl.Diagnostics
	for _, part := range split(err) {
		diags = append(diags, h.diagnose(helper, part))
	}
	return diags
}

// split takes an error apart where it joins several, as far as that is needed to tell properties' errors from each other and from the
// rest. An error without a property's is left whole, with all its words.
//
//nolint:errorlint // it looks at one node of the tree at a time, and goes down by itself
func split(err error) []error {
	var p *shared.PropertyError
	if !errors.As(err, &p) {
		return []error{err}
	}
	if own, ok := err.(*shared.PropertyError); ok {
		return []error{own}
	}
	switch u := err.(type) {
	case interface{ Unwrap() error }:
		return split(u.Unwrap())
	case interface{ Unwrap() []error }:
		var parts []error
		for _, e := range u.Unwrap() {
			if !bare(e) {
				parts = append(parts, split(e)...)
			}
		}
		return parts
	default: // it has an As method of its own
		return []error{p}
	}
}

// bare reports whether an error is a sentinel alone, which classes the error it is wrapped in and says nothing more.
//
//nolint:errorlint // a wrapped sentinel is not bare
func bare(err error) bool {
	switch err.(type) {
	case nil, *shared.Error, syscall.Errno:
		return true
	default:
		return false
	}
}

// diagnose works on a nil Helper too. An error is a property's own here, as split left it.
//
//nolint:errorlint // a property's error deeper down has been split off
func (h *Helper) diagnose(name string, err error) *hcl.Diagnostic {
	d := &hcl.Diagnostic{Severity: hcl.DiagError, Summary: "Cannot load helper \"" + name + "\"", Detail: stop(err.Error())}
	if word := shared.ErrWord(err); word != "" {
		d.Summary += ": " + word
	}
	if h == nil {
		return d
	}
	at := h.Range
	if p, ok := err.(*shared.PropertyError); ok {
		if h.config != nil {
			at = *h.config
		}
		if r, ok := h.properties[p.Name]; ok {
			at = r
		}
	}
	d.Subject = &at
	return d
}
