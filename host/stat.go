package host

import (
	"time"

	"github.com/khelp/khelp/shared"
)

// Stat is the state of a host and its helpers at one moment: modstat(8)'s table.
type Stat struct {
	Generation uint64 // bumped by every load and unload
	Helpers    []HelperStat
}

// HelperStat is one helper.
type HelperStat struct {
	Name         string
	Version      string
	ID           shared.HelperID
	State        shared.State
	Classes      []shared.Class
	Source       shared.Source
	Refs         int // objects, dependants and holds; -1: disabled
	Flags        []string
	Requires     []string
	Hooks        []shared.HookPoint
	PID          int // 0: no process
	Incarnation  uint32
	SHA256       string
	Lane         string
	Restarts     uint64
	Objects      int
	FreesSkipped uint64 // Free that a dead process could not be asked for
	LateReplies  uint64 // dropped: for calls that had ended already
	StrayReplies uint64 // dropped: for calls that were never made
	ObjectBytes  int64
	Calls        uint64
	Committed    uint64
	Missed       map[shared.Cause]uint64
	Skipped      uint64
	Autoloaded   bool
	AutounloadAt time.Time // zero: not scheduled
	LastError    string
	Values       map[string]float64 // the helper's own figures, from its Stat
}

// HeadStat is one hook head.
type HeadStat struct {
	Point     shared.HookPoint
	Vnet      string
	Kind      string // observe or filter
	Async     bool
	Mutable   bool
	Context   string // message type of the context
	Refs      int
	Forwarded uint64 // as the subsystem counted; 0 where it does not
	Hooks     []HookStat
}

// HookStat is one hook of a head, in the order in which they run.
type HookStat struct {
	Helper    string
	Order     string
	Calls     uint64
	Committed uint64
	Missed    map[shared.Cause]uint64
	Skipped   uint64
	P50       time.Duration
	P99       time.Duration
}

// ObjectStat is one object.
type ObjectStat struct {
	ID        uint64
	Classes   []shared.Class
	Vnet      string
	Name      string
	Forwarded map[shared.HookPoint]uint64 // as the subsystem counted
	Slots     []SlotStat
}

// SlotStat is one helper's data on one object.
type SlotStat struct {
	Helper  string
	Version string
	Bytes   int
	Values  map[string]any // by the helper's schema; empty without one
}
