//go:build !linux

package main

// keepDescriptors does nothing here: there is no way to find all descriptors that this process was started with. Those that a shell or
// a supervisor leaves open are inherited by helpers; LISTEN_FDS are not, which are marked as they are taken over.
func keepDescriptors() error { return nil }
