package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/khelp/khelp/shared"
)

// problem makes an error at a place.
func problem(at hcl.Range, summary, format string, args ...any) *hcl.Diagnostic {
	return &hcl.Diagnostic{
		Severity: hcl.DiagError,
		Summary:  summary,
		Detail:   fmt.Sprintf(format, args...),
		Subject:  &at,
	}
}

// warning makes a warning at a place.
func warning(at hcl.Range, summary, format string, args ...any) *hcl.Diagnostic {
	d := problem(at, summary, format, args...)
	d.Severity = hcl.DiagWarning
	return d
}

// sentence gives an error's text a capital letter and a full stop.
func sentence(text string) string {
	if text == "" {
		return ""
	}
	return stop(capital(text))
}

func capital(text string) string {
	if text == "" || text[0] < 'a' || text[0] > 'z' {
		return text
	}
	return string(text[0]-'a'+'A') + text[1:]
}

func stop(text string) string {
	if strings.HasSuffix(text, ".") || strings.HasSuffix(text, "?") {
		return text
	}
	return text + "."
}

// hint ends a sentence about a word that is not among the known ones: with what was probably meant, or else with all of them.
func hint(name string, known []string) string {
	if near := shared.DidYouMean(name, known); near != "" {
		return near
	}
	return "; it must be " + listOfWords(known, "or") + "."
}

// listOfWords joins words as "a, b or c".
func listOfWords(words []string, joint string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " " + joint + " " + words[last]
}

// place writes where something stands, as an editor understands it.
func place(r hcl.Range) string {
	return fmt.Sprintf("%s:%d", r.Filename, r.Start.Line)
}

// sorted puts diagnostics in the order of the files, which is that of their names, and of the lines in them; those without a place come
// first. Where parser and decoder say the same of the same place, once is enough.
func sorted(diags hcl.Diagnostics) hcl.Diagnostics {
	key := func(d *hcl.Diagnostic) (file string, offset int) {
		if d.Subject == nil {
			return "", 0
		}
		return d.Subject.Filename, d.Subject.Start.Byte
	}
	slices.SortStableFunc(diags, func(a, b *hcl.Diagnostic) int {
		fileA, byteA := key(a)
		fileB, byteB := key(b)
		return cmp.Or(cmp.Compare(fileA, fileB), byteA-byteB)
	})
	return slices.CompactFunc(diags, func(a, b *hcl.Diagnostic) bool {
		return a.Summary == b.Summary && a.Detail == b.Detail && a.Subject != nil && b.Subject != nil && *a.Subject == *b.Subject
	})
}
