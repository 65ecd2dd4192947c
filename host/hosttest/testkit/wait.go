package testkit

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// Patience bounds every wait of a test. Only a bug takes that long, also on a busy machine.
const Patience = 20 * time.Second

// pollPause is how long Poll waits before it looks again.
const pollPause = 2 * time.Millisecond

// Poll calls check until it returns nil, and returns its last error after Patience.
func Poll(check func() error) error {
	return poll(Patience, check)
}

func poll(limit time.Duration, check func() error) error {
	tick := time.NewTicker(pollPause)
	defer tick.Stop()
	for end := time.Now().Add(limit); ; <-tick.C {
		err := check()
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("still so after %v: %w", limit, err)
		}
	}
}

var errNotYet = errors.New("condition does not hold")

// Until waits until cond holds, looking again and again, and fails the test with what was waited for if it does not within Patience. It
// is for conditions that no event announces.
func Until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	err := Poll(func() error {
		if cond() {
			return nil
		}
		return errNotYet
	})
	if err != nil {
		t.Fatalf("waited %v in vain for: %s", Patience, what)
	}
}

// Await returns what arrives on a channel, or its zero value when it is closed, and fails the test if neither happens within Patience.
func Await[T any](t testing.TB, what string, happens <-chan T) T {
	t.Helper()
	limit := time.NewTimer(Patience)
	defer limit.Stop()
	select {
	case v := <-happens:
		return v
	case <-limit.C:
		t.Fatalf("waited %v in vain for: %s", Patience, what)
		panic("unreachable")
	}
}
