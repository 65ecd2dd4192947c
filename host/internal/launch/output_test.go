package launch

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/protobuf/encoding/protowire"
	"pgregory.net/rapid"
)

// Whatever the pieces a stream comes in, the lines are the same.
func TestLineWriterSplitsAnyPieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lines := rapid.SliceOf(rapid.StringMatching(`[a-z]{0,12}`)).Draw(t, "lines")
		last := rapid.StringMatching(`[a-z]{0,5}`).Draw(t, "last")
		stream := strings.Join(append(slices.Clone(lines), last), "\n")
		var got []string
		w := lineWriter{emit: func(s string) { got = append(got, s) }}
		for rest := stream; rest != ""; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "piece")
			_, _ = w.Write([]byte(rest[:n]))
			rest = rest[n:]
		}
		w.flush()
		want := slices.Clone(lines)
		if last != "" {
			want = append(want, last)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("got %q, want %q", got, want)
		}
	})
}

func TestLineWriterCutsLongLines(t *testing.T) {
	for _, size := range []int{maxLine, maxLine + 1, 70_000, 3 * maxLine} {
		for _, piece := range []int{1000, 32 << 10, 1 << 20} {
			var got []string
			w := lineWriter{emit: func(s string) { got = append(got, s) }}
			for rest := strings.Repeat("x", size) + "\nnext\n"; rest != ""; {
				n := min(piece, len(rest))
				_, _ = w.Write([]byte(rest[:n]))
				rest = rest[n:]
			}
			want := strings.Repeat("x", maxLine)
			if size > maxLine {
				want += cutMark
			}
			if !slices.Equal(got, []string{want, "next"}) {
				t.Errorf("size %d in pieces of %d: %d lines, first of %d bytes", size, piece, len(got), len(got[0]))
			}
		}
	}
}

func TestTailKeepsTheLast(t *testing.T) {
	var tl tail
	for i := range tailLines + 5 {
		tl.add(fmt.Sprint(i))
	}
	tl.add(strings.Repeat("é", maxTailLine))
	got := tl.lines()
	if len(got) != tailLines || got[0] != "6" || got[tailLines-2] != fmt.Sprint(tailLines+4) {
		t.Errorf("%d lines from %q to %q", len(got), got[0], got[tailLines-2])
	}
	if last := got[tailLines-1]; len(last) > maxTailLine+len("… [cut]") || !strings.HasSuffix(last, "é… [cut]") {
		t.Errorf("long line is kept with %d bytes", len(last))
	}
}

func TestParseHclog(t *testing.T) {
	level, message, fields, ok := parseHclog(`{"@level":"debug","@message":"hi\nforged","@timestamp":"t","@module":"m","n":12345678901234567,"b":"x\u001b",` +
		`"deep":[{"k\u001b":["\u202e\ny",true,null]}]}`)
	if !ok || level != hclog.Debug || message != "hi\n  | forged" {
		t.Errorf("%v %q %v", level, message, ok)
	}
	if got := fmt.Sprint(fields); got != `[module m timestamp t b x\x1b deep [map[k\x1b:[\u202e`+"\n  | "+`y true <nil>]]] n 12345678901234567]` {
		t.Errorf("fields %s", got)
	}
	for _, other := range []string{
		`{"@level":7,"@message":"x"}`, `{"@level":"info","@message":7}`, `{"@level":"off","@message":"x"}`, `{"@level":"loud","@message":"x"}`,
		`{"level":"info","msg":"x"}`, `{"@level":"info","@message":"x"} trailing`, `{"@level":"info"`, `[]`, ``, `{}`,
	} {
		if _, _, _, ok := parseHclog(other); ok {
			t.Errorf("%s passed for hclog", other)
		}
	}
}

func TestParsePrefix(t *testing.T) {
	for line, want := range map[string]string{
		"[TRACE] a": "trace a", "[DEBUG]b": "debug b", "[INFO] c": "info c", "[WARN]  d": "warn d", "[ERROR] e": "error e", "[ERR] f": "error f",
		"2024/01/02 03:04:05 [WARN] g": "warn g", "2024/01/02 03:04:05.123456 [INFO] h": "info h",
		"[NOISE] i": "", "[WARN j": "", "k [WARN]": "", "2024/01/02 [WARN]": "", "": "",
	} {
		level, message, ok := parsePrefix(line)
		if got := level.String() + " " + message; ok != (want != "") || ok && got != want {
			t.Errorf("%q: %q, %v; want %q", line, got, ok, want)
		}
	}
}

func TestLooksLikeHandshake(t *testing.T) {
	for line, want := range map[string]bool{
		"1|1|unix|/s|grpc|": true, "2|x|y|z": true, "1|1|unix": false, "a|b|c|d": false, "": false, "|||": false, "12": false,
	} {
		if got := looksLikeHandshake(line); got != want {
			t.Errorf("%q: %v", line, got)
		}
	}
	if !looksLikeHandshake(" 1|1|unix|/s|grpc| ") {
		t.Error("blanks around the line matter")
	}
}

func TestParseStdio(t *testing.T) {
	msg := protowire.AppendTag(nil, 9, protowire.BytesType)
	msg = protowire.AppendBytes(msg, []byte("unknown"))
	msg = protowire.AppendTag(msg, stdioChannelField, protowire.VarintType)
	msg = protowire.AppendVarint(msg, 2)
	msg = protowire.AppendTag(msg, stdioDataField, protowire.BytesType)
	msg = protowire.AppendBytes(msg, []byte("text"))
	if channel, data := parseStdio(msg); channel != 2 || string(data) != "text" {
		t.Errorf("%d %q", channel, data)
	}
	for cut := range msg {
		if _, data := parseStdio(msg[:cut]); data != nil && string(data) != "text" {
			t.Errorf("cut at %d: %q", cut, data)
		}
	}
}

func unprintable(r rune) bool { return r != '\t' && !unicode.IsGraphic(r) }

// No output, however odd, breaks the reader, grows without bound or reaches the log with control characters.
func FuzzStderr(f *testing.F) {
	for _, seed := range []string{
		"plain\n", "[WARN] x\n", "panic: x\n\ngoroutine 1 [running]:\n", `{"@level":"info","@message":"x","a":[1,{"b":null}]}` + "\n", "{\xff\n",
		strings.Repeat("y", maxLine+1) + "\n", "\r\n\x00", `{"@message":{},"@level":"info"}` + "\n",
	} {
		f.Add([]byte(seed), 7)
	}
	f.Fuzz(func(t *testing.T, stream []byte, piece int) {
		book := newLogBook()
		lines := newLogLines(book, &tail{})
		w := lineWriter{emit: lines.stderr}
		for rest := stream; len(rest) > 0; {
			n := min(max(1, piece), len(rest))
			_, _ = w.Write(rest[:n])
			rest = rest[n:]
		}
		w.flush()
		for _, line := range lines.tail.lines() {
			if strings.ContainsFunc(line, unprintable) || len(line) > maxTailLine+len("… [cut]") {
				t.Errorf("kept: %q", line)
			}
		}
		for _, r := range book.records(t) {
			if strings.ContainsFunc(strings.ReplaceAll(r.Message, "\n  | ", ""), unprintable) {
				t.Errorf("logged: %q", r.Message)
			}
		}
	})
}
