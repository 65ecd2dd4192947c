package shared

import (
	"cmp"
	"time"
)

// HelperSpec is what an operator or an embedder asks of a helper: the HCL block `helper`. The zero value of every field but Name or
// Command means the default.
type HelperSpec struct {
	Name      string   // found among builtins, then on the helper path; authoritative is the helper's own Modinfo
	Command   []string // the program and its arguments; empty: Name, found on the helper path
	SHA256    string   // hex sum of the program; empty: not checked
	Version   string   // constraint on the helper's version, such as "~> 1.0"
	Classes   []Class  // narrows the classes the helper declares
	Requires  []Requirement
	Load      LoadWhen
	Timeout   time.Duration // of one call; 0: DefaultTimeout
	OnFailure Action
	OnCause   map[Cause]Action
	Env       map[string]string // the environment is otherwise empty but for a short safe list
	Config    map[string]any    // properties: string, bool, int64, float64 or []any of these
	Hooks     []HookSpec
	Limits    Limits

	// Autounload and AutounloadAfter say when the helper leaves again if nobody loaded it by hand. Zero: as the host is configured.
	Autounload      AutounloadPolicy
	AutounloadAfter time.Duration
}

// Limits bound what a helper may take of its host. A zero field means the host's limit.
type Limits struct {
	Slot     int   // bytes of one slot; MaxSlot at most
	Slots    int64 // bytes of all slots of the helper
	Inflight int   // calls that may be queued or under way; a call with a large context counts for several
}

// Or returns l with the zero fields taken from other.
func (l Limits) Or(other Limits) Limits {
	return Limits{Slot: cmp.Or(l.Slot, other.Slot), Slots: cmp.Or(l.Slots, other.Slots), Inflight: cmp.Or(l.Inflight, other.Inflight)}
}

// Validate returns ErrInvalid for negative limits, and for a slot beyond what the protocol carries.
func (l Limits) Validate() error {
	switch {
	case l.Slot < 0 || l.Slots < 0 || l.Inflight < 0:
		return ErrInvalid.Errorf("limits must not be negative: %+v", l)
	case l.Slot > MaxSlot:
		return ErrInvalid.Errorf("a slot of %d bytes is beyond the protocol's limit of %d", l.Slot, MaxSlot)
	}
	return nil
}

// HookSpec is what an operator asks of one hook: the HCL block `hook` within `helper`.
type HookSpec struct {
	Point     HookPoint
	Order     Order
	Timeout   time.Duration // 0: the helper's
	OnFailure Action        // ActionDefault: the helper's
	OnCause   map[Cause]Action
	Required  bool // the load fails with ErrNotExist if no such point is registered
}

// LoadWhen says when a helper is loaded.
type LoadWhen string

// When a helper loads. The empty value means boot.
const (
	LoadBoot   LoadWhen = "boot"
	LoadDemand LoadWhen = "demand"
	LoadManual LoadWhen = "manual"
)

// Hook returns what the spec says about a point, or the zero HookSpec with the point set.
func (s *HelperSpec) Hook(p HookPoint) HookSpec {
	for _, h := range s.Hooks {
		if h.Point == p {
			return h
		}
	}
	return HookSpec{Point: p}
}

// Validate checks what can be checked of a spec without the helper: names, actions, causes, durations, orders. All that is wrong is
// joined into one error.
func (s *HelperSpec) Validate() error { return validateSpec(s) }
