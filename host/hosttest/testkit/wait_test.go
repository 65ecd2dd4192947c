package testkit

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Fatalf ends the goroutine, as that of a test does.
func (f *fakeTest) Fatalf(format string, args ...any) {
	f.report += fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// in runs what may end its goroutine and returns what the test was told, and how long it took.
func in(t *testing.T, run func(*fakeTest)) (report string, took time.Duration) {
	t.Helper()
	f, begin, done := &fakeTest{TB: t}, time.Now(), make(chan struct{})
	go func() {
		defer close(done)
		run(f)
	}()
	<-done
	return f.report, time.Since(begin)
}

func TestUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		if report, _ := in(t, func(f *fakeTest) { Until(f, "three", func() bool { looks++; return looks == 3 }) }); report != "" || looks != 3 {
			t.Errorf("%d looks, %q", looks, report)
		}
		report, took := in(t, func(f *fakeTest) { Until(f, "the moon", func() bool { return false }) })
		if !strings.Contains(report, "the moon") || took < Patience || took > 2*Patience {
			t.Errorf("%q after %v", report, took)
		}
	})
}

func TestPoll_SaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		last := errors.New("three left")
		if err := Poll(func() error { return last }); !errors.Is(err, last) {
			t.Error(err)
		}
	})
}

func TestAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := make(chan int, 1)
		c <- 7
		if report, _ := in(t, func(f *fakeTest) {
			if v := Await(f, "seven", c); v != 7 {
				t.Errorf("got %d", v)
			}
		}); report != "" {
			t.Error(report)
		}
		report, took := in(t, func(f *fakeTest) { Await(f, "another", c) })
		if !strings.Contains(report, "another") || took != Patience {
			t.Errorf("%q after %v", report, took)
		}
		close(c)
		if report, _ := in(t, func(f *fakeTest) { Await(f, "the end", c) }); report != "" {
			t.Error(report)
		}
	})
}
