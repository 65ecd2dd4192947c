package host

import (
	"context"

	"github.com/khelp/khelp/shared"
)

// Describe starts a helper, asks what it is and ends it again; nothing is initialised. A spec with a name only is found as Load finds it.
// For a helper that is loaded, or described before under the same sum, nothing is started.
func (h *Host) Describe(ctx context.Context, spec shared.HelperSpec) (shared.Modinfo, error) {
	panic("unwritten")
}

// Known returns what is known of a helper without starting anything: it is loaded, builtin, or was described before.
func (h *Host) Known(spec shared.HelperSpec) (shared.Modinfo, bool) { panic("unwritten") }
