//go:build race

package host_test

// raceEnabled: under the race detector there is less to do in the same time.
const raceEnabled = true
