//go:build race

package tcp_test

// raceEnabled: the race detector makes sync.Pool drop what it is given now and then, so that allocations cannot be counted.
const raceEnabled = true
