package host

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/khelp/khelp/shared"
)

func nextEvent(t *testing.T, s *Subscription) Event {
	t.Helper()
	e, err := s.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestL19_ThePresentThenWhatHappens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newEventLog()
		then := time.Now().Add(-time.Hour)
		l.publish(Event{Type: EventLoaded, Helper: "gone", Time: then})
		s := l.subscribe([]Event{{Type: EventLoaded, Helper: "ertt", Time: then}})
		l.publish(Event{Type: EventFailed, Helper: "ertt", Incarnation: 1, Cause: shared.CauseCrash, Message: "exit\nstatus \x1b[2J"})
		if got, want := nextEvent(t, s), (Event{Type: EventLoaded, Helper: "ertt", Time: then}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		want := Event{
			Time: time.Now(), Type: EventFailed, Helper: "ertt", Incarnation: 1, Cause: shared.CauseCrash, Message: `exit\nstatus \x1b[2J`,
		}
		if got := nextEvent(t, s); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		if got := l.history(); len(got) != 2 || got[0].Helper != "gone" || got[1] != want {
			t.Errorf("history %+v", got)
		}
		go func() {
			synctest.Wait()
			l.publish(Event{Type: EventUnloaded, Helper: "ertt"})
			l.close()
			l.publish(Event{Type: EventLoaded, Helper: "too late"})
		}()
		if got := nextEvent(t, s); got.Type != EventUnloaded {
			t.Errorf("%+v", got)
		}
		if e, err := s.Next(t.Context()); !errors.Is(err, shared.ErrClosed) {
			t.Errorf("%+v, %v; want ErrClosed", e, err)
		}
		s.Close()
		synctest.Wait() // until the last has been published, which comes too late
		if got := l.history(); len(got) != 3 {
			t.Errorf("history %+v", got)
		}
	})
}

func TestL19_ASlowSubscriberIsTold(t *testing.T) {
	l := newEventLog()
	s := l.subscribe([]Event{{Type: EventLoaded}})
	defer s.Close()
	for i := range queuedEvents + 1 {
		l.publish(Event{Type: EventLoaded, Object: uint64(i)})
	}
	nextEvent(t, s)
	if got := nextEvent(t, s); got.Type != EventLost || got.Message != "1 event was lost" || got.Time.IsZero() {
		t.Errorf("%+v", got)
	}
	if got := nextEvent(t, s); got.Object != 1 {
		t.Errorf("%+v behind the one that was lost", got)
	}
	for range queuedEvents {
		l.publish(Event{Type: EventLoaded})
	}
	if got := nextEvent(t, s); got.Type != EventLost || got.Message != fmt.Sprintf("%d events were lost", queuedEvents-1) {
		t.Errorf("%+v", got)
	}
	if got := l.history(); len(got) != keptEvents {
		t.Errorf("%d events are kept", len(got))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	other := l.subscribe(nil)
	defer other.Close()
	if _, err := other.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Next = %v, want ctx's error", err)
	}
}

func TestL19_SubscribeTellsOfActiveHelpers(t *testing.T) {
	h, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	hook := func(context.Context, *BuiltinCall) error { return nil }
	if err := h.AddBuiltin(Builtin{Name: "clock", Version: "1.0.0", Hooks: map[shared.HookPoint]BuiltinHook{"a.b": hook}}); err != nil {
		t.Fatal(err)
	}
	s := h.Subscribe()
	defer s.Close()
	if got := nextEvent(t, s); got.Type != EventLoaded || got.Helper != "clock" {
		t.Errorf("%+v, want that clock is loaded", got)
	}
}

// Subscribers come while helpers come and go. Invariant: whoever plays what it gets has, after each event, a set of loaded helpers that
// the event fits: nobody is loaded twice, and nobody leaves who is not there; and in the end it has the set that there is.
func TestL19_NoGapAndNothingTwice(t *testing.T) {
	const publishers, rounds, subscribers = 4, 300, 8
	l := newEventLog()
	var mu sync.Mutex // host.mu's part
	loaded := map[string]bool{}
	present := func() []Event {
		var events []Event
		for name := range loaded {
			events = append(events, Event{Type: EventLoaded, Helper: name})
		}
		return events
	}
	var reading, publishing sync.WaitGroup
	for i := range publishers {
		name := fmt.Sprintf("helper%d", i)
		publishing.Go(func() {
			for range rounds {
				mu.Lock()
				e := Event{Type: EventLoaded, Helper: name}
				if loaded[name] {
					e.Type = EventUnloaded
					delete(loaded, name)
				} else {
					loaded[name] = true
				}
				l.publish(e)
				mu.Unlock()
			}
		})
	}
	for range subscribers {
		reading.Go(func() {
			mu.Lock()
			s := l.subscribe(present())
			mu.Unlock()
			defer s.Close()
			there := map[string]bool{}
			for e, err := s.Next(t.Context()); err == nil; e, err = s.Next(t.Context()) {
				if e.Type == EventLost {
					return // there is no telling any more
				}
				if there[e.Helper] == (e.Type == EventLoaded) {
					t.Errorf("%s %s, but loaded is %v", e.Helper, e.Type, there[e.Helper])
					return
				}
				there[e.Helper] = e.Type == EventLoaded
			}
			for i := range publishers { // all that was published was read
				if name := fmt.Sprintf("helper%d", i); there[name] != loaded[name] {
					t.Errorf("%s: loaded is %v in the end, heard %v", name, loaded[name], there[name])
				}
			}
		})
	}
	publishing.Wait()
	l.close()
	reading.Wait()
}
