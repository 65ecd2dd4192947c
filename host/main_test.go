package host_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/khelp/khelp/host/internal/launch"
)

// programs are what the test binary becomes when it is started with "-program=NAME" as its first argument: helpers, good and bad ones.
var programs = map[string]func(){}

// program returns the command that runs the test binary as one of the programs.
func program(name string, args ...string) []string {
	return append([]string{os.Args[0], "-program=" + name}, args...)
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if name, ok := strings.CutPrefix(os.Args[1], "-program="); ok {
			run := programs[name]
			if run == nil {
				fmt.Fprintf(os.Stderr, "no program %q\n", name)
				os.Exit(2)
			}
			run()
			return
		}
	}
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction(launch.LauncherGoroutine))
}
