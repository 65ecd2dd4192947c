package launch

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"
)

// record is one line of the host's log.
type record struct {
	Level, Message, Module string
	Fields                 map[string]any
}

// logBook is a logger that can be read.
type logBook struct {
	hclog.Logger
	mu  sync.Mutex // mu protects buf
	buf bytes.Buffer
}

func newLogBook() *logBook {
	b := &logBook{}
	b.Logger = hclog.New(&hclog.LoggerOptions{Output: b, JSONFormat: true, Level: hclog.Trace})
	return b
}

func (b *logBook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// records returns what was logged so far.
func (b *logBook) records(t *testing.T) []record {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []record
	for _, line := range strings.Split(strings.TrimSpace(b.buf.String()), "\n") {
		if line == "" {
			continue
		}
		fields := map[string]any{}
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("log line %q: %v", line, err)
		}
		r := record{Fields: fields}
		r.Level, _ = fields["@level"].(string)
		r.Message, _ = fields["@message"].(string)
		r.Module, _ = fields["@module"].(string)
		out = append(out, r)
	}
	return out
}
