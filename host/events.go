package host

import (
	"context"
	"time"

	"github.com/khelp/khelp/shared"
)

// EventType says what has happened.
type EventType string

// The types of events.
const (
	EventPrimed     EventType = "primed"      // launched and described, not initialised
	EventLoaded     EventType = "loaded"      // active
	EventLoadFailed EventType = "load_failed" // a load that an operator, or the start, asked for came to nothing
	EventUnloaded   EventType = "unloaded"
	EventDisabled   EventType = "disabled" // a builtin was taken out
	EventFailed     EventType = "failed"   // an active helper has died
	EventReplaced   EventType = "replaced" // another incarnation has taken over
	EventRefused    EventType = "refused"  // a request of a helper, or of a peer, was not permitted
	EventLeaked     EventType = "leaked"   // a head was left in a vnet that was closed
	EventLost       EventType = "lost"     // the subscriber was too slow; the message says how many it has missed
)

// Event is one thing that happened in a host.
type Event struct {
	Time        time.Time
	Type        EventType
	Helper      string
	Incarnation uint32
	Point       shared.HookPoint
	Object      uint64
	Cause       shared.Cause
	Message     string
}

// Subscription delivers events to one subscriber, who ends it with Close. It is for one goroutine, but for Close.
type Subscription struct{}

// Subscribe returns a subscription that first delivers the present state, a loaded event for each helper that is active, and then what
// happens, with no gap and nothing twice between the two: module_register_callbacks. A subscriber that reads too slowly loses the oldest
// events and is told so by one of type lost; it slows nobody.
func (h *Host) Subscribe() *Subscription { panic("unwritten") }

// Next waits for the next event. The error is ErrClosed after Close and after the host has ended, or ctx's.
func (s *Subscription) Next(ctx context.Context) (Event, error) { panic("unwritten") }

// Close ends the subscription and wakes Next. It is idempotent and safe for concurrent use.
func (s *Subscription) Close() { panic("unwritten") }

// History returns the last events, oldest first.
func (h *Host) History() []Event { panic("unwritten") }
