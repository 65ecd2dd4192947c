package host

import (
	"context"

	"github.com/khelp/khelp/shared"
)

// ChangeAction is what a reload does to one helper.
type ChangeAction string

// The actions.
const (
	ChangeLoad    ChangeAction = "load"    // it is configured and was not
	ChangeUnload  ChangeAction = "unload"  // it is configured no more
	ChangeRestart ChangeAction = "restart" // another process takes over, object by object
	ChangeReorder ChangeAction = "reorder" // its hooks get other places
	ChangeUpdate  ChangeAction = "update"  // limits of time, failure policies and the like change under it
)

// Change is one step from the configuration that a host has to another.
type Change struct {
	Helper    string
	Action    ChangeAction
	Reason    string   // what is different
	BlockedBy []string // who holds the helper, so that the step cannot be made now: "12 objects", "vegas", "1 hold"
	Err       error    // of Reconfigure: why the step was not made
}

// Plan says what Reconfigure would do, and does nothing.
func (h *Host) Plan(specs []shared.HelperSpec) ([]Change, error) { panic("unwritten") }

// Reconfigure makes another set of helpers the configured one and brings what is loaded in line with it: each step is made as a whole or
// not at all, and the result tells which. An invalid spec is an error, and nothing has changed.
func (h *Host) Reconfigure(ctx context.Context, specs []shared.HelperSpec) ([]Change, error) {
	panic("unwritten")
}

// Restart starts another process for a helper, which takes over object by object between calls if the old one is healthy; references,
// hooks, configuration and committed data stay. If the new one cannot take over, the old one stays as it was and the error says why.
func (h *Host) Restart(ctx context.Context, name string) error { panic("unwritten") }
