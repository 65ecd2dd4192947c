package launch

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/khelp/khelp/host/hosttest/testkit"
)

// TestMain is also the helper: the test binary becomes one when started by helperCommand.
func TestMain(m *testing.M) {
	testkit.Main(m, testkit.Programs{"helper": func() { helperMain(os.Args[1], os.Args[2:]) }})
}

// helperCommand runs the test binary as a helper; helperMain has the modes.
func helperCommand(mode string, args ...string) []string {
	return testkit.Command("helper", append([]string{mode}, args...)...)
}

// statFields returns the fields of /proc/PID/stat from the state on.
func statFields(path string) []string {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
}

// gone reports whether a process has ended; a zombie that nobody reaps has.
func gone(pid int) bool {
	fields := statFields(fmt.Sprintf("/proc/%d/stat", pid))
	return len(fields) == 0 || fields[0] == "Z" || fields[0] == "X"
}

// find returns the first record with this message.
func (b *logBook) find(t *testing.T, message string) (record, bool) {
	t.Helper()
	for _, r := range b.records(t) {
		if r.Message == message {
			return r, true
		}
	}
	return record{}, false
}
