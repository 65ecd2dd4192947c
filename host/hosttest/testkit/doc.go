// Package testkit is what the tests of every room have in common: a TestMain that fails on what they leave behind, programs that the
// test binary turns into, and waiting for conditions. It imports nothing of khelp, so that any package can use it. Embedders have the
// same through package hosttest.
package testkit
