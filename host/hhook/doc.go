// Package hhook holds hook heads: the kernel's hhook(9).
//
// A Head is one registered point of a subsystem with the ordered list of hooks on it. Running a head takes an immutable snapshot of
// the list, and no lock is held while a hook runs. What a hook is, a function in this process or a call to another, is behind Target;
// this package knows nothing of processes or of the wire.
package hhook
