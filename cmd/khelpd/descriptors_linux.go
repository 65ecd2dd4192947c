package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// keepDescriptors keeps what a shell or a supervisor left open, and the listening sockets it passed in, from the helpers: every
// descriptor from 3 up is closed in programs that are started from now on. The daemon's own stay open here.
func keepDescriptors() error {
	err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPERM) {
		// A kernel before 5.11, or a sandbox that does not know the call.
		err = keepListed("/proc/self/fd")
	}
	if err != nil {
		return fmt.Errorf("descriptors could not be kept from helpers: %w", err)
	}
	return nil
}

// keepListed is keepDescriptors by way of a directory that lists the descriptors.
func keepListed(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		// One that is gone by now, as that of the directory, needs nothing.
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd >= 3 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}
