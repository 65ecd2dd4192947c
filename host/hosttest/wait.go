package hosttest

import (
	"testing"
	"time"
)

// Until waits until cond holds, looking again and again, and fails the test with what was waited for if it does not within ten seconds.
// It is for conditions that no event announces.
func Until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(10 * time.Second)
	defer limit.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatalf("still waiting after 10s: %s", what)
		}
	}
}
