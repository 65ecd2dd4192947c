package launch

import (
	"bytes"
	"fmt"
	"sync"

	"github.com/khelp/khelp/shared"
)

const (
	// maxLine is where a line of output is cut. Reading goes on, the rest of the line is dropped.
	maxLine = 64 << 10
	// tailLines is how many lines of output are kept, each made printable and cut at maxTailLine.
	tailLines   = 200
	maxTailLine = 4 << 10
)

// cutMark ends a line that was cut.
var cutMark = fmt.Sprintf(" [cut: longer than %d bytes]", maxLine)

// lineWriter splits a stream into lines and calls emit for each, without its end. It keeps at most maxLine bytes. It is used by one
// goroutine.
type lineWriter struct {
	emit     func(string)
	line     []byte
	dropping bool // the line was cut and emitted; what follows until its end is dropped
}

func (w *lineWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		part, rest, ended := bytes.Cut(p, []byte{'\n'})
		w.add(part)
		if ended {
			w.endLine()
		}
		p = rest
	}
	return n, nil
}

func (w *lineWriter) add(part []byte) {
	if w.dropping {
		return
	}
	room := maxLine - len(w.line)
	if len(part) <= room {
		w.line = append(w.line, part...)
		return
	}
	w.line = append(w.line, part[:room]...)
	w.emit(string(w.line) + cutMark)
	w.line, w.dropping = nil, true
}

func (w *lineWriter) endLine() {
	if !w.dropping {
		w.emit(string(bytes.TrimSuffix(w.line, []byte{'\r'})))
	}
	w.line, w.dropping = w.line[:0], false
}

// flush emits a last line that has no end.
func (w *lineWriter) flush() {
	if len(w.line) > 0 {
		w.endLine()
	}
}

// tail keeps the last lines of a helper's output, stdout and stderr together, in the order they were read.
type tail struct {
	mu   sync.Mutex // mu protects the following fields
	ring [tailLines]string
	n    int // lines ever added
}

func (t *tail) add(line string) {
	line = shared.Printable(line, maxTailLine)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ring[t.n%tailLines] = line
	t.n++
}

// lines returns what is kept, oldest first. The caller owns the slice.
func (t *tail) lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	kept := min(t.n, tailLines)
	out := make([]string, 0, kept)
	for i := t.n - kept; i < t.n; i++ {
		out = append(out, t.ring[i%tailLines])
	}
	return out
}
