package host_test

import (
	"testing"

	"github.com/khelp/khelp/host/hosttest"
)

// programs are helpers, good and bad ones.
var programs = hosttest.Programs{}

// program returns the command that runs the test binary as one of the programs.
func program(name string, args ...string) []string { return hosttest.Command(name, args...) }

func TestMain(m *testing.M) { hosttest.Main(m, programs) }
