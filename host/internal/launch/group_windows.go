package launch

import (
	"io/fs"
	"os"
	"syscall"
)

// ownGroup keeps the console's Ctrl-C away from a helper.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP, HideWindow: true}
}

// signalGroup knows one signal here, the end of the process.
func signalGroup(leader *os.Process, sig syscall.Signal) error {
	if sig != syscall.SIGKILL {
		return syscall.EWINDOWS
	}
	return leader.Kill()
}

// terminate does nothing: Windows has no way to ask a process without a console to end. A helper ends with its control stream.
func (c *child) terminate() {}

func mayExecute(fs.FileMode) bool { return true }

func exitSignal(*os.ProcessState) (syscall.Signal, bool) { return 0, false }

// lockDir does not lock: directories cannot be locked here, and nothing is swept.
func lockDir(string) (*os.File, error) { return nil, nil }
