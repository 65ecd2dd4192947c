package hhook

import (
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/khelp/khelp/shared"
)

// Stats counts what became of a hook's calls. The counters outlive the objects. It is safe for concurrent use.
type Stats struct {
	committed atomic.Uint64
	skipped   atomic.Uint64
	missed    [numCauses]atomic.Uint64
	latency   histogram
}

// numCauses is len(shared.Causes), checked by a test.
const numCauses = 9

// Counts is a reading of Stats.
type Counts struct {
	Calls     uint64 // committed and missed
	Committed uint64
	Missed    map[shared.Cause]uint64 // causes that occurred
	Skipped   uint64
	P50, P99  time.Duration // of calls that were timed; upper bounds, within 1/8; 0 without any
}

// Read returns the counters. They are read one by one: while calls end, the sum may be off by those.
func (s *Stats) Read() Counts {
	c := Counts{Committed: s.committed.Load(), Skipped: s.skipped.Load(), Missed: map[shared.Cause]uint64{}}
	c.Calls = c.Committed
	for i, cause := range shared.Causes {
		if n := s.missed[i].Load(); n > 0 {
			c.Missed[cause] = n
			c.Calls += n
		}
	}
	c.P50, c.P99 = s.latency.quantile(0.50), s.latency.quantile(0.99)
	return c
}

// Calls returns how many calls have ended: committed and missed.
func (s *Stats) Calls() uint64 {
	n := s.committed.Load()
	for i := range s.missed {
		n += s.missed[i].Load()
	}
	return n
}

func (s *Stats) skip() { s.skipped.Add(1) }

// end counts one call. A duration of 0 was not measured.
func (s *Stats) end(cause shared.Cause, d time.Duration) {
	if cause == shared.CauseNone {
		s.committed.Add(1)
	} else {
		s.missed[causeIndex(cause)].Add(1)
	}
	if d > 0 {
		s.latency.add(d)
	}
}

func causeIndex(cause shared.Cause) int {
	for i, c := range shared.Causes {
		if c == cause {
			return i
		}
	}
	return numCauses - 1
}

// histogram counts durations in buckets an eighth of a power of two wide, from 1 ns to 2^35 ns (34 s); the last takes what is longer.
type histogram struct {
	buckets [33 * subBuckets]atomic.Uint64
}

const subBuckets = 8

func (h *histogram) add(d time.Duration) { h.buckets[bucketOf(uint64(d))].Add(1) }

func bucketOf(ns uint64) int {
	if ns < subBuckets {
		return int(ns)
	}
	power := bits.Len64(ns) - 1 // ≥ 3
	i := (power-2)*subBuckets + int(ns>>(power-3))&(subBuckets-1)
	return min(i, 33*subBuckets-1)
}

// bucketTop returns the upper bound of a bucket in nanoseconds.
func bucketTop(i int) uint64 {
	if i < subBuckets {
		return uint64(i)
	}
	power := i/subBuckets + 2
	return (uint64(subBuckets+i%subBuckets)+1)<<(power-3) - 1
}

func (h *histogram) quantile(q float64) time.Duration {
	var total uint64
	for i := range h.buckets {
		total += h.buckets[i].Load()
	}
	if total == 0 {
		return 0
	}
	rank := uint64(q * float64(total))
	for i := range h.buckets {
		n := h.buckets[i].Load()
		if n > rank {
			return time.Duration(bucketTop(i))
		}
		rank -= n
	}
	return time.Duration(bucketTop(len(h.buckets) - 1))
}
