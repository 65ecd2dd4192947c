package host

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
)

// LevelTrace is the slog level of hclog's Trace, which slog has no name for: as far below Debug as Debug is below Info.
const LevelTrace = slog.LevelDebug - 4

// nameKey is the attribute that carries a logger's name; helpers' output is found by it.
const nameKey = "logger"

// SlogLogger returns a logger for Config.Logger that writes to l, for programs that log with log/slog. It panics if l is nil.
//
// Levels map by name, trace to LevelTrace; a name becomes the attribute "logger". Which levels are enabled is what l's handler says;
// SetLevel can only narrow it, for the logger and all that were derived from the same SlogLogger call. The source of a record is the
// caller of the hclog method. The logger is safe for concurrent use by multiple goroutines if l's handler is.
func SlogLogger(l *slog.Logger) hclog.Logger {
	return &slogLogger{handler: l.Handler(), floor: new(atomic.Int32)}
}

// slogLogger is immutable but for floor, which it shares with its relatives.
type slogLogger struct {
	handler slog.Handler
	name    string
	implied []any         // alternating keys and values, keys unique
	attrs   []slog.Attr   // the same as attributes
	floor   *atomic.Int32 // an hclog.Level; NoLevel leaves it to the handler
}

var _ hclog.Logger = (*slogLogger)(nil)

func slogLevel(level hclog.Level) slog.Level {
	switch level {
	case hclog.Trace:
		return LevelTrace
	case hclog.Debug:
		return slog.LevelDebug
	case hclog.Warn:
		return slog.LevelWarn
	case hclog.Error:
		return slog.LevelError
	default: // hclog logs NoLevel always and marks it with nothing
		return slog.LevelInfo
	}
}

func (s *slogLogger) enabled(level hclog.Level) bool {
	if floor := hclog.Level(s.floor.Load()); floor != hclog.NoLevel && (level < floor || floor == hclog.Off) {
		return false
	}
	return level != hclog.Off && s.handler.Enabled(context.Background(), slogLevel(level))
}

// log writes one record. It is called by exported methods directly, so that the third frame is their caller.
func (s *slogLogger) log(level hclog.Level, msg string, args []any) {
	if !s.enabled(level) {
		return
	}
	var pcs [1]uintptr
	runtime.Callers(3, pcs[:])
	s.write(level, msg, args, pcs[0])
}

func (s *slogLogger) write(level hclog.Level, msg string, args []any, pc uintptr) {
	record := slog.NewRecord(time.Now(), slogLevel(level), msg, pc)
	if s.name != "" {
		record.AddAttrs(slog.String(nameKey, s.name))
	}
	record.AddAttrs(s.attrs...)
	record.AddAttrs(logAttrs(args)...)
	_ = s.handler.Handle(context.Background(), record)
}

func (s *slogLogger) Log(level hclog.Level, msg string, args ...any) { s.log(level, msg, args) }
func (s *slogLogger) Trace(msg string, args ...any)                  { s.log(hclog.Trace, msg, args) }
func (s *slogLogger) Debug(msg string, args ...any)                  { s.log(hclog.Debug, msg, args) }
func (s *slogLogger) Info(msg string, args ...any)                   { s.log(hclog.Info, msg, args) }
func (s *slogLogger) Warn(msg string, args ...any)                   { s.log(hclog.Warn, msg, args) }
func (s *slogLogger) Error(msg string, args ...any)                  { s.log(hclog.Error, msg, args) }

func (s *slogLogger) IsTrace() bool { return s.enabled(hclog.Trace) }
func (s *slogLogger) IsDebug() bool { return s.enabled(hclog.Debug) }
func (s *slogLogger) IsInfo() bool  { return s.enabled(hclog.Info) }
func (s *slogLogger) IsWarn() bool  { return s.enabled(hclog.Warn) }
func (s *slogLogger) IsError() bool { return s.enabled(hclog.Error) }

func (s *slogLogger) ImpliedArgs() []any { return slices.Clone(s.implied) }
func (s *slogLogger) Name() string       { return s.name }

// With returns a logger that adds args to each record. A key given again replaces the earlier value, as in hclog.
func (s *slogLogger) With(args ...any) hclog.Logger {
	derived := *s
	derived.implied = slices.Clone(s.implied)
	args = logPairs(args)
	for i := 0; i < len(args); i += 2 {
		derived.set(args[i], args[i+1])
	}
	derived.attrs = logAttrs(derived.implied)
	return &derived
}

func (s *slogLogger) set(key, value any) {
	for i := 0; i < len(s.implied); i += 2 {
		if s.implied[i] == key {
			s.implied[i+1] = value
			return
		}
	}
	s.implied = append(s.implied, key, value)
}

func (s *slogLogger) Named(name string) hclog.Logger {
	if s.name != "" {
		name = s.name + "." + name
	}
	return s.ResetNamed(name)
}

func (s *slogLogger) ResetNamed(name string) hclog.Logger {
	derived := *s
	derived.name = name
	return &derived
}

func (s *slogLogger) SetLevel(level hclog.Level) { s.floor.Store(int32(level)) }

// GetLevel returns the lowest level that is enabled, Off if none is.
func (s *slogLogger) GetLevel() hclog.Level {
	for level := hclog.Trace; level < hclog.Off; level++ {
		if s.enabled(level) {
			return level
		}
	}
	return hclog.Off
}

func (s *slogLogger) StandardLogger(opts *hclog.StandardLoggerOptions) *log.Logger {
	return log.New(s.StandardWriter(opts), "", 0)
}

func (s *slogLogger) StandardWriter(opts *hclog.StandardLoggerOptions) io.Writer {
	if opts == nil {
		opts = &hclog.StandardLoggerOptions{}
	}
	return &slogWriter{logger: s, opts: *opts}
}

// logPairs makes keys strings and the count even, as hclog does: a lone last value gets hclog's own key.
func logPairs(args []any) []any {
	var stack []any
	if n := len(args); n > 0 {
		if trace, ok := args[n-1].(hclog.CapturedStacktrace); ok {
			args, stack = args[:n-1], []any{"stacktrace", string(trace)}
		}
	}
	out := slices.Concat(args, stack)
	if len(args)%2 != 0 {
		out = slices.Insert(out, len(args)-1, any(hclog.MissingKey))
	}
	for i := 0; i < len(out); i += 2 {
		if _, isText := out[i].(string); !isText {
			out[i] = fmt.Sprint(out[i])
		}
	}
	return out
}

func logAttrs(args []any) []slog.Attr {
	if len(args) == 0 {
		return nil
	}
	args = logPairs(args)
	out := make([]slog.Attr, 0, len(args)/2)
	for i := 0; i < len(args); i += 2 {
		key, _ := args[i].(string)
		out = append(out, slog.Any(key, logValue(args[i+1])))
	}
	return out
}

// logValue writes out the types by which hclog's callers choose a format.
func logValue(v any) any {
	switch v := v.(type) {
	case hclog.Format:
		if format, ok := firstOf(v).(string); ok {
			return fmt.Sprintf(format, v[1:]...)
		}
	case hclog.Hex:
		return fmt.Sprintf("0x%x", int(v))
	case hclog.Octal:
		return fmt.Sprintf("0%o", int(v))
	case hclog.Binary:
		return fmt.Sprintf("0b%b", int(v))
	case hclog.Quote:
		return fmt.Sprintf("%q", string(v))
	}
	return v
}

func firstOf(f hclog.Format) any {
	if len(f) == 0 {
		return nil
	}
	return f[0]
}

// slogWriter makes one record of each Write, as package log writes them.
type slogWriter struct {
	logger *slogLogger
	opts   hclog.StandardLoggerOptions
}

func (w *slogWriter) Write(p []byte) (int, error) {
	level, text := standardRecord(&w.opts, p)
	if w.logger.enabled(level) {
		w.logger.write(level, text, nil, 0) // the caller is package log, which helps nobody
	}
	return len(p), nil
}

// standardRecord returns what package log has written as the level and the message of a record.
func standardRecord(opts *hclog.StandardLoggerOptions, p []byte) (hclog.Level, string) {
	text := strings.TrimRight(string(p), " \t\r\n")
	level, rest := levelPrefix(text, opts.InferLevels && opts.InferLevelsWithTimestamp)
	switch {
	case opts.ForceLevel != hclog.NoLevel:
		return opts.ForceLevel, rest
	case opts.InferLevels && level != hclog.NoLevel:
		return level, rest
	default:
		return hclog.Info, text
	}
}

// levelPrefix finds "[WARN] " at the start of a line, or behind a time stamp if stamped, and returns the level and the line without it.
func levelPrefix(line string, stamped bool) (hclog.Level, string) {
	rest := line
	if stamped {
		rest = strings.TrimLeft(rest, "0123456789:./-TZ \t")
	}
	word, after, closed := strings.Cut(rest, "]")
	if !closed || !strings.HasPrefix(word, "[") {
		return hclog.NoLevel, line
	}
	switch word[1:] {
	case "TRACE", "DEBUG", "INFO", "WARN", "ERROR":
		return hclog.LevelFromString(word[1:]), strings.TrimSpace(after)
	case "ERR":
		return hclog.Error, strings.TrimSpace(after)
	}
	return hclog.NoLevel, line
}
