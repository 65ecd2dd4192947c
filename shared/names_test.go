package shared_test

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/khelp/khelp/shared"
)

func TestK4_NameLength(t *testing.T) {
	longest := strings.Repeat("n", 63)
	if err := shared.ValidateName("helper name", longest); err != nil {
		t.Errorf("63 bytes: %v", err)
	}
	err := shared.ValidateName("helper name", longest+"n")
	if !errors.Is(err, shared.ErrNameTooLong) || !strings.Contains(err.Error(), "64 bytes") || !strings.Contains(err.Error(), "63") {
		t.Errorf("64 bytes: %v", err)
	}
	if err := shared.ValidateName("helper name", ""); !errors.Is(err, shared.ErrInvalid) {
		t.Errorf("empty: %v", err)
	}
	// Bytes count, not characters, and too long is said of a name that is bad besides.
	if err := shared.ValidateName("helper name", strings.Repeat("é", 32)); !errors.Is(err, shared.ErrNameTooLong) {
		t.Errorf("32 characters of 2 bytes: %v", err)
	}
}

func TestK4_EveryByteOfAName(t *testing.T) {
	for b := range 256 {
		c := byte(b)
		letter := c >= 'a' && c <= 'z'
		inside := letter || c >= '0' && c <= '9' || c == '_' || c == '-'
		for name, good := range map[string]bool{
			string([]byte{c}):           letter,
			string([]byte{c, 'x'}):      letter,
			string([]byte{'a', c}):      inside,
			string([]byte{'a', c, 'z'}): inside,
		} {
			err := shared.ValidateName("class", name)
			if good && err != nil {
				t.Errorf("%q: %v", name, err)
			}
			if !good && (!errors.Is(err, shared.ErrInvalid) || !strings.Contains(err.Error(), "class")) {
				t.Errorf("%q: %v, want ErrInvalid that says what it is of", name, err)
			}
		}
	}
}

func TestHookPoint(t *testing.T) {
	long := strings.Repeat("p", 63)
	for _, tc := range []struct {
		point shared.HookPoint
		want  error
	}{
		{"tcp.est_in", nil},
		{"a.b", nil},
		{shared.HookPoint(long + "." + long), nil},
		{shared.HookPoint(long + "x.a"), shared.ErrNameTooLong},
		{shared.HookPoint("a." + long + "x"), shared.ErrNameTooLong},
		{"", shared.ErrInvalid},
		{"tcp", shared.ErrInvalid},
		{".", shared.ErrInvalid},
		{"tcp.", shared.ErrInvalid},
		{".est_in", shared.ErrInvalid},
		{"tcp.est.in", shared.ErrInvalid},
		{"TCP.est_in", shared.ErrInvalid},
		{"tcp.est in", shared.ErrInvalid},
		{"tcp/est_in", shared.ErrInvalid},
	} {
		if err := tc.point.Validate(); !errors.Is(err, tc.want) {
			t.Errorf("%q: %v, want %v", string(tc.point), err, tc.want)
		}
	}
	if p := shared.HookPoint("tcp.est_in"); p.Subsystem() != "tcp" || p.Name() != "est_in" {
		t.Errorf("%q and %q", p.Subsystem(), p.Name())
	}
	if err := shared.Class("Tcp").Validate(); !errors.Is(err, shared.ErrInvalid) {
		t.Errorf("class Tcp: %v", err)
	}
}

func TestDidYouMean(t *testing.T) {
	candidates := []string{"timeout", "on_failure", "command"}
	for name, want := range map[string]string{
		"timeoutt": `; did you mean "timeout"?`, "onfailure": `; did you mean "on_failure"?`, "comand": `; did you mean "command"?`,
		"zzzzzzzzzz": "", "": "",
	} {
		if got := shared.DidYouMean(name, candidates); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
	if got := shared.DidYouMean("x", nil); got != "" {
		t.Errorf("no candidates: %q", got)
	}
}

// A word with one change is always near enough to be suggested.
func TestDidYouMeanFindsOneChange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching(`[a-z]{3,20}`).Draw(t, "word")
		i := rapid.IntRange(0, len(word)-1).Draw(t, "at")
		wrong := word[:i] + rapid.SampledFrom([]string{"", "_", "_" + word[i:i+1]}).Draw(t, "change") + word[i+1:]
		if got := shared.DidYouMean(wrong, []string{"0000000000000000000000000000", word}); got != `; did you mean "`+word+`"?` {
			t.Fatalf("%q for %q: %q", wrong, word, got)
		}
	})
}
