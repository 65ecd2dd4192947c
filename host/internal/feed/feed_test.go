package feed

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/khelp/khelp/shared"
)

// read wants the next values, with nothing lost.
func read(t *testing.T, s *Subscription[int], want ...int) {
	t.Helper()
	for _, w := range want {
		if v, lost, err := s.Next(t.Context()); v != w || lost != 0 || err != nil {
			t.Fatalf("Next = %d, %d lost, %v; want %d", v, lost, err, w)
		}
	}
}

func wantLost(t *testing.T, s *Subscription[int], want uint64) {
	t.Helper()
	if v, lost, err := s.Next(t.Context()); v != 0 || lost != want || err != nil {
		t.Fatalf("Next = %d, %d lost, %v; want %d lost", v, lost, err, want)
	}
}

func wantClosed(t *testing.T, s *Subscription[int]) {
	t.Helper()
	if v, lost, err := s.Next(t.Context()); !errors.Is(err, shared.ErrClosed) || v != 0 || lost != 0 {
		t.Fatalf("Next = %d, %d lost, %v; want ErrClosed", v, lost, err)
	}
}

func TestReplayThenLive(t *testing.T) {
	f := New[int](3, 2)
	f.Publish(1)
	s := f.Subscribe([]int{-1, -2, -3, -4}) // longer than the queue: it is not queued
	defer s.Close()
	f.Publish(2)
	f.Publish(3)
	read(t, s, -1, -2, -3, -4, 2, 3)
	f.Publish(4)
	read(t, s, 4)
	if got, want := f.History(), []int{2, 3, 4}; !slices.Equal(got, want) {
		t.Errorf("History = %v, want %v", got, want)
	}
	last, follower := f.Follow()
	defer follower.Close()
	f.Publish(5)
	if want := []int{2, 3, 4}; !slices.Equal(last, want) {
		t.Errorf("Follow begins with %v, want %v", last, want)
	}
	read(t, follower, 5)
}

func TestASlowSubscriberLosesTheOldestAndIsTold(t *testing.T) {
	f := New[int](1, 3)
	slow, quick := f.Subscribe([]int{-1}), f.Subscribe(nil)
	defer slow.Close()
	defer quick.Close()
	for i := range 10 {
		f.Publish(i)
		read(t, quick, i)
	}
	read(t, slow, -1)
	wantLost(t, slow, 7)
	read(t, slow, 7) // told once
	f.Publish(10)
	f.Publish(11)
	wantLost(t, slow, 1)
	read(t, slow, 9, 10, 11)
}

func TestNextWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New[int](1, 1)
		s := f.Subscribe(nil)
		go func() {
			synctest.Wait() // Next waits by now
			f.Publish(1)
		}()
		read(t, s, 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := s.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Next = %v, want ctx's error", err)
		}
		f.Publish(2) // what waits comes whatever ctx says
		if v, _, err := s.Next(ctx); v != 2 || err != nil {
			t.Errorf("Next = %d, %v; want 2", v, err)
		}
		go func() {
			synctest.Wait()
			s.Close()
			s.Close()
		}()
		wantClosed(t, s)
		wantClosed(t, s)
	})
}

func TestTheEndOfTheFeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New[int](2, 2)
		waiting, late := f.Subscribe([]int{-1}), f.Subscribe(nil)
		for i := range 3 {
			f.Publish(i)
		}
		f.Close()
		f.Close()
		f.Publish(3)
		read(t, waiting, -1)
		wantLost(t, waiting, 1)
		read(t, waiting, 1, 2)
		wantClosed(t, waiting)
		late.Close()
		wantClosed(t, late)
		if got := f.History(); !slices.Equal(got, []int{1, 2}) {
			t.Errorf("History = %v after Close", got)
		}
		after := f.Subscribe([]int{-1}) // of an end that has come there is still the state to tell
		read(t, after, -1)
		wantClosed(t, after)
		after.Close()

		open := New[int](1, 1)
		s := open.Subscribe(nil)
		go func() {
			synctest.Wait()
			open.Close()
		}()
		wantClosed(t, s)
	})
}

// What is closed is not kept.
func TestNothingIsLeftOfASubscription(t *testing.T) {
	f := New[*int](4, 4)
	subs := make([]*Subscription[*int], 100)
	for i := range subs {
		subs[i] = f.Subscribe(make([]*int, 3))
	}
	if !f.Followed() {
		t.Error("nobody follows")
	}
	for range 10 {
		f.Publish(new(int))
	}
	for _, s := range subs {
		s.Close()
		if s.replay != nil || s.live.buf != nil || s.live.n != 0 {
			t.Fatalf("kept after Close: %+v", s)
		}
	}
	if f.Followed() || len(f.subs) != 0 {
		t.Errorf("%d subscriptions are left", len(f.subs))
	}
	s := f.Subscribe(nil)
	defer s.Close()
	f.Publish(new(int))
	if _, _, err := s.Next(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, p := range s.live.buf {
		if p != nil {
			t.Error("what was read is kept")
		}
	}
}

// Publishers count up a state under a lock of their own; subscribers take it as their replay under that lock. Invariants, for each
// subscriber, while others come and go:
//
//   - the first value follows the replay: no gap, nothing twice;
//   - each value follows the one before it, but for as many as were told to be lost between;
//   - the last one published arrives.
func TestHammer(t *testing.T) {
	const publishers, subscribers, rounds, each = 4, 8, 20, 500
	var mu sync.Mutex // the publishers' own
	state := 0
	f := New[int](16, 8)
	var reading, publishing sync.WaitGroup
	for range subscribers {
		reading.Go(func() {
			for range rounds {
				mu.Lock()
				s := f.Subscribe([]int{state})
				mu.Unlock()
				if err := follow(t.Context(), s, publishers*each, rand.IntN(100)); err != nil {
					t.Error(err)
				}
				s.Close()
			}
		})
	}
	for range publishers {
		publishing.Go(func() {
			for range each {
				mu.Lock()
				state++
				f.Publish(state)
				mu.Unlock()
				f.History()
			}
		})
	}
	publishing.Wait()
	reading.Wait()
	f.Close()
	if f.Followed() {
		t.Error("subscriptions are left")
	}
}

// follow reads until the end, or for a while.
func follow(ctx context.Context, s *Subscription[int], end, while int) error {
	last, lost, err := s.Next(ctx)
	if err != nil || lost != 0 {
		return fmt.Errorf("replay: %d lost, %w", lost, err)
	}
	for n := 0; last < end && n < while; n++ {
		v, lost, err := s.Next(ctx)
		switch {
		case err != nil:
			return err
		case lost > 0:
			last += int(lost)
			continue
		case v != last+1:
			return fmt.Errorf("%d after %d, with no word of a loss", v, last)
		}
		last = v
	}
	return nil
}

// model is what a subscriber must see: all there was for it, unless it was more than the queue holds.
type model struct {
	replay, live []int
	lost         uint64
	closed       bool
}

func (m *model) next(feedClosed bool) (v int, lost uint64, ok, ended bool) {
	switch {
	case m.closed:
		return 0, 0, false, true
	case len(m.replay) > 0:
		v, m.replay = m.replay[0], m.replay[1:]
		return v, 0, true, false
	case m.lost > 0:
		lost, m.lost = m.lost, 0
		return 0, lost, true, false
	case len(m.live) > 0:
		v, m.live = m.live[0], m.live[1:]
		return v, 0, true, false
	}
	return 0, 0, false, feedClosed
}

// Random operations against a naive model. Invariants: History is the tail of all that was published; each subscriber reads what the
// model says, in order, with what was lost; Followed is whether anybody is left.
func TestModel(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 7))
		keep, queue := 1+rng.IntN(12), 1+rng.IntN(12)
		f := New[int](keep, queue)
		var all []int
		var subs []*Subscription[int]
		var models []*model
		closed := false
		for step := range 300 {
			switch op := rng.IntN(20); {
			case op < 9:
				f.Publish(step)
				if closed {
					break
				}
				all = append(all, step)
				for _, m := range models {
					m.live = append(m.live, step)
					if len(m.live) > queue {
						m.live, m.lost = m.live[1:], m.lost+1
					}
				}
			case op < 11:
				m := &model{replay: make([]int, rng.IntN(4))}
				models, subs = append(models, m), append(subs, f.Subscribe(slices.Clone(m.replay)))
			case op < 18 && len(subs) > 0:
				i := rng.IntN(len(subs))
				checkNext(t, subs[i], models[i], closed)
			case op == 18 && len(subs) > 0:
				i := rng.IntN(len(subs))
				subs[i].Close()
				models[i].closed = true
				models[i].live = nil
			case op == 19 && rng.IntN(20) == 0:
				f.Close()
				closed = true
			}
			if want := all[max(0, len(all)-keep):]; !slices.Equal(f.History(), want) {
				t.Fatalf("seed %d: History = %v, want %v", seed, f.History(), want)
			}
			followed := !closed && slices.ContainsFunc(models, func(m *model) bool { return !m.closed })
			if f.Followed() != followed {
				t.Fatalf("seed %d: Followed = %v", seed, !followed)
			}
		}
	}
}

func checkNext(t *testing.T, s *Subscription[int], m *model, feedClosed bool) {
	t.Helper()
	wantV, wantLost, ok, ended := m.next(feedClosed)
	v, lost, got, err := s.take()
	if v != wantV || lost != wantLost || got != ok || errors.Is(err, shared.ErrClosed) != ended {
		t.Fatalf("next = %d, %d lost, %v, %v; want %d, %d lost, %v, ended %v", v, lost, got, err, wantV, wantLost, ok, ended)
	}
}
