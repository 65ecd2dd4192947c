// Package hosttest helps to test what is built with package host: it serves helpers inside the test's process or makes the test binary
// one, waits for conditions, and fails tests that leave goroutines, file descriptors, shared memory, processes or temporary files behind.
// A package of tests begins with
//
//	func TestMain(m *testing.M) { hosttest.Main(m) }
package hosttest
