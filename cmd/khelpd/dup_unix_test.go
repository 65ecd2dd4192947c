//go:build unix && !linux

package main

import "golang.org/x/sys/unix"

// dup makes descriptor to a copy of from that programs to come inherit.
func dup(from, to int) error { return unix.Dup2(from, to) }
