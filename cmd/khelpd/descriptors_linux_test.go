package main

import (
	"testing"

	"golang.org/x/sys/unix"
)

// Both ways mark what is open and leave it open.
func TestKeepDescriptors(t *testing.T) {
	for name, keep := range map[string]func() error{
		"close_range": keepDescriptors,
		"list":        func() error { return keepListed("/proc/self/fd") },
	} {
		t.Run(name, func(t *testing.T) {
			fd, err := unix.Dup(0) // without close-on-exec
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = unix.Close(fd) }()
			if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC != 0 {
				t.Fatalf("at first: flags %#x, %v", flags, err)
			}
			if err := keep(); err != nil {
				t.Fatal(err)
			}
			if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Errorf("afterwards: flags %#x, %v", flags, err)
			}
			if flags, err := unix.FcntlInt(1, unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC != 0 {
				t.Errorf("stdout: flags %#x, %v", flags, err)
			}
		})
	}
}
