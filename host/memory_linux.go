package host

import (
	"bufio"
	"bytes"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/khelp/khelp/shared"
)

// systemMemory reads how much memory the machine has left. The error is that of a /proc that is not there, or not understood.
func systemMemory() (Memory, error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return Memory{}, shared.ErrUnsupported.Errorf("how much memory is left: %w", err)
	}
	m, err := parseMeminfo(text)
	if err != nil {
		return Memory{}, err
	}
	// Many kernels do not have the file, or refuse to be read; then what is available must tell alone.
	if text, err := os.ReadFile("/proc/pressure/memory"); err == nil {
		if stalled, err := parsePressure(text); err == nil {
			m.Stalled = stalled
		}
	}
	return m, nil
}

// parseMeminfo reads what /proc/meminfo says of all memory and of what is available. The error is ErrInvalid.
func parseMeminfo(text []byte) (Memory, error) {
	var m Memory
	for _, field := range []struct {
		name string
		to   *uint64
	}{{"MemTotal", &m.Total}, {"MemAvailable", &m.Available}} {
		words, found := procLine(text, field.name+":")
		if !found || len(words) != 2 || words[1] != "kB" {
			return Memory{}, shared.ErrInvalid.Errorf("/proc/meminfo does not tell %s in kB", field.name)
		}
		kb, err := strconv.ParseUint(words[0], 10, 64)
		if err != nil || kb > math.MaxUint64>>10 {
			return Memory{}, shared.ErrInvalid.Errorf("/proc/meminfo tells a %s of %q", field.name, words[0])
		}
		*field.to = kb << 10
	}
	if m.Total == 0 {
		return Memory{}, shared.ErrInvalid.Errorf("/proc/meminfo tells a MemTotal of 0")
	}
	return m, nil
}

// parsePressure reads the share of the last ten seconds in which all work waited for memory from /proc/pressure/memory. The error is
// ErrInvalid.
func parsePressure(text []byte) (float64, error) {
	words, found := procLine(text, "full")
	if !found {
		return 0, shared.ErrInvalid.Errorf("/proc/pressure/memory has no line full")
	}
	for _, word := range words {
		if value, is := strings.CutPrefix(word, "avg10="); is {
			percent, err := strconv.ParseFloat(value, 64)
			if err != nil || !(percent >= 0 && percent <= 100) { // NaN neither
				return 0, shared.ErrInvalid.Errorf("/proc/pressure/memory tells an avg10 of %q", value)
			}
			return percent / 100, nil
		}
	}
	return 0, shared.ErrInvalid.Errorf("/proc/pressure/memory tells no avg10")
}

// procLine returns the words behind the first word of the first line that begins with it.
func procLine(text []byte, first string) (rest []string, found bool) {
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if words := strings.Fields(lines.Text()); len(words) > 0 && words[0] == first {
			return words[1:], true
		}
	}
	return nil, false
}
