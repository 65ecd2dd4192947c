package launch

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/go-hclog"

	"github.com/khelp/khelp/shared"
)

// logLines turns lines of output into log records and keeps the tail:
//
//   - stdout is logged at info;
//   - a line of hclog's JSON on stderr keeps its level, message and fields, its time as the field "timestamp";
//   - a line that begins with [TRACE], [DEBUG], [INFO], [WARN], [ERROR] or [ERR], also after the time stamp of package log, keeps its
//     level;
//   - from the first line of a Go panic or fatal error on, lines without a level of their own are errors;
//   - other lines on stderr are logged at info: a helper that writes there has something to say, and it is no error for that.
//
// Lines come cut at maxLine, and are made printable here. One logLines belongs to one stream and one goroutine.
type logLines struct {
	log     hclog.Logger
	tail    *tail
	inPanic bool
}

func newLogLines(log hclog.Logger, t *tail) *logLines { return &logLines{log: log, tail: t} }

func (l *logLines) stdout(line string) {
	l.tail.add(line)
	l.log.Info(shared.Printable(line, 0))
}

func (l *logLines) stderr(line string) {
	l.tail.add(line)
	if level, message, fields, ok := parseHclog(line); ok {
		l.log.Log(level, message, fields...)
		return
	}
	line = shared.Printable(line, 0)
	if level, message, ok := parsePrefix(line); ok {
		l.log.Log(level, message)
		return
	}
	l.inPanic = l.inPanic || startsPanic(line)
	if l.inPanic {
		l.log.Error(line)
		return
	}
	l.log.Info(line)
}

// parseHclog reads a line of hclog's JSON format. Anything else, other people's JSON too, is not ok.
func parseHclog(line string) (level hclog.Level, message string, fields []any, ok bool) {
	if !strings.HasPrefix(line, "{") {
		return 0, "", nil, false
	}
	var record map[string]any
	decoder := json.NewDecoder(strings.NewReader(line))
	decoder.UseNumber() // large integers stay what they are
	if decoder.Decode(&record) != nil || decoder.More() {
		return 0, "", nil, false
	}
	message, isText := record["@message"].(string)
	word, hasLevel := record["@level"].(string)
	level = hclog.LevelFromString(word)
	if !isText || !hasLevel || level == hclog.NoLevel || level == hclog.Off {
		return 0, "", nil, false
	}
	delete(record, "@message")
	delete(record, "@level")
	keys := make([]string, 0, len(record))
	for key := range record {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		fields = append(fields, shared.Printable(strings.TrimPrefix(key, "@"), 0), printableValue(record[key]))
	}
	return level, printableLines(message), fields, true
}

// printableValue makes the texts in a value of JSON printable, however deep they are.
func printableValue(v any) any {
	switch v := v.(type) {
	case string:
		return printableLines(v)
	case []any:
		for i := range v {
			v[i] = printableValue(v[i])
		}
		return v
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, value := range v {
			out[shared.Printable(key, 0)] = printableValue(value)
		}
		return out
	default:
		return v // a number, a bool, null
	}
}

// printableLines is shared.Printable for text that may have several lines: those after the first are marked as hclog marks them, so
// that none can pass for a record of its own.
func printableLines(s string) string {
	lines := strings.Split(strings.TrimSuffix(s, "\n"), "\n")
	for i, line := range lines {
		lines[i] = shared.Printable(line, 0)
	}
	return strings.Join(lines, "\n  | ")
}

// logStamp is the time in front of a line of package log.
var logStamp = regexp.MustCompile(`^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d(\.\d+)? `)

var prefixes = map[string]hclog.Level{
	"TRACE": hclog.Trace,
	"DEBUG": hclog.Debug,
	"INFO":  hclog.Info,
	"WARN":  hclog.Warn,
	"ERROR": hclog.Error,
	"ERR":   hclog.Error,
}

// parsePrefix reads a line such as "[WARN] disk is full". A time stamp in front of it is dropped: the record has its own.
func parsePrefix(line string) (level hclog.Level, message string, ok bool) {
	if line != "" && line[0] >= '0' && line[0] <= '9' {
		line = line[len(logStamp.FindString(line)):]
	}
	if !strings.HasPrefix(line, "[") {
		return 0, "", false
	}
	word, rest, closed := strings.Cut(line[1:], "]")
	level, known := prefixes[word]
	if !closed || !known {
		return 0, "", false
	}
	return level, strings.TrimLeft(rest, " "), true
}

// startsPanic reports the first line of what the Go runtime prints when a program dies.
func startsPanic(line string) bool {
	for _, first := range []string{
		"panic: ", "fatal error: ", "unexpected fault address ", "runtime: goroutine stack exceeds", "SIGQUIT: quit", "SIGABRT: abort",
	} {
		if strings.HasPrefix(line, first) {
			return true
		}
	}
	return false
}
