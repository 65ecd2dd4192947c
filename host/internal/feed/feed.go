// Package feed hands what happens in one place to any number of readers, none of whom can slow it down: a reader that is too slow loses
// the oldest of what waits for it, and is told how much.
package feed

import (
	"context"
	"slices"
	"sync"

	"github.com/khelp/khelp/shared"
)

// Feed passes on values in the order in which they are published, and keeps the last ones. Make it with New. It is safe for concurrent
// use and has no goroutines; Publish, History and Subscribe never wait for a reader, so they may be called with other locks held.
type Feed[T any] struct {
	queue int // of each subscription

	mu     sync.Mutex // protects the following fields, and those of subscriptions that say so
	last   ring[T]
	subs   []*Subscription[T]
	closed bool
}

// New returns a feed that keeps the last keep values, and up to queue values that a subscriber has not read yet. Both are at least 1.
func New[T any](keep, queue int) *Feed[T] {
	if keep < 1 || queue < 1 {
		panic("feed: keep and queue must be positive")
	}
	return &Feed[T]{queue: queue, last: ring[T]{max: keep}}
}

// Publish passes a value on. After Close it does nothing.
func (f *Feed[T]) Publish(v T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	f.last.push(v)
	for _, s := range f.subs {
		if s.live.push(v) {
			s.lost++
		}
		s.wakeUp()
	}
}

// History returns the last values, oldest first, after Close too. The caller owns the slice.
func (f *Feed[T]) History() []T {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last.values()
}

// Subscribe returns a subscription to replay and then to what is published from now on. A caller that publishes under a lock of its own,
// and under that same lock makes a replay of the state that it tells of, leaves no gap between the two, and nothing comes twice. The
// subscription takes replay over, however long it is. The caller ends the subscription with its Close.
func (f *Feed[T]) Subscribe(replay []T) *Subscription[T] {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.subscribeLocked(replay)
}

// Follow returns the last values and a subscription to those after them, with no gap and nothing twice between the two.
func (f *Feed[T]) Follow() ([]T, *Subscription[T]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last.values(), f.subscribeLocked(nil)
}

func (f *Feed[T]) subscribeLocked(replay []T) *Subscription[T] {
	s := &Subscription[T]{feed: f, wake: make(chan struct{}, 1), replay: replay, live: ring[T]{max: f.queue}}
	if !f.closed {
		f.subs = append(f.subs, s)
	}
	return s
}

// Followed reports whether anybody subscribes to the feed.
func (f *Feed[T]) Followed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.subs) > 0
}

// Close ends the feed. Subscribers still read what waits for them, and then ErrClosed. It is idempotent.
func (f *Feed[T]) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for _, s := range f.subs {
		s.wakeUp()
	}
	f.subs = nil
}

// Subscription reads a feed. It is for one goroutine, but for Close.
type Subscription[T any] struct {
	feed *Feed[T]
	wake chan struct{} // has a token when there may be something new for Next

	// The following are protected by feed.mu.
	replay []T // comes before live
	live   ring[T]
	lost   uint64 // values that were dropped from the front of live, and Next has not told of
	closed bool
}

// Next waits for the next value. Where values were dropped because the queue was full, it returns how many, once and without a value,
// before it goes on with those behind them. What waits already is returned even if ctx has ended.
//
// The error is ErrClosed after Close, and when the feed was closed and all is read; or ctx's.
func (s *Subscription[T]) Next(ctx context.Context) (v T, lost uint64, err error) {
	for {
		v, lost, ok, err := s.take()
		if ok || err != nil {
			return v, lost, err
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return v, 0, ctx.Err()
		}
	}
}

// take returns what Next waits for, if it is there.
func (s *Subscription[T]) take() (v T, lost uint64, ok bool, err error) {
	f := s.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case s.closed:
		return v, 0, false, shared.ErrClosed.Errorf("the subscription is closed")
	case len(s.replay) > 0:
		v = s.replay[0]
		if s.replay = s.replay[1:]; len(s.replay) == 0 {
			s.replay = nil
		}
		return v, 0, true, nil
	case s.lost > 0:
		lost, s.lost = s.lost, 0
		return v, lost, true, nil
	case s.live.n > 0:
		return s.live.pop(), 0, true, nil
	case f.closed:
		return v, 0, false, shared.ErrClosed.Errorf("the feed has ended")
	default:
		return v, 0, false, nil
	}
}

// wakeUp has Next look again. It never waits: one token is enough.
func (s *Subscription[T]) wakeUp() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Close ends the subscription, drops what was not read and wakes Next. It is idempotent and safe for concurrent use.
func (s *Subscription[T]) Close() {
	f := s.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	s.replay, s.live = nil, ring[T]{max: f.queue}
	f.subs = slices.DeleteFunc(f.subs, func(other *Subscription[T]) bool { return other == s })
	s.wakeUp()
}
