package shared

import (
	"fmt"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxText is how many bytes are kept of a text that a helper chose: a message, a reason, a description.
const MaxText = 4 << 10

// textCut ends a text of which more was there.
const textCut = "… [cut]"

// Printable makes a text that a helper chose harmless in a log, a table and a terminal, where it could move the cursor or forge a line
// of its own: it becomes one line. What is not graphic (control characters, direction overrides, line separators) is written out as
// \n, \x1b or \u202e, and so are bytes that are not UTF-8; tabs stay. At most limit bytes of the result are kept, in whole characters,
// with a mark behind them if there was more; 0 is no limit. A text that is printable comes back as it is, so it may go through twice.
func Printable(s string, limit int) string {
	if limit <= 0 {
		limit = math.MaxInt
	}
	i := 0
	for i < len(s) {
		piece, size := printablePiece(s[i:])
		if len(piece) != size || i+size > limit {
			break
		}
		i += size
	}
	if i == len(s) {
		return s
	}
	var b strings.Builder
	b.WriteString(s[:i])
	for i < len(s) {
		piece, size := printablePiece(s[i:])
		if b.Len()+len(piece) > limit {
			b.WriteString(textCut)
			break
		}
		b.WriteString(piece)
		i += size
	}
	return b.String()
}

// printablePiece returns the first character of s, or what is written for it, which is always longer, and its size in s.
func printablePiece(s string) (piece string, size int) {
	r, size := utf8.DecodeRuneInString(s)
	switch {
	case r == utf8.RuneError && size == 1, r < utf8.RuneSelf && !unicode.IsPrint(r):
		switch s[0] {
		case '\t':
			return s[:1], 1
		case '\n':
			return `\n`, 1
		case '\r':
			return `\r`, 1
		}
		return fmt.Sprintf(`\x%02x`, s[0]), 1
	case unicode.IsGraphic(r):
		return s[:size], size
	case r > math.MaxUint16:
		return fmt.Sprintf(`\U%08x`, r), size
	default:
		return fmt.Sprintf(`\u%04x`, r), size
	}
}

// PrintableError returns an error whose text is that of err made Printable, for an error in which a helper had its say; it wraps err.
// Nil stays nil.
func PrintableError(err error, limit int) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	safe := Printable(text, limit)
	if safe == text {
		return err
	}
	return &printableError{text: safe, err: err}
}

type printableError struct {
	text string
	err  error
}

func (e *printableError) Error() string { return e.text }
func (e *printableError) Unwrap() error { return e.err }
