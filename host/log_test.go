package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"
)

// slogBook returns an adapter and a function that reads the one record it wrote, without its time, and forgets it.
func slogBook(t *testing.T, level slog.Level) (hclog.Logger, func() map[string]any) {
	t.Helper()
	var buf bytes.Buffer
	handler := slog.NewJSONHandler(&buf, &slog.HandlerOptions{Level: level})
	read := func() map[string]any {
		t.Helper()
		defer buf.Reset()
		if buf.Len() == 0 {
			return nil
		}
		record := map[string]any{}
		if err := json.Unmarshal(buf.Bytes(), &record); err != nil {
			t.Fatalf("%q: %v", buf.String(), err)
		}
		delete(record, "time")
		return record
	}
	return SlogLogger(slog.New(handler)), read
}

func expectRecord(t *testing.T, got map[string]any, want map[string]any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("record %v, want %v", got, want)
	}
}

func TestSlogLoggerLevels(t *testing.T) {
	l, read := slogBook(t, LevelTrace)
	for want, write := range map[string]func(string, ...any){
		"DEBUG-4": l.Trace, "DEBUG": l.Debug, "INFO": l.Info, "WARN": l.Warn, "ERROR": l.Error,
	} {
		write("m", "k", 1)
		expectRecord(t, read(), map[string]any{"level": want, "msg": "m", "k": 1.0})
	}
	l.Log(hclog.NoLevel, "m")
	expectRecord(t, read(), map[string]any{"level": "INFO", "msg": "m"})
	l.Log(hclog.Off, "m")
	expectRecord(t, read(), nil)
}

func TestSlogLoggerFollowsHandlerAndSetLevel(t *testing.T) {
	l, read := slogBook(t, slog.LevelInfo)
	asked := func(l hclog.Logger) []bool {
		return []bool{l.IsTrace(), l.IsDebug(), l.IsInfo(), l.IsWarn(), l.IsError()}
	}
	if got := asked(l); !reflect.DeepEqual(got, []bool{false, false, true, true, true}) || l.GetLevel() != hclog.Info {
		t.Errorf("%v, %v", got, l.GetLevel())
	}
	sub := l.Named("sub")
	l.SetLevel(hclog.Error)
	if got := asked(sub); !reflect.DeepEqual(got, []bool{false, false, false, false, true}) || sub.GetLevel() != hclog.Error {
		t.Errorf("after SetLevel(Error): %v, %v", got, sub.GetLevel())
	}
	sub.Warn("quiet")
	expectRecord(t, read(), nil)
	l.SetLevel(hclog.Trace) // does not widen what the handler takes
	if sub.IsDebug() || sub.GetLevel() != hclog.Info {
		t.Errorf("after SetLevel(Trace): %v", sub.GetLevel())
	}
	l.SetLevel(hclog.Off)
	if sub.IsError() || sub.GetLevel() != hclog.Off {
		t.Errorf("after SetLevel(Off): %v", sub.GetLevel())
	}
}

func TestSlogLoggerNamesAndImpliedArgs(t *testing.T) {
	l, read := slogBook(t, slog.LevelInfo)
	a := l.Named("khelp").With("helper", "ertt", "n", 1)
	b := a.Named("osd").With("n", 2)
	if b.Name() != "khelp.osd" || !reflect.DeepEqual(b.ImpliedArgs(), []any{"helper", "ertt", "n", 2}) {
		t.Errorf("%s %v", b.Name(), b.ImpliedArgs())
	}
	b.Info("m", "x", "y")
	expectRecord(t, read(), map[string]any{"level": "INFO", "msg": "m", "logger": "khelp.osd", "helper": "ertt", "n": 2.0, "x": "y"})
	a.Info("m") // not touched by what was derived from it
	expectRecord(t, read(), map[string]any{"level": "INFO", "msg": "m", "logger": "khelp", "helper": "ertt", "n": 1.0})
	if c := b.ResetNamed("fresh"); c.Name() != "fresh" || b.Name() != "khelp.osd" {
		t.Errorf("%s, %s", c.Name(), b.Name())
	}
	b.ImpliedArgs()[1] = "changed"
	if b.ImpliedArgs()[1] != "ertt" {
		t.Error("ImpliedArgs hands out the logger's own slice")
	}
}

func TestSlogLoggerValues(t *testing.T) {
	l, read := slogBook(t, slog.LevelInfo)
	l.Info("m", "hex", hclog.Hex(255), "oct", hclog.Octal(8), "bin", hclog.Binary(5), "fmt", hclog.Fmt("%d beans", 3), "quote", hclog.Quote("a\n"),
		"err", errors.New("sad"), 7, "number key")
	expectRecord(t, read(), map[string]any{
		"level": "INFO", "msg": "m", "hex": "0xff", "oct": "010", "bin": "0b101", "fmt": "3 beans", "quote": `"a\n"`, "err": "sad", "7": "number key",
	})
	l.Info("m", "k", 1, "lone")
	expectRecord(t, read(), map[string]any{"level": "INFO", "msg": "m", "k": 1.0, hclog.MissingKey: "lone"})
	l.Info("m", hclog.Stacktrace())
	if stack, _ := read()["stacktrace"].(string); !strings.Contains(stack, "TestSlogLoggerValues") {
		t.Errorf("stack: %s", stack)
	}
}

func TestSlogLoggerSource(t *testing.T) {
	var buf bytes.Buffer
	l := SlogLogger(slog.New(slog.NewJSONHandler(&buf, &slog.HandlerOptions{AddSource: true})))
	l.Info("by method")
	l.Log(hclog.Warn, "by level")
	for line := range strings.Lines(buf.String()) {
		if !strings.Contains(line, "log_test.go") || !strings.Contains(line, "TestSlogLoggerSource") {
			t.Errorf("source of %s", line)
		}
	}
}

func TestSlogLoggerStandardLogger(t *testing.T) {
	for _, c := range []struct {
		opts        *hclog.StandardLoggerOptions
		line        string
		level, text string
	}{
		{nil, "[WARN] x", "INFO", "[WARN] x"},
		{&hclog.StandardLoggerOptions{InferLevels: true}, "[WARN] x", "WARN", "x"},
		{&hclog.StandardLoggerOptions{InferLevels: true}, "[ERR] x", "ERROR", "x"},
		{&hclog.StandardLoggerOptions{InferLevels: true}, "[OTHER] x", "INFO", "[OTHER] x"},
		{&hclog.StandardLoggerOptions{InferLevels: true}, "2024/01/02 03:04:05 [WARN] x", "INFO", "2024/01/02 03:04:05 [WARN] x"},
		{&hclog.StandardLoggerOptions{InferLevels: true, InferLevelsWithTimestamp: true}, "2024/01/02 03:04:05 [WARN] x", "WARN", "x"},
		{&hclog.StandardLoggerOptions{ForceLevel: hclog.Error}, "[INFO] x", "ERROR", "x"},
		{&hclog.StandardLoggerOptions{ForceLevel: hclog.Error, InferLevels: true}, "x", "ERROR", "x"},
	} {
		l, read := slogBook(t, slog.LevelInfo)
		l.Named("std").StandardLogger(c.opts).Println(c.line)
		expectRecord(t, read(), map[string]any{"level": c.level, "msg": c.text, "logger": "std"})
	}
	l, read := slogBook(t, slog.LevelError)
	if n, err := l.StandardWriter(nil).Write([]byte("below the level")); n != 15 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	expectRecord(t, read(), nil)
}

// slogCounter counts records; it is safe for concurrent use.
type slogCounter struct {
	slog.Handler
	mu sync.Mutex // mu protects n
	n  int
}

func (c *slogCounter) Enabled(context.Context, slog.Level) bool { return true }

func (c *slogCounter) Handle(context.Context, slog.Record) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	return nil
}

func TestSlogLoggerHammer(t *testing.T) {
	count := &slogCounter{}
	l := SlogLogger(slog.New(count))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 100 {
				sub := l.With("i", i).Named("n").With("j", j)
				sub.Info("m", "k", j)
				l.SetLevel(hclog.Trace)
				if sub.GetLevel() != hclog.Trace {
					t.Error("level")
				}
			}
		})
	}
	wg.Wait()
	if count.n != 800 {
		t.Errorf("%d records", count.n)
	}
}
