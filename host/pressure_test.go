package host_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/helper"
)

// memory is what a host is told of the machine's.
type memory struct {
	reading atomic.Pointer[host.Memory] // nil: nobody knows
	reads   atomic.Int32
}

func (m *memory) read() (host.Memory, error) {
	m.reads.Add(1)
	if r := m.reading.Load(); r != nil {
		return *r, nil
	}
	return host.Memory{}, errors.New("nobody knows")
}

var (
	enough  = host.Memory{Available: 50, Total: 100}
	short   = host.Memory{Available: 4, Total: 100}
	stalled = host.Memory{Available: 50, Total: 100, Stalled: 0.5}
)

// crowd is a host with helpers of every kind: a is autoloaded, byhand and boot are not, stays is autoloaded and never leaves, and required
// is autoloaded and required by byhand.
func crowd(t *testing.T, m *memory, under host.UnderPressure) *fixture {
	t.Helper()
	f := bubbleFixture(t, host.Config{Memory: m.read, Autounload: host.Autounload{After: time.Hour, UnderPressure: under}})
	for _, name := range []string{"a", "boot", "required", "stays"} {
		f.put(name)
	}
	f.put("byhand", "required")
	err := f.Configure(t.Context(), []shared.HelperSpec{
		{Name: "a", Load: shared.LoadManual}, {Name: "byhand", Load: shared.LoadManual}, {Name: "required", Load: shared.LoadManual},
		{Name: "boot"}, {Name: "stays", Load: shared.LoadManual, Autounload: shared.AutounloadNever},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range f.Prime(t.Context(), specsOf("boot")) {
		t.Fatal(e)
	}
	f.initClass("")
	f.autoload("a", "stays")
	if err := f.load("byhand"); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestL16_UnderPressure(t *testing.T) {
	const all = "boot=active a=active stays=active byhand=active required=active"
	for _, c := range []struct {
		what    string
		reading *host.Memory
		under   host.UnderPressure
		want    string
	}{
		{"enough", &enough, "", all},
		{"nobody knows", nil, host.PressureUnreferenced, all},
		{"autoloaded", &short, "", "boot=active stays=active byhand=active required=active"},
		{"stalled", &stalled, host.PressureAutoloaded, "boot=active stays=active byhand=active required=active"},
		{"unreferenced", &short, host.PressureUnreferenced, "stays=active"},
	} {
		t.Run(c.what, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				m := &memory{}
				m.reading.Store(&enough)
				f := crowd(t, m, c.under)
				after(time.Minute)
				if got := f.states(); got != all {
					t.Fatalf("before: %s", got)
				}
				m.reading.Store(c.reading)
				before := m.reads.Load()
				after(time.Second)
				if n := m.reads.Load() - before; n != 1 {
					t.Errorf("memory was looked at %d times in a second", n)
				}
				if got := f.states(); got != c.want {
					t.Errorf("%s, want %s", got, c.want)
				}
			})
		})
	}
}

// TestL16_PressureAsksEachSecond: a helper that objects is asked again, and the try of its policy is not used up.
func TestL16_PressureAsksEachSecond(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := &memory{}
		m.reading.Store(&short)
		f := bubbleFixture(t, host.Config{Memory: m.read})
		var asked atomic.Int32
		hosttest.Put(f.path, helper.Helper[struct{}]{
			Name: "a", Version: "1.0.0",
			Autounload: func(context.Context) error {
				if asked.Add(1) <= 6 {
					return errors.New("not yet")
				}
				return nil
			},
		})
		err := f.Configure(t.Context(), []shared.HelperSpec{{Name: "a", Load: shared.LoadManual, Autounload: shared.AutounloadOnce}})
		if err != nil {
			t.Fatal(err)
		}
		f.autoload("a")
		after(6 * time.Second)
		if n := asked.Load(); n != 6 {
			t.Errorf("asked %d times in six seconds", n)
		}
		m.reading.Store(&enough)
		after(4*time.Second - 1)
		if n := asked.Load(); n != 6 {
			t.Errorf("asked %d times, though the pressure is over", n)
		}
		after(1)
		if f.isLoaded("a") {
			t.Error("its own time has come, and it was not tried")
		}
	})
}

// TestL16_NobodyLooksForNothing: where nobody can leave, memory is not looked at.
func TestL16_NobodyLooksForNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := &memory{}
		f := bubbleFixture(t, host.Config{Memory: m.read})
		f.put("byhand")
		f.configure("byhand")
		if err := f.load("byhand"); err != nil {
			t.Fatal(err)
		}
		after(time.Hour)
		if n := m.reads.Load(); n != 0 {
			t.Errorf("memory was looked at %d times", n)
		}
	})
}
