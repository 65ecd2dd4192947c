//go:build unix

package launch

import (
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

func signalGroup(leader *os.Process, sig syscall.Signal) error { return syscall.Kill(-leader.Pid, sig) }

// terminate asks the helper's processes to end; stopped ones are woken so that they can.
func (c *child) terminate() {
	c.signal(syscall.SIGTERM)
	c.signal(syscall.SIGCONT)
}

func mayExecute(mode fs.FileMode) bool { return mode.Perm()&0o111 != 0 }

// exitSignal returns the signal that ended a process, or 0.
func exitSignal(state *os.ProcessState) (sig syscall.Signal, core bool) {
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return status.Signal(), status.CoreDump()
	}
	return 0, false
}

// lockDir opens a directory and locks it for as long as the file is open. It fails if somebody else has the lock.
func lockDir(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
