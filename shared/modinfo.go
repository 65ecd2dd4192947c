package shared

import "time"

// APIGeneration is the generation of the interface between host and helper that this build speaks. A helper built against another is
// refused unless forced (NetBSD's __NetBSD_Version__ check in module_do_load).
const APIGeneration = 1

// Sizes that hold for every helper unless its spec or Modinfo says less.
const (
	MaxContext    = 1 << 20 // bytes of one invocation's context
	MaxSlot       = 64 << 10
	MaxSlots      = 64 << 20
	MaxHooks      = 256 // hooks of one helper
	MaxClasses    = 64
	MaxRequires   = 10 // helpers that one helper may require, unless the host is configured otherwise
	MaxDepth      = 6  // helpers that may require one another in a row, likewise
	MaxProperties = 256
	MaxSections   = 64
	MaxFields     = 1024 // of the data schema

	MaxModinfoRequires = 256 // helpers that one may say it requires, or reads from, whatever the host's limit

	DefaultInflight = 4096 // calls of one helper that are queued or under way
)

// Modinfo is what a helper says of itself before it is initialised: the kernel's struct helper and modinfo_t in one. The host treats
// every field as untrusted input.
type Modinfo struct {
	Name        string
	Version     string // a version such as 1.2.0, for requirements' constraints
	API         uint32 // APIGeneration the helper was built against
	Description string
	Classes     []Class
	NeedsOSD    bool // HELPER_NEEDS_OSD: wants a slot on each object of its classes
	OSD         OSDInfo
	Hooks       []HookInfo
	Requires    []Requirement
	Reads       []string // helpers whose data its hooks want to see
	Properties  []Property
	Sections    []Section
}

// OSDInfo describes the data a helper keeps on each object, as osd(9) slots.
type OSDInfo struct {
	Template    []byte // what a slot starts as, if HasNew is not set
	HasTemplate bool
	HasNew      bool // the helper's New makes the first data of a slot
	HasFree     bool // the helper wants to know when a slot ends
	MaxBytes    uint32
	DataVersion uint32
	Schema      DataSchema
}

// HookInfo is one hook a helper declares: hookinfo of khelp(9).
type HookInfo struct {
	Point    HookPoint
	Index    uint32 // the helper's own number for the function, sent with each call
	UData    []byte // tells two hooks with the same function apart, as hook_udata does
	MaySleep bool   // runs on its own, not inline; kernel hooks may not sleep
}

// Section is a named run of bytes shipped inside a helper, such as its readme: what module_find_section finds.
type Section struct {
	Name string
	Data []byte
}

// Requirement names a helper that must be active first, with a version constraint such as "~> 1.2", or none.
type Requirement struct {
	Name       string
	Constraint string
}

// Action is what the host does about a hook that failed.
type Action string

// The actions. The empty action means the default of the head's kind: closed on filter heads, open on observe heads.
const (
	ActionDefault Action = ""
	Open          Action = "open"   // skip this helper and go on
	Closed        Action = "closed" // reject, with the cause as the reason
)

// Cause says why a call of a hook did not commit.
type Cause string

// The causes of section "when a helper misbehaves". Draining is not among them: a hook that leaves is skipped.
const (
	CauseNone      Cause = ""
	CauseNotLoaded Cause = "not_loaded"
	CauseStarting  Cause = "starting"
	CauseTimeout   Cause = "timeout"
	CauseCrash     Cause = "crash"
	CauseHung      Cause = "hung"
	CauseBadReply  Cause = "bad_reply"
	CauseOverload  Cause = "overload"
	CauseTooLarge  Cause = "too_large"
	CauseDenied    Cause = "denied"
)

// Causes lists every cause, in the order in which tables show them. Callers must not change it.
var Causes = []Cause{
	CauseNotLoaded, CauseStarting, CauseTimeout, CauseCrash, CauseHung, CauseBadReply, CauseOverload, CauseTooLarge, CauseDenied,
}

// Err returns the sentinel that goes with the cause.
func (c Cause) Err() *Error {
	switch c {
	case CauseNotLoaded:
		return ErrNotExist
	case CauseStarting:
		return ErrBusy
	case CauseTimeout, CauseHung:
		return ErrTimeout
	case CauseCrash:
		return ErrHelperGone
	case CauseBadReply:
		return ErrBadReply
	case CauseOverload:
		return ErrOverload
	case CauseTooLarge:
		return ErrTooLarge
	default:
		return ErrPermission
	}
}

// State is where a helper stands, as stat shows it.
type State string

// The states of a helper.
const (
	StatePrimed     State = "primed"
	StateStarting   State = "starting"
	StateActive     State = "active"
	StateRestarting State = "restarting"
	StateFailed     State = "failed"
	StateDraining   State = "draining"
	StateDisabled   State = "disabled"
)

// Source says where a helper came from: NetBSD's MODULE_SOURCE_*.
type Source string

// The sources, in the order in which names are looked up.
const (
	SourceBuiltin Source = "builtin"
	SourceBoot    Source = "boot"
	SourceFilesys Source = "filesys"
)

// Defaults of time limits.
const (
	DefaultTimeout = 200 * time.Millisecond // one call of a hook
	DefaultBudget  = time.Second            // the whole chain of a head
)
