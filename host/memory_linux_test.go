package host

import (
	"errors"
	"testing"

	"github.com/khelp/khelp/shared"
)

const meminfo = `MemTotal:        8029980 kB
MemFree:          245272 kB
MemAvailable:    5234712 kB
Buffers:          345304 kB
HugePages_Total:       0
`

func TestParseMeminfo(t *testing.T) {
	m, err := parseMeminfo([]byte(meminfo))
	if want := (Memory{Total: 8029980 << 10, Available: 5234712 << 10}); err != nil || m != want {
		t.Errorf("%+v, %v; want %+v", m, err, want)
	}
	for what, text := range map[string]string{
		"nothing":         "",
		"no MemAvailable": "MemTotal: 1 kB\nMemFree: 1 kB\n", // before Linux 3.14
		"no MemTotal":     "MemAvailable: 1 kB\n",
		"no unit":         "MemTotal: 1\nMemAvailable: 1\n",
		"another unit":    "MemTotal: 1 MB\nMemAvailable: 1 MB\n",
		"no number":       "MemTotal: x kB\nMemAvailable: 1 kB\n",
		"a negative":      "MemTotal: -1 kB\nMemAvailable: 1 kB\n",
		"too much":        "MemTotal: 18446744073709551615 kB\nMemAvailable: 1 kB\n",
		"far too much":    "MemTotal: 99999999999999999999999 kB\nMemAvailable: 1 kB\n",
		"no memory":       "MemTotal: 0 kB\nMemAvailable: 0 kB\n",
		"cut":             "MemTotal: 1 kB\nMemAvail",
		"binary":          "\x00\xff\n\n\nMemTotal:",
	} {
		if m, err := parseMeminfo([]byte(text)); !errors.Is(err, shared.ErrInvalid) || m != (Memory{}) {
			t.Errorf("%s: %+v, %v; want ErrInvalid", what, m, err)
		}
	}
}

func TestParsePressure(t *testing.T) {
	const text = "some avg10=31.09 avg60=1.00 avg300=0.20 total=14\nfull avg10=12.50 avg60=0.00 avg300=0.00 total=5\n"
	if got, err := parsePressure([]byte(text)); err != nil || got != 0.125 {
		t.Errorf("%v, %v; want 0.125", got, err)
	}
	for what, text := range map[string]string{
		"nothing":    "",
		"no full":    "some avg10=31.09 avg60=1.00 avg300=0.20 total=14\n",
		"no avg10":   "full avg60=0.00\n",
		"no number":  "full avg10=much\n",
		"NaN":        "full avg10=NaN\n",
		"negative":   "full avg10=-1\n",
		"above 100%": "full avg10=100.01\n",
		"cut":        "full",
	} {
		if got, err := parsePressure([]byte(text)); !errors.Is(err, shared.ErrInvalid) || got != 0 {
			t.Errorf("%s: %v, %v; want ErrInvalid", what, got, err)
		}
	}
}
