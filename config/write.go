package config

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/mitchellh/go-wordwrap"
	"github.com/zclconf/go-cty/cty"

	"github.com/khelp/khelp/shared"
)

// How much is written, whatever a file is like: generated ones have lines of megabytes and the same mistake in thousands of places.
const (
	maxWritten     = 100 // diagnostics
	maxDetailLines = 100 // of a diagnostic's words
	maxLines       = 10  // of the file, to a diagnostic
	maxColumns     = 160 // of such a line
	leadColumns    = 60  // of them, before the place
	maxWord        = 200 // bytes of a name or a value
)

// ellipsis stands for what is left out.
const ellipsis = "…"

// WriteDiagnostics writes diagnostics for people: what is wrong, the file and the line, the line itself, what to do. Words are wrapped
// at width, or not at all if it is 0. What it writes is bounded and harmless to a terminal: of a long line it shows the part around the
// place, control characters are written out, and after 100 diagnostics it says how many more there are.
func (c *Config) WriteDiagnostics(w io.Writer, diags hcl.Diagnostics, width uint, color bool) error {
	return WriteDiagnostics(w, c.Files, diags, width, color)
}

// WriteDiagnostics is Config.WriteDiagnostics for diagnostics that came without a Config, such as those of FormatFiles.
func WriteDiagnostics(w io.Writer, files map[string]*hcl.File, diags hcl.Diagnostics, width uint, color bool) error {
	shown := diags
	if len(diags) > maxWritten {
		if shown = errorsOf(diags); len(shown) == 0 {
			shown = diags
		}
		shown = shown[:min(maxWritten, len(shown))]
	}
	// The layout is that of hcl's writer, which bounds nothing.
	for _, d := range shown {
		dw := diagWriter{width: width, color: color}
		dw.write(d, files)
		if _, err := io.WriteString(w, dw.String()); err != nil {
			return err
		}
	}
	if more := len(diags) - len(shown); more > 0 {
		moreErrors := len(errorsOf(diags)) - len(errorsOf(shown))
		_, err := fmt.Fprintf(w, "Not shown: %s.\n\n", moreOf(moreErrors, more-moreErrors))
		return err
	}
	return nil
}

func errorsOf(diags hcl.Diagnostics) hcl.Diagnostics {
	return slices.DeleteFunc(slices.Clone(diags), func(d *hcl.Diagnostic) bool { return d.Severity != hcl.DiagError })
}

func moreOf(errs, warnings int) string {
	var parts []string
	for _, p := range []struct {
		n    int
		what string
	}{{errs, "error"}, {warnings, "warning"}} {
		switch {
		case p.n == 1:
			parts = append(parts, "1 more "+p.what)
		case p.n > 1:
			parts = append(parts, fmt.Sprintf("%d more %ss", p.n, p.what))
		}
	}
	return strings.Join(parts, " and ")
}

// diagWriter lays out one diagnostic.
type diagWriter struct {
	strings.Builder
	width uint
	color bool
}

// paint writes text in a colour, if there are colours.
func (w *diagWriter) paint(code, text string) {
	if w.color && text != "" {
		text = "\x1b[" + code + "m" + text + "\x1b[0m"
	}
	w.WriteString(text)
}

func (w *diagWriter) write(d *hcl.Diagnostic, files map[string]*hcl.File) {
	if d.Severity == hcl.DiagWarning {
		w.paint("33", "Warning")
	} else {
		w.paint("31", "Error")
	}
	fmt.Fprintf(w, ": %s\n\n", shared.Printable(d.Summary, shared.MaxText))
	if d.Subject != nil {
		w.place(d, files[d.Subject.Filename])
		w.variables(d)
	}
	if d.Detail == "" {
		return
	}
	lines := strings.Split(d.Detail, "\n")
	if len(lines) > maxDetailLines {
		lines = append(lines[:maxDetailLines:maxDetailLines], ellipsis)
	}
	for i, line := range lines {
		lines[i] = shared.Printable(line, shared.MaxText)
	}
	detail := strings.Join(lines, "\n")
	if w.width > 0 {
		detail = wordwrap.WrapString(detail, w.width)
	}
	w.WriteString(detail + "\n\n")
}

// place writes the file, the line's number, the block, and the lines.
func (w *diagWriter) place(d *hcl.Diagnostic, file *hcl.File) {
	fmt.Fprintf(w, "  on %s line %d", shared.Printable(d.Subject.Filename, shared.MaxText), d.Subject.Start.Line)
	if file == nil || file.Bytes == nil {
		w.WriteString(":\n  (source code not available)\n\n")
		return
	}
	if nav, ok := file.Nav.(interface{ ContextString(offset int) string }); ok {
		if block := nav.ContextString(d.Subject.Start.Byte); block != "" {
			w.WriteString(", in " + shared.Printable(block, maxWord))
		}
	}
	w.WriteString(":\n")
	w.snippet(file.Bytes, d)
	w.WriteString("\n")
}

// snippet writes the lines of the subject, and those of its context unless that is too long.
func (w *diagWriter) snippet(src []byte, d *hcl.Diagnostic) {
	start := min(d.Subject.Start.Byte, len(src))
	end := max(min(d.Subject.End.Byte, len(src)), start)
	if start == end { // an empty place is shown by the character behind it
		_, size := utf8.DecodeRune(src[start:])
		end += size
	}
	first, last := start, end
	if d.Context != nil {
		from, to := min(start, d.Context.Start.Byte), max(end, min(d.Context.End.Byte, len(src)))
		if bytes.Count(src[from:to], newline) < maxLines {
			first, last = from, to
		}
	}
	begin := bytes.LastIndexByte(src[:first], '\n') + 1
	number := d.Subject.Start.Line - bytes.Count(src[begin:start], newline)
	for shown := 0; begin < len(src) && begin < last; shown++ {
		if shown == maxLines {
			w.WriteString("      " + ellipsis + "\n")
			return
		}
		line, _, _ := bytes.Cut(src[begin:], newline)
		fmt.Fprintf(w, "%4d: ", number+shown)
		w.line(bytes.TrimSuffix(line, []byte("\r")), start-begin, end-begin)
		w.WriteString("\n")
		begin += len(line) + 1
	}
}

var newline = []byte("\n")

// line writes a line, or the part of it around the place, which is from start to end, as far as it is in this line.
func (w *diagWriter) line(line []byte, start, end int) {
	start = max(0, min(start, len(line)))
	end = max(start, min(end, len(line)))
	from, to := window(line, start)
	if from > 0 {
		w.WriteString(ellipsis)
	}
	end = min(end, to)
	w.WriteString(shared.Printable(string(line[from:start]), 0))
	w.paint("1;4", shared.Printable(string(line[start:end]), 0))
	w.WriteString(shared.Printable(string(line[end:to]), 0))
	if to < len(line) {
		w.WriteString(ellipsis)
	}
}

// window finds the part of a line to show, which has the place in it.
func window(line []byte, place int) (from, to int) {
	from = back(line, place, leadColumns)
	to = from
	for n := 0; n < maxColumns && to < len(line); n++ {
		_, size := utf8.DecodeRune(line[to:])
		to += size
	}
	if to == len(line) {
		from = min(from, back(line, to, maxColumns)) // the place is near the end: there is room for more before it
	}
	return from, max(to, place)
}

// back goes back from a place by a number of characters, or to the line's beginning.
func back(line []byte, place, n int) int {
	for ; n > 0 && place > 0; n-- {
		_, size := utf8.DecodeLastRune(line[:place])
		place -= size
	}
	return place
}

// variables writes what the variables of a for expression were, without which the same mistake in two rounds reads the same.
func (w *diagWriter) variables(d *hcl.Diagnostic) {
	if d.Expression == nil || d.EvalContext == nil {
		return
	}
	var known []string
	for _, variable := range d.Expression.Variables() {
		value, diags := variable.TraverseAbs(d.EvalContext)
		if diags.HasErrors() || !value.IsKnown() || value.IsNull() || value.IsMarked() || len(variable) != 1 {
			continue
		}
		text := value.Type().FriendlyName()
		switch value.Type() {
		case cty.String:
			text = fmt.Sprintf("%q", value.AsString())
		case cty.Number:
			text = value.AsBigFloat().Text('g', 10)
		case cty.Bool:
			text = fmt.Sprint(value.True())
		}
		known = append(known, shared.Printable(variable.RootName(), maxWord)+" as "+shared.Printable(text, maxWord))
	}
	slices.Sort(known)
	if known = slices.Compact(known); len(known) > 0 {
		fmt.Fprintf(w, "with %s.\n\n", strings.Join(known, ",\n     "))
	}
}
