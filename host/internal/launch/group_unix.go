//go:build unix && !linux

package launch

import "syscall"

// ownGroup gives a process its own session, which keeps the terminal's signals away and makes a group that can be ended as a whole.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
