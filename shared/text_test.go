package shared_test

import (
	"errors"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/khelp/khelp/shared"
)

func TestPrintable(t *testing.T) {
	for _, tc := range []struct {
		in    string
		limit int
		want  string
	}{
		{"", 0, ""},
		{"plain ü\t|\u00a0日本", 0, "plain ü\t|\u00a0日本"},
		{"hi\x1b[2J\n2026-11-21 [ERROR] forged\r\x00\x7f", 0, `hi\x1b[2J\n2026-11-21 [ERROR] forged\r\x00\x7f`},
		{"\xff\u009b\xc3", 0, `\xff\u009b\xc3`},
		{"\ufffd is fine", 0, "\ufffd is fine"},
		{"a\u202eb\u2028c\ufeffd\U000e0001e", 0, `a\u202eb\u2028c\ufeffd\U000e0001e`},
		{`\n as it is`, 0, `\n as it is`},
		{"12345678", 8, "12345678"},
		{"123456789", 8, "12345678… [cut]"},
		{"1234567é", 8, "1234567… [cut]"},
		{"12345\x1b", 8, "12345… [cut]"},
		{"\x1b\x1b6", 9, `\x1b\x1b6`},
		{"\x1b\x1b67", 9, `\x1b\x1b6… [cut]`},
	} {
		if got := shared.Printable(tc.in, tc.limit); got != tc.want {
			t.Errorf("Printable(%q, %d) = %q, want %q", tc.in, tc.limit, got, tc.want)
		}
	}
}

func TestPrintableHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")) + rapid.String().Draw(t, "text")
		limit := rapid.IntRange(0, len(s)+8).Draw(t, "limit")
		got := shared.Printable(s, limit)
		kept := strings.TrimSuffix(got, "… [cut]")
		switch {
		case limit > 0 && len(kept) > limit:
			t.Errorf("%d bytes are kept of %q, the limit is %d", len(kept), s, limit)
		case limit == 0 && len(got) < len(s):
			t.Errorf("%q is cut to %q without a limit", s, got)
		case !utf8.ValidString(got):
			t.Errorf("%q is no UTF-8", got)
		case strings.ContainsFunc(got, func(r rune) bool { return r != '\t' && !unicode.IsGraphic(r) }):
			t.Errorf("%q of %q is not printable", got, s)
		case shared.Printable(got, 0) != got:
			t.Errorf("%q is changed by a second time", got)
		}
	})
}

// What is cut off costs nothing.
func TestPrintableOfALongText(t *testing.T) {
	for _, unit := range []string{"x", "\n", "é", "\xff"} {
		s := strings.Repeat(unit, 3<<20)
		if got := shared.Printable(s, shared.MaxText); len(got) > shared.MaxText+16 || len(got) < shared.MaxText-4 {
			t.Errorf("%d bytes of %d times %q", len(got), 3<<20, unit)
		}
		if n := testing.AllocsPerRun(1, func() { shared.Printable(s, 64) }); n > 200 {
			t.Errorf("%v allocations for 64 bytes of %q", n, unit)
		}
	}
	clean := strings.Repeat("clean ", 100)
	if n := testing.AllocsPerRun(10, func() { shared.Printable(clean, 0) }); n != 0 {
		t.Errorf("%v allocations for a clean text", n)
	}
}

func TestPrintableError(t *testing.T) {
	clean := shared.ErrBusy.Errorf("held by ertt")
	if got := shared.PrintableError(clean, 64); got != clean { //nolint:errorlint // it must be the very same
		t.Errorf("%v is changed to %v", clean, got)
	}
	got := shared.PrintableError(shared.ErrBusy.Errorf("held\nby \x1b[1mertt"), 64)
	if !errors.Is(got, shared.ErrBusy) || got.Error() != `held\nby \x1b[1mertt` {
		t.Errorf("%q", got)
	}
	if got := shared.PrintableError(nil, 64); got != nil {
		t.Errorf("nil came out as %v", got)
	}
}
