package host

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
