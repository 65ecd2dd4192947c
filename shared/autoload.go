package shared

import (
	"slices"
	"time"
)

// Defaults of when a helper that nobody loaded by hand leaves again.
const (
	DefaultAutounloadAfter = 10 * time.Second // after its load
	DefaultMemoryFloor     = 0.05             // of all memory; with less available there is pressure
)

// AutoloadScope says which helpers may be loaded without an operator asking for them: by a requirement, by another helper's request or
// on demand. Whatever is configured may be; the zero value allows nothing else. It answers to the path that NetBSD's module_autoload
// confines itself to.
type AutoloadScope struct {
	Path  bool     // everything on the helper path
	Names []string // these helpers, configured or not
}

// Allows reports whether a helper may be autoloaded; configured tells whether the operator has configured it.
func (s AutoloadScope) Allows(name string, configured bool) bool {
	return configured || s.Path || slices.Contains(s.Names, name)
}

// AutounloadPolicy says when a helper that nobody loaded by hand leaves again.
type AutounloadPolicy string

// The policies. The empty policy means idle.
const (
	// AutounloadIdle: when nobody has held it, and if it came on demand nobody called it, for a while; longer if it ping-pongs.
	AutounloadIdle AutounloadPolicy = "idle"
	// AutounloadOnce: tried once, a while after its load, as NetBSD's module_autotime does.
	AutounloadOnce AutounloadPolicy = "once"
	// AutounloadNever: it stays, also under memory pressure.
	AutounloadNever AutounloadPolicy = "never"
)

// Validate returns ErrInvalid for a policy that there is not.
func (p AutounloadPolicy) Validate() error {
	switch p {
	case "", AutounloadIdle, AutounloadOnce, AutounloadNever:
		return nil
	default:
		return ErrInvalid.Errorf("autounload policy %q must be idle, once or never", string(p))
	}
}
