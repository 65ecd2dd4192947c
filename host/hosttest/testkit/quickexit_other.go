//go:build !race || !unix

package testkit

// QuickExit spares programs a second, under the race detector. Here it has nothing to do.
func QuickExit() {}
