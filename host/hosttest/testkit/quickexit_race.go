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

func init() {
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[1], programFlag) {
		QuickExit()
	}
}

// QuickExit starts a program that the test binary is anew, to spare it the second for which the race detector holds up every exit: the
// detector reads its options before Go runs, and a helper gets none from its host. Programs given to Main need not call it. It must be
// called from an init function, which runs on the main thread; started from another one, the program would lose the signal that it is
// to get when its parent dies.
func QuickExit() {
	switch os.Getenv(raceVar) {
	case raceQuick:
		_ = os.Unsetenv(raceVar) // done; the program sees what its parent gave it
	case "":
		if self, err := os.Executable(); err == nil {
			_ = syscall.Exec(self, os.Args, append(os.Environ(), raceVar+"="+raceQuick)) // a second lost is all that can happen
		}
	}
}
