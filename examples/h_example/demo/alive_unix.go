//go:build unix

package main

import (
	"errors"
	"syscall"
)

// running counts the processes that are there.
func running(pids []int) int {
	n := 0
	for _, pid := range pids {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			n++
		}
	}
	return n
}
