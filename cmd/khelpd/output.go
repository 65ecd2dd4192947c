package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/khelp/khelp/shared"
)

// format is the value of -o.
type format string

const (
	formatTable format = "table"
	formatJSON  format = "json"
)

// String, Set and Type make it a flag.
func (f *format) String() string { return string(*f) }

func (f *format) Set(s string) error {
	switch format(s) {
	case formatTable, formatJSON:
		*f = format(s)
		return nil
	default:
		return shared.ErrInvalid.Errorf("must be table or json%s", shared.DidYouMean(s, []string{"table", "json"}))
	}
}

func (f *format) Type() string { return "table|json" }

// schemaName marks every JSON document this program writes.
const schemaName = "khelp/v1"

// writeJSON is the one encoder: an indented object and a newline.
func writeJSON(w io.Writer, document any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(document); err != nil {
		return fmt.Errorf("output: %w", err)
	}
	return nil
}

// table writes aligned columns with two spaces between them. Cells are made printable; an empty one shows as "-".
type table struct {
	w   *tabwriter.Writer
	err error
}

func newTable(w io.Writer, header ...string) *table {
	t := &table{w: tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	t.row(header...)
	return t
}

func (t *table) row(cells ...string) {
	for i, c := range cells {
		if cells[i] = printableLine(c); cells[i] == "" {
			cells[i] = "-"
		}
	}
	if _, err := fmt.Fprintln(t.w, strings.Join(cells, "\t")); err != nil && t.err == nil {
		t.err = err
	}
}

// flush writes what was collected and returns the first error.
func (t *table) flush() error {
	if err := t.w.Flush(); err != nil && t.err == nil {
		t.err = err
	}
	if t.err != nil {
		return fmt.Errorf("output: %w", t.err)
	}
	return nil
}

// printable is shared.Printable for text that may have several lines, such as the last words of a helper.
func printable(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = shared.Printable(line, 0)
	}
	return strings.Join(lines, "\n")
}

// printableLine is shared.Printable for one cell of a table, where a line's end or a tab is no more than a space.
func printableLine(s string) string {
	return shared.Printable(strings.NewReplacer("\n", " ", "\t", " ").Replace(s), 0)
}

// list joins the elements of a cell.
func list[T ~string](elements []T) string {
	words := make([]string, len(elements))
	for i, e := range elements {
		words[i] = string(e)
	}
	return strings.Join(words, ",")
}
