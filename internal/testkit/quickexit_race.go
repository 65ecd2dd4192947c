//go:build race && unix

package testkit

import (
	"os"
	"strings"
	"syscall"
)

const (
	raceVar   = "GORACE"
	raceQuick = "atexit_sleep_ms=0"
)

// A program is started anew to spare it the second for which the race detector holds up every exit: the detector reads its options
// before Go runs, and a helper gets none from its host. This must be an init function, which runs on the main thread; started from
// another one the program would lose the signal that it is to get when its parent dies.
func init() {
	if len(os.Args) < 2 || !strings.HasPrefix(os.Args[1], programFlag) {
		return
	}
	switch os.Getenv(raceVar) {
	case raceQuick:
		_ = os.Unsetenv(raceVar) // done; the program sees what its parent gave it
	case "":
		if self, err := os.Executable(); err == nil {
			_ = syscall.Exec(self, os.Args, append(os.Environ(), raceVar+"="+raceQuick)) // a second lost is all that can happen
		}
	}
}
