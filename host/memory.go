package host

import "cmp"

// Memory is a reading of how much memory the machine has left.
type Memory struct {
	Available uint64  // bytes
	Total     uint64  // bytes
	Stalled   float64 // share of the last seconds in which all work waited for memory, 0 to 1; 0 where the system does not say
}

// UnderPressure says whom memory pressure may cost.
type UnderPressure string

// Whom it may cost. The empty value means autoloaded.
const (
	PressureAutoloaded   UnderPressure = "autoloaded"   // helpers that nobody loaded by hand
	PressureUnreferenced UnderPressure = "unreferenced" // every helper that nobody holds
)

const (
	defaultMemoryFloor = 0.05
	// stallLimit is the share of lost time from which on memory is short, however much seems to be available.
	stallLimit = 0.10
)

// pressed reports whether memory is short: less is available than the floor, or too much time is lost waiting for it. It is what NetBSD's
// module thread asks uvm_availmem.
func (a Autounload) pressed(m Memory) bool {
	floor := cmp.Or(a.MemoryFloor, defaultMemoryFloor)
	return m.Stalled >= stallLimit || m.Total > 0 && float64(m.Available) < floor*float64(m.Total)
}
