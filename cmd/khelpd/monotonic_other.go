//go:build !linux

package main

// monotonicMicros is asked for by systemd alone.
func monotonicMicros() int64 { return 0 }
