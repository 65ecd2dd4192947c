// Package osd holds objects and the data that helpers keep on them: the kernel's osd(9) and khelp(9)'s struct helper_dblock.
//
// An Object is the host's handle on one thing of a subsystem, a connection say. It has a Slot for each helper that follows one of
// its classes and needs data. The bytes in a slot are the authoritative copy: a helper is lent them with each call and they change
// only when its answer is accepted, whole, so a helper that dies takes nothing with it.
//
// The package knows nothing of processes or of the wire.
package osd
