// Package hosttest helps to test what is built with package host: it serves helpers inside the test's process, waits for conditions,
// and fails a test that leaves goroutines, file descriptors or child processes behind.
package hosttest
