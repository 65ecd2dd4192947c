package hosttest

import (
	"testing"

	"github.com/khelp/khelp/host/hosttest/testkit"
)

// Programs are what a test binary becomes when it is started by Command, by name: helpers, good and bad ones. A program that returns
// has ended well; its arguments are os.Args[1:].
type Programs map[string]func()

// Main is the body of TestMain. It gives the tests a directory of their own for temporary files, runs them, and exits; the exit code
// is 1 if tests that passed have left goroutines, open file descriptors, shared memory, processes they started (also those that lost
// their parent) or temporary files. Descriptors, memory and processes are seen where /proc tells of them, as on Linux. What is about to
// end has ten seconds to do so. A test binary that was started by Command runs its program instead.
func Main(m *testing.M, programs ...Programs) {
	sets := make([]testkit.Programs, 0, len(programs))
	for _, set := range programs {
		sets = append(sets, testkit.Programs(set))
	}
	testkit.Main(m, sets...)
}

// Command returns the command line that runs the test binary as one of the programs given to Main, such as a helper in a process of its
// own:
//
//	h.Load(ctx, shared.HelperSpec{Command: hosttest.Command("count")}, host.LoadOptions{})
func Command(name string, args ...string) []string { return testkit.Command(name, args...) }

// CheckLeaks is for one test what Main is for all: it fails the test if something is left at its end that was not there at the call.
// It must be called before anything else is made, so that its check comes last, and not in a test that runs in parallel with others.
// Temporary files are checked under Main only. A test that has failed otherwise is not checked.
func CheckLeaks(t testing.TB) {
	t.Helper()
	testkit.CheckLeaks(t)
}

// Until waits until cond holds, looking again and again, and fails the test with what was waited for if it does not within 20 seconds.
// It is for conditions that no event announces.
func Until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	testkit.Until(t, what, cond)
}

// Await returns what arrives on a channel, or its zero value when it is closed, and fails the test if neither happens within 20 seconds.
func Await[T any](t testing.TB, what string, happens <-chan T) T {
	t.Helper()
	return testkit.Await(t, what, happens)
}
