package host

import (
	"context"
	"time"
)

// LogRecord is one line that a helper has written, or that the host has logged of it.
type LogRecord struct {
	Time    time.Time
	Level   string // trace debug info warn error
	Message string // with its fields, as key=value
}

// LogSubscription delivers the records of one helper. It is for one goroutine, but for Close.
type LogSubscription struct{}

// Logs returns the last records of a helper's log, also of one that has been unloaded or failed to load, and, with Next, what comes. A name
// that has never logged is ErrNotExist.
func (h *Host) Logs(name string) ([]LogRecord, *LogSubscription, error) { panic("unwritten") }

// Next waits for the next record, as Subscription.Next does.
func (s *LogSubscription) Next(ctx context.Context) (LogRecord, error) { panic("unwritten") }

// Close ends the subscription and wakes Next. It is idempotent and safe for concurrent use.
func (s *LogSubscription) Close() { panic("unwritten") }
