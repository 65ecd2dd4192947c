package host

import (
	"context"
	"fmt"
	"time"

	"github.com/khelp/khelp/host/internal/feed"
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
	EventRefused    EventType = "refused"  // a request of a helper was not permitted; those of peers are logged only, for anybody could flood the history with them
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

const (
	keptEvents   = 1000 // of History
	queuedEvents = 1000 // of one subscriber, beside the state that it begins with
)

// eventLog is what has happened in a host, for whoever wants to know. It is safe for concurrent use and never waits for a subscriber, so
// it is used with host.mu held: then what a subscriber gets as the present state and what it gets as news fit together.
type eventLog struct{ feed *feed.Feed[Event] }

func newEventLog() *eventLog { return &eventLog{feed.New[Event](keptEvents, queuedEvents)} }

// publish tells what has happened. An event without a time happens now. The message, in which a helper may have had its say, is made
// printable.
func (l *eventLog) publish(e Event) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	e.Message = shared.Printable(e.Message, shared.MaxText)
	l.feed.Publish(e)
}

// subscribe returns a subscription that begins with present, which it takes over. Events are published under the lock that present was
// made under.
func (l *eventLog) subscribe(present []Event) *Subscription {
	return &Subscription{l.feed.Subscribe(present)}
}

// history returns the last events, oldest first.
func (l *eventLog) history() []Event { return l.feed.History() }

// close ends all subscriptions, once what waits for them is read. What is published after it is dropped.
func (l *eventLog) close() { l.feed.Close() }

// Subscription delivers events to one subscriber, who ends it with Close. It is for one goroutine, but for Close.
type Subscription struct{ sub *feed.Subscription[Event] }

// Subscribe returns a subscription that first delivers the present state, as the events that it would have come from (loaded for each
// helper that is active, and so on), and then what happens, with no gap and nothing twice between the two: module_register_callbacks. A
// subscriber that reads too slowly loses the oldest events and is told so by one of type lost; it slows nobody.
func (h *Host) Subscribe() *Subscription {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.events.subscribe(h.presentLocked())
}

// Next waits for the next event. The error is ErrClosed after Close and after the host has ended, or ctx's.
func (s *Subscription) Next(ctx context.Context) (Event, error) {
	e, lost, err := s.sub.Next(ctx)
	if err == nil && lost > 0 {
		return Event{Time: time.Now(), Type: EventLost, Message: lostText(lost, "event")}, nil
	}
	return e, err
}

// lostText says how many things a subscriber has lost.
func lostText(n uint64, what string) string {
	if n == 1 {
		return "1 " + what + " was lost"
	}
	return fmt.Sprintf("%d %ss were lost", n, what)
}

// Close ends the subscription and wakes Next: module_unregister_callbacks. It is idempotent and safe for concurrent use.
func (s *Subscription) Close() { s.sub.Close() }

// History returns the last events, oldest first, also after the host has ended. The caller owns the slice.
func (h *Host) History() []Event { return h.events.history() }

// loadedEventLocked tells of a helper that is active.
func (hp *helper) loadedEventLocked() Event {
	e := Event{Time: hp.loadedAt, Type: EventLoaded, Helper: hp.name, Message: "version " + hp.face.Load().info.Version}
	if in := hp.inst.Load(); in != nil {
		e.Incarnation = in.number
	}
	return e
}

// presentLocked returns the events that tell how the helpers came to be as they are. One that is about to leave, or to be replaced, is
// there as long as no event has said otherwise.
func (h *Host) presentLocked() []Event {
	var present []Event
	for _, hp := range h.helpers {
		switch {
		case hp.bound:
			present = append(present, hp.loadedEventLocked())
			if in := hp.inst.Load(); in != nil && (hp.state == shared.StateFailed || hp.state == shared.StateRestarting) {
				present = append(present, hp.failedEventLocked(in))
			}
			if hp.down {
				present = append(present, hp.failedBuiltinLocked())
			}
		case hp.state == shared.StatePrimed:
			present = append(present, hp.primedEventLocked())
		case hp.state == shared.StateDisabled:
			present = append(present, hp.disabledEventLocked())
		}
	}
	return present
}

func (hp *helper) failedEventLocked(in *instance) Event {
	return Event{Time: hp.changedAt, Type: EventFailed, Helper: hp.name, Incarnation: in.number, Cause: shared.CauseCrash, Message: hp.lastErr}
}

func (hp *helper) primedEventLocked() Event {
	return Event{Time: hp.changedAt, Type: EventPrimed, Helper: hp.name, Message: "version " + hp.face.Load().info.Version}
}

func (hp *helper) failedBuiltinLocked() Event {
	return Event{Time: hp.changedAt, Type: EventFailed, Helper: hp.name, Cause: shared.CauseCrash, Message: hp.lastErr}
}

func (hp *helper) disabledEventLocked() Event {
	return Event{Time: hp.changedAt, Type: EventDisabled, Helper: hp.name}
}
