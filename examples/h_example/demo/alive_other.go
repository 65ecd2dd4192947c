//go:build !unix

package main

import "os"

// running counts the processes that are there.
func running(pids []int) int {
	n := 0
	for _, pid := range pids {
		if p, err := os.FindProcess(pid); err == nil {
			_ = p.Release()
			n++
		}
	}
	return n
}
