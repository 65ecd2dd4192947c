package host

import (
	"context"

	"github.com/khelp/khelp/shared"
)

// BootError is what became of one helper that was to be there from the start.
type BootError struct {
	Helper string
	Err    error
}

func (e *BootError) Error() string { return e.Helper + ": " + e.Err.Error() }

// Unwrap returns the reason.
func (e *BootError) Unwrap() error { return e.Err }

// Prime launches helpers and asks what they are, side by side, and leaves them in the state primed: NetBSD's module_prime, for what the
// boot loader has brought. InitClass initialises them, Load does if one is asked for, and a requirement does; EndBoot ends those that
// nobody claimed. The result has an error for each helper that could not be primed; of these nothing stays behind.
func (h *Host) Prime(ctx context.Context, specs []shared.HelperSpec) []*BootError { panic("unwritten") }

// InitClass initialises the primed helpers that follow a class, "" for all that are left, each behind those it requires and side by side
// otherwise: module_init_class. The result has an error for each that failed; those are gone.
func (h *Host) InitClass(ctx context.Context, class shared.Class) []*BootError { panic("unwritten") }

// EndBoot ends the primed helpers that nobody has claimed, and logs them.
func (h *Host) EndBoot(ctx context.Context) { panic("unwritten") }

// LoadAll loads helpers side by side, each behind those it requires. The result has an error for each that failed.
func (h *Host) LoadAll(ctx context.Context, specs []shared.HelperSpec) []*BootError {
	panic("unwritten")
}
