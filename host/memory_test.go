package host

import (
	"errors"
	"runtime"
	"testing"

	"github.com/khelp/khelp/shared"
)

func TestL16_MemoryPressure(t *testing.T) {
	for _, c := range []struct {
		what   string
		floor  float64
		memory Memory
		want   bool
	}{
		{"plenty", 0, Memory{Available: 50, Total: 100}, false},
		{"at the default floor", 0, Memory{Available: 5, Total: 100}, false},
		{"below the default floor", 0, Memory{Available: 4, Total: 100}, true},
		{"below another floor", 0.5, Memory{Available: 49, Total: 100}, true},
		{"above a lower floor", 0.01, Memory{Available: 4, Total: 100}, false},
		{"stalled", 0, Memory{Available: 50, Total: 100, Stalled: 0.10}, true},
		{"not stalled enough", 0, Memory{Available: 50, Total: 100, Stalled: 0.09}, false},
		{"beyond 2^53", 0.5, Memory{Available: 1 << 62, Total: 1 << 63}, false},
		{"nothing known", 0, Memory{}, false},
	} {
		if got := (Autounload{MemoryFloor: c.floor}).pressed(c.memory); got != c.want {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
	}
}

func TestSystemMemory(t *testing.T) {
	m, err := systemMemory()
	if runtime.GOOS != "linux" {
		if !errors.Is(err, shared.ErrUnsupported) {
			t.Errorf("%+v, %v; want ErrUnsupported", m, err)
		}
		return
	}
	if err != nil || m.Total < 16<<20 || m.Available == 0 || m.Available > m.Total || m.Stalled < 0 || m.Stalled > 1 {
		t.Errorf("%+v, %v", m, err)
	}
}
