package host

import (
	"fmt"
	"io"
	"log"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/go-hclog"
)

// hostLogger returns a logger that writes to base, and of which Named gives the logger of the helper with that name.
func (b *logbook) hostLogger(base hclog.Logger) hclog.Logger { return hostLogger{base, b} }

type hostLogger struct {
	hclog.Logger
	book *logbook
}

func (l hostLogger) With(args ...any) hclog.Logger    { return hostLogger{l.Logger.With(args...), l.book} }
func (l hostLogger) Named(helper string) hclog.Logger { return l.book.logger(l.Logger, helper) }
func (l hostLogger) ResetNamed(name string) hclog.Logger {
	return hostLogger{l.Logger.ResetNamed(name), l.book}
}

// logger returns a logger that writes to base.Named(helper) and to the helper's page of the book. The book keeps what base logs, and
// what is info or worse even if base is quieter; these levels are enabled as the logger tells, so that a helper is not asked to be
// quieter than that.
//
// In the record of a logger derived by Named the further names stand before the message. The source of a record is right with a base
// that SlogLogger made; one of hclog with IncludeLocation needs an AdditionalLocationOffset of 2.
func (b *logbook) logger(base hclog.Logger, helper string) hclog.Logger {
	return &bookLogger{base: base.Named(helper), book: b, helper: helper, implied: base.ImpliedArgs()}
}

// bookLogger is immutable.
type bookLogger struct {
	base    hclog.Logger
	book    *logbook
	helper  string
	scope   string // further names
	implied []any  // alternating keys and values, keys unique
}

var _ hclog.Logger = (*bookLogger)(nil)

// enabled reports whether the book keeps a level.
func (l *bookLogger) enabled(level hclog.Level) bool {
	switch level {
	case hclog.Trace:
		return l.base.IsTrace()
	case hclog.Debug:
		return l.base.IsDebug()
	default:
		return level != hclog.Off
	}
}

// log writes one record. It is called by exported methods directly, so that the third frame is their caller.
func (l *bookLogger) log(level hclog.Level, msg string, args []any) {
	if s, isSlog := l.base.(*slogLogger); !isSlog {
		l.base.Log(level, msg, args...)
	} else if s.enabled(level) {
		var pcs [1]uintptr
		runtime.Callers(3, pcs[:])
		s.write(level, msg, args, pcs[0])
	}
	if l.enabled(level) {
		l.book.add(l.helper, level, bookText(l.scope, msg, l.implied, args))
	}
}

func (l *bookLogger) Log(level hclog.Level, msg string, args ...any) { l.log(level, msg, args) }
func (l *bookLogger) Trace(msg string, args ...any)                  { l.log(hclog.Trace, msg, args) }
func (l *bookLogger) Debug(msg string, args ...any)                  { l.log(hclog.Debug, msg, args) }
func (l *bookLogger) Info(msg string, args ...any)                   { l.log(hclog.Info, msg, args) }
func (l *bookLogger) Warn(msg string, args ...any)                   { l.log(hclog.Warn, msg, args) }
func (l *bookLogger) Error(msg string, args ...any)                  { l.log(hclog.Error, msg, args) }

func (l *bookLogger) IsTrace() bool { return l.enabled(hclog.Trace) }
func (l *bookLogger) IsDebug() bool { return l.enabled(hclog.Debug) }
func (l *bookLogger) IsInfo() bool  { return true }
func (l *bookLogger) IsWarn() bool  { return true }
func (l *bookLogger) IsError() bool { return true }

// GetLevel returns the lowest level that somebody keeps.
func (l *bookLogger) GetLevel() hclog.Level {
	if level := l.base.GetLevel(); level != hclog.NoLevel { // which is what a logger that discards all says
		return min(level, hclog.Info)
	}
	return hclog.Info
}

// SetLevel sets base's level.
func (l *bookLogger) SetLevel(level hclog.Level) { l.base.SetLevel(level) }

func (l *bookLogger) ImpliedArgs() []any { return slices.Clone(l.implied) }
func (l *bookLogger) Name() string       { return l.base.Name() }

// With returns a logger that adds args to each record. A key given again replaces the earlier value, as in hclog.
func (l *bookLogger) With(args ...any) hclog.Logger {
	derived := *l
	derived.base = l.base.With(args...)
	derived.implied = slices.Clone(l.implied)
	args = logPairs(args)
	for i := 0; i < len(args); i += 2 {
		at := slices.Index(keysOf(derived.implied), args[i])
		if at < 0 {
			derived.implied = append(derived.implied, args[i], args[i+1])
		} else {
			derived.implied[2*at+1] = args[i+1]
		}
	}
	return &derived
}

// keysOf returns the keys among alternating keys and values.
func keysOf(pairs []any) []any {
	keys := make([]any, 0, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		keys = append(keys, pairs[i])
	}
	return keys
}

func (l *bookLogger) Named(name string) hclog.Logger {
	derived := *l
	derived.base, derived.scope = l.base.Named(name), name
	if l.scope != "" {
		derived.scope = l.scope + "." + name
	}
	return &derived
}

// ResetNamed changes the name in base's records; it stays the helper's logger.
func (l *bookLogger) ResetNamed(name string) hclog.Logger {
	derived := *l
	derived.base, derived.scope = l.base.ResetNamed(name), name
	return &derived
}

func (l *bookLogger) StandardLogger(opts *hclog.StandardLoggerOptions) *log.Logger {
	return log.New(l.StandardWriter(opts), "", 0)
}

func (l *bookLogger) StandardWriter(opts *hclog.StandardLoggerOptions) io.Writer {
	if opts == nil {
		opts = &hclog.StandardLoggerOptions{}
	}
	return &bookWriter{l, l.base.StandardWriter(opts), *opts}
}

// bookWriter makes one record of each Write, as package log writes them.
type bookWriter struct {
	logger *bookLogger
	base   io.Writer
	opts   hclog.StandardLoggerOptions
}

func (w *bookWriter) Write(p []byte) (int, error) {
	level, text := standardRecord(&w.opts, p)
	if l := w.logger; l.enabled(level) {
		l.book.add(l.helper, level, bookText(l.scope, text, l.implied, nil))
	}
	return w.base.Write(p)
}

// bookText renders a record in one line: the message, and its fields as key=value.
func bookText(scope, msg string, implied, args []any) string {
	var b strings.Builder
	if scope != "" {
		b.WriteString(scope + ": ")
	}
	b.WriteString(msg)
	for _, fields := range [][]any{implied, args} {
		if len(fields) == 0 {
			continue
		}
		fields = logPairs(fields)
		for i := 0; i < len(fields); i += 2 {
			fmt.Fprintf(&b, " %s=%s", fields[i], bookValue(fields[i+1]))
		}
	}
	return b.String()
}

// bookValue renders a field's value, quoted if it could be taken for something else.
func bookValue(v any) string {
	text := fmt.Sprint(logValue(v))
	plain := func(r rune) bool {
		return r != '"' && r != '=' && r != utf8.RuneError && unicode.IsGraphic(r) && !unicode.IsSpace(r)
	}
	if text != "" && strings.IndexFunc(text, func(r rune) bool { return !plain(r) }) < 0 {
		return text
	}
	return strconv.Quote(text)
}
