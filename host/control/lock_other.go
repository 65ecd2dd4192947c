//go:build !unix || solaris || illumos || aix

package control

import "syscall"

// errRefused is WSAECONNREFUSED: what connecting to a socket that nobody listens on ends with.
const errRefused = syscall.Errno(10061)

// lockDir does nothing: binding is exclusive enough where a directory cannot be locked.
func lockDir(string) (unlock func(), err error) { return func() {}, nil }
