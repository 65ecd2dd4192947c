package host

import (
	"context"

	"github.com/khelp/khelp/shared"
)

// Configure says which helpers the operator has configured, instead of what the last Configure said: whom requirements and helpers may
// have loaded (rule L21), with what properties and limits, and who is loaded on demand. It loads nothing: what loads at start is for
// Prime and InitClass, or for Load. A helper with LoadDemand is described, once for each sum of its file, so that its points and classes
// are known; the errors of those that cannot be are joined. Specs must have names, no two the same.
func (h *Host) Configure(ctx context.Context, specs []shared.HelperSpec) error {
	panic("unwritten")
}

// Configured returns the spec that Configure was given for a name.
func (h *Host) Configured(name string) (shared.HelperSpec, bool) { panic("unwritten") }
