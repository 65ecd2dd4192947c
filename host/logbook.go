package host

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/khelp/khelp/host/internal/feed"
	"github.com/khelp/khelp/shared"
)

// LogRecord is one line that a helper has written, or that the host has logged of it.
type LogRecord struct {
	Time    time.Time
	Level   string // trace debug info warn error
	Message string // with its fields, as key=value
}

const (
	keptRecords   = 1000 // of one helper
	queuedRecords = 1000 // of one subscription
	keptPages     = 256  // names whose records are kept
)

// logbook keeps the last records of each helper's log, under its name, whether or not it is loaded. It is filled by the loggers that it
// makes. It is safe for concurrent use and never waits for a subscriber.
type logbook struct {
	mu     sync.Mutex // protects the following fields
	pages  map[string]*page
	writes uint64
	closed bool
}

// page is what one helper has logged.
type page struct {
	records *feed.Feed[LogRecord]
	written uint64 // logbook.writes as of the last record
}

func newLogbook() *logbook { return &logbook{pages: map[string]*page{}} }

// add keeps one record. Its message, in which a helper may have had its say, is made printable.
func (b *logbook) add(helper string, level hclog.Level, message string) {
	if level == hclog.NoLevel {
		level = hclog.Info
	}
	r := LogRecord{Level: level.String(), Message: shared.Printable(message, shared.MaxText)}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	p := b.pages[helper]
	if p == nil {
		b.makeRoomLocked()
		p = &page{records: feed.New[LogRecord](keptRecords, queuedRecords)}
		b.pages[helper] = p
	}
	b.writes++
	p.written = b.writes
	r.Time = time.Now() // here, so that records stand in the order of their times
	p.records.Publish(r)
}

// makeRoomLocked drops the page that was written to least recently if there are enough. Pages that somebody reads stay, for as long as
// that.
func (b *logbook) makeRoomLocked() {
	if len(b.pages) < keptPages {
		return
	}
	oldest := ""
	for name, p := range b.pages {
		if (oldest == "" || p.written < b.pages[oldest].written) && !p.records.Followed() {
			oldest = name
		}
	}
	delete(b.pages, oldest)
}

// follow returns the last records of a helper and a subscription to what comes.
func (b *logbook) follow(name string) ([]LogRecord, *LogSubscription, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.pages[name]
	if p == nil {
		return nil, nil, shared.ErrNotExist.Errorf("no helper %q has logged anything%s", name,
			shared.DidYouMean(name, slices.Collect(maps.Keys(b.pages))))
	}
	last, sub := p.records.Follow()
	return last, &LogSubscription{sub}, nil
}

// close ends all subscriptions, once what waits for them is read. What is logged after it is not kept; what was can still be read.
func (b *logbook) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	for _, p := range b.pages {
		p.records.Close()
	}
}

// LogSubscription delivers the records of one helper. It is for one goroutine, but for Close.
type LogSubscription struct{ sub *feed.Subscription[LogRecord] }

// Logs returns the last records of a helper's log, also of one that has been unloaded or failed to load, and, with Next, what comes. A name
// that has never logged is ErrNotExist. The caller owns the records, and ends the subscription with its Close.
//
// Kept is what Config.Logger logs, and what is info or worse whatever its level: the last 1000 records of each of the last 256 helpers
// that have logged something. A subscriber that reads too slowly loses the oldest and gets a record, of level warn, that says how many.
func (h *Host) Logs(name string) ([]LogRecord, *LogSubscription, error) {
	return h.logs.follow(name)
}

// Next waits for the next record, as Subscription.Next does.
func (s *LogSubscription) Next(ctx context.Context) (LogRecord, error) {
	r, lost, err := s.sub.Next(ctx)
	if err == nil && lost > 0 {
		return LogRecord{Time: time.Now(), Level: hclog.Warn.String(), Message: lostText(lost, "record")}, nil
	}
	return r, err
}

// Close ends the subscription and wakes Next. It is idempotent and safe for concurrent use.
func (s *LogSubscription) Close() { s.sub.Close() }
