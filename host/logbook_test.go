package host

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/go-hclog"

	"github.com/khelp/khelp/shared"
)

// page returns the records of a helper as "level message".
func (b *logbook) page(t *testing.T, helper string) []string {
	t.Helper()
	records, sub, err := b.follow(helper)
	if err != nil {
		t.Fatal(err)
	}
	sub.Close()
	var out []string
	for _, r := range records {
		if r.Time.IsZero() {
			t.Errorf("%+v has no time", r)
		}
		out = append(out, r.Level+" "+r.Message)
	}
	return out
}

func wantLines(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s:\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// textLog returns a logger of hclog's and a function that returns its lines so far, without their times.
func textLog(level hclog.Level) (hclog.Logger, func() []string) {
	var buf bytes.Buffer
	l := hclog.New(&hclog.LoggerOptions{Name: "host", Output: &buf, Level: level, DisableTime: true})
	return l, func() []string { return strings.Split(strings.TrimSuffix(buf.String(), "\n"), "\n") }
}

func logAll(l hclog.Logger) {
	l.Trace("a")
	l.Debug("b")
	l.Info("c")
	l.Warn("d")
	l.Error("e")
	l.Log(hclog.Debug, "f")
	l.Log(hclog.NoLevel, "g")
	l.Log(hclog.Off, "never")
}

func TestLogbookKeepsWhatTheOperatorsLevelKeepsButInfo(t *testing.T) {
	from := map[hclog.Level][]string{
		hclog.Trace: {"trace a", "debug b", "info c", "warn d", "error e", "debug f", "info g"},
		hclog.Debug: {"debug b", "info c", "warn d", "error e", "debug f", "info g"},
		hclog.Info:  {"info c", "warn d", "error e", "info g"},
		hclog.Error: {"info c", "warn d", "error e", "info g"},
		hclog.Off:   {"info c", "warn d", "error e", "info g"},
	}
	for level, want := range from {
		base, _ := textLog(level)
		b := newLogbook()
		l := b.logger(base, "ertt")
		logAll(l)
		wantLines(t, level.String(), b.page(t, "ertt"), want...)
		if got, lowest := l.GetLevel(), min(level, hclog.Info); got != lowest {
			t.Errorf("level %v over %v, want %v", got, level, lowest)
		}
		if l.IsTrace() != (level <= hclog.Trace) || l.IsDebug() != (level <= hclog.Debug) || !l.IsInfo() || !l.IsWarn() || !l.IsError() {
			t.Errorf("over %v the logger does not tell what is kept", level)
		}
	}
	b := newLogbook() // over a logger that discards all
	l := b.logger(hclog.NewNullLogger(), "ertt").With("k", 1)
	logAll(l)
	wantLines(t, "null", b.page(t, "ertt"), "info c k=1", "warn d k=1", "error e k=1", "info g k=1")
	if l.GetLevel() != hclog.Info {
		t.Errorf("level %v", l.GetLevel())
	}
	base, lines := textLog(hclog.Error)
	l = b.logger(base, "vegas")
	l.SetLevel(hclog.Debug)
	l.Debug("now")
	wantLines(t, "after SetLevel", b.page(t, "vegas"), "debug now")
	wantLines(t, "base after SetLevel", lines(), "[DEBUG] host.vegas: now")
}

func TestLogbookLoggersKeepHclogsWays(t *testing.T) {
	base, lines := textLog(hclog.Debug)
	b := newLogbook()
	h := b.hostLogger(base.With("site", "x"))
	h.Info("the host's own")
	h.With("k", 1).Named("ertt").Info("through With", "n", 2)
	l := h.Named("ertt")
	l.Info("fields", "n", 1, "text", "two words", "forged", "a=b \"c\"\n", "empty", "", "err", errors.New("boom"),
		"hex", hclog.Hex(255), "fmt", hclog.Fmt("%02d", 3), "odd")
	l.With("a", 1, "b", 2).With("a", 3).Warn("again", "c", 4)
	sub := l.Named("osd").Named("slot")
	sub.Error("named")
	l.ResetNamed("alone").Error("reset")
	if l.Name() != "host.ertt" || sub.Name() != "host.ertt.osd.slot" {
		t.Errorf("names %q, %q", l.Name(), sub.Name())
	}
	if args := l.With("a", 1).ImpliedArgs(); fmt.Sprint(args) != "[site x a 1]" {
		t.Errorf("implied %v", args)
	}
	std := l.StandardLogger(&hclog.StandardLoggerOptions{InferLevels: true})
	std.Print("[WARN] inferred")
	std.Print("plain\x1b")
	l.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Error}).Print("[DEBUG] forced")
	l.StandardLogger(nil).Print("[DEBUG] as it is")
	wantLines(t, "book", b.page(t, "ertt"),
		`info through With k=1 site=x n=2`,
		`info fields site=x n=1 text="two words" forged="a=b \"c\"\n" empty="" err=boom hex=0xff fmt=03 EXTRA_VALUE_AT_END=odd`,
		`warn again site=x a=3 b=2 c=4`,
		`error osd.slot: named site=x`,
		`error alone: reset site=x`,
		`warn inferred site=x`,
		`info plain\x1b site=x`,
		`error forced site=x`,
		`info [DEBUG] as it is site=x`)
	got := strings.Join(lines(), "\n")
	for _, want := range []string{
		"[INFO]  host: the host's own: site=x", "[INFO]  host.ertt: through With: k=1 site=x n=2", "[WARN]  host.ertt: again: a=3 b=2 site=x c=4",
		"[ERROR] host.ertt.osd.slot: named: site=x", "[ERROR] alone: reset: site=x", "[WARN]  host.ertt: inferred: site=x",
		"[ERROR] host.ertt: forced: site=x", "[INFO]  host.ertt: [DEBUG] as it is: site=x",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("base does not have %q in\n%s", want, got)
		}
	}
}

func TestLogbookKeepsTheSourceOfSlogRecords(t *testing.T) {
	var buf bytes.Buffer
	base := SlogLogger(slog.New(slog.NewTextHandler(&buf, &slog.HandlerOptions{AddSource: true})))
	b := newLogbook()
	b.hostLogger(base).Named("ertt").Info("here")
	b.logger(base, "ertt").With("k", 1).Log(hclog.Warn, "there")
	for line := range strings.Lines(buf.String()) {
		if !strings.Contains(line, filepath.Base("logbook_test.go")) || !strings.Contains(line, "logger=ertt") {
			t.Error(line)
		}
	}
	wantLines(t, "book", b.page(t, "ertt"), "info here", "warn there k=1")
	buf.Reset()
	b.logger(base, "ertt").Debug("quiet")
	if buf.Len() > 0 || len(b.page(t, "ertt")) != 2 {
		t.Errorf("%s", buf.String())
	}
}

func TestLogbookIsBounded(t *testing.T) {
	b := newLogbook()
	l := b.logger(hclog.NewNullLogger(), "ertt")
	for i := range keptRecords + 5 {
		l.Info(fmt.Sprint(i))
	}
	l.Info(strings.Repeat("x", 2*shared.MaxText))
	got := b.page(t, "ertt")
	if len(got) != keptRecords || got[0] != "info 6" {
		t.Errorf("%d records from %q on", len(got), got[0])
	}
	if last := got[len(got)-1]; len(last) > shared.MaxText+64 {
		t.Errorf("a message of %d bytes", len(last))
	}
	// The one written to least recently goes, but not while somebody reads it.
	log := func(name string) { b.logger(hclog.NewNullLogger(), name).Info("x") }
	log("read")
	_, sub, err := b.follow("read")
	if err != nil {
		t.Fatal(err)
	}
	log("first")
	for i := range keptPages - 3 {
		log(fmt.Sprintf("h%d", i))
	}
	log("first")
	l.Info("still there")
	log("one-more")
	if _, _, err := b.follow("h0"); !errors.Is(err, shared.ErrNotExist) || !strings.Contains(err.Error(), `no helper "h0" has logged anything`) {
		t.Errorf("h0: %v, want ErrNotExist", err)
	}
	for _, name := range []string{"ertt", "first", "read", "h1", "one-more"} {
		b.page(t, name)
	}
	if len(b.pages) != keptPages {
		t.Errorf("%d names", len(b.pages))
	}
	sub.Close()
	log("yet-another")
	if _, _, err := b.follow("read"); !errors.Is(err, shared.ErrNotExist) {
		t.Errorf("read: %v, want ErrNotExist", err)
	}
}

func TestLogbookFollowers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newLogbook()
		l := b.logger(hclog.NewNullLogger(), "ertt")
		l.Info("before")
		records, sub, err := b.follow("ertt")
		if err != nil || len(records) != 1 || records[0].Message != "before" {
			t.Fatalf("%+v, %v", records, err)
		}
		next := func() LogRecord {
			t.Helper()
			r, err := sub.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		go func() {
			synctest.Wait()
			l.Info("after")
		}()
		if r := next(); r.Message != "after" {
			t.Errorf("%+v", r)
		}
		for i := range queuedRecords + 2 {
			l.Info(fmt.Sprint(i))
		}
		if r := next(); r.Level != "warn" || r.Message != "2 records were lost" {
			t.Errorf("%+v", r)
		}
		if r := next(); r.Message != "2" {
			t.Errorf("%+v", r)
		}
		b.close()
		l.Info("too late")
		b.logger(hclog.NewNullLogger(), "other").Info("too late")
		for range queuedRecords - 1 {
			next()
		}
		if _, err := sub.Next(t.Context()); !errors.Is(err, shared.ErrClosed) {
			t.Errorf("Next = %v, want ErrClosed", err)
		}
		sub.Close()
		if got := b.page(t, "ertt"); got[len(got)-1] != fmt.Sprintf("info %d", queuedRecords+1) {
			t.Errorf("the last record is %s", got[len(got)-1])
		}
		if _, _, err := b.follow("other"); !errors.Is(err, shared.ErrNotExist) {
			t.Errorf("other: %v", err)
		}
	})
}

// Many write to many pages while others follow some. Invariants: what a follower gets goes on from the records it began with, in order;
// a page that is followed stays, however many there are.
func TestLogbookHammer(t *testing.T) {
	b := newLogbook()
	base, _ := textLog(hclog.Off)
	const writers, each = 4, 500
	// Each page is followed before anybody writes on: one that is not yet may be dropped for the many.
	var loggers [writers]hclog.Logger
	var subs [writers][3]*LogSubscription
	for w := range writers {
		name := fmt.Sprintf("h%d", w)
		loggers[w] = b.logger(base, name)
		loggers[w].Info("0")
		for i := range subs[w] {
			records, sub, err := b.follow(name)
			if err != nil || len(records) != 1 {
				t.Fatalf("%+v, %v", records, err)
			}
			t.Cleanup(sub.Close)
			subs[w][i] = sub
		}
	}
	var writing, reading sync.WaitGroup
	for w, l := range loggers {
		for _, sub := range subs[w] {
			reading.Go(func() {
				for last := 0; last < each; {
					r, err := sub.Next(t.Context())
					n := plainNumber(r.Message)
					if err != nil || n >= 0 && n != last+1 {
						t.Errorf("%+v after %d, %v", r, last, err)
						return
					}
					last = max(last, n)
				}
			})
		}
		writing.Go(func() {
			for i := range each {
				l.With("k", i).Named("x").Info("m")
				l.Info(fmt.Sprint(i + 1))
				b.logger(base, fmt.Sprintf("w%d-%d", w, i)).Info("one of many")
			}
		})
	}
	writing.Wait()
	reading.Wait()
}

// plainNumber returns the number that a message is, or -1.
func plainNumber(message string) int {
	n := -1
	if _, err := fmt.Sscanf(message, "%d", &n); err != nil || fmt.Sprint(n) != message {
		return -1
	}
	return n
}
