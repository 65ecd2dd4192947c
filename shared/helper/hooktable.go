package helper

import (
	"bytes"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/khelp/khelp/shared"
)

// hookTable finds a hook by the index that stands in calls. Reading is one atomic load; indices are never used twice.
type hookTable struct {
	mu      sync.Mutex // serialises changes
	entries atomic.Pointer[[]*hookEntry]
}

func (t *hookTable) init(entries []*hookEntry) { t.entries.Store(&entries) }

// find returns the hook, or nil for an index that has none.
func (t *hookTable) find(index uint32) *hookEntry {
	entries := *t.entries.Load()
	if int64(index) >= int64(len(entries)) {
		return nil
	}
	return entries[index]
}

// add gives a hook its index. It is ErrExist if the point has a hook with the same user data, ErrInvalid beyond shared.MaxHooks.
func (t *hookTable) add(e *hookEntry) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	entries := slices.Clone(*t.entries.Load())
	live := 0
	for _, other := range entries {
		if other == nil {
			continue
		}
		live++
		if other.info.Point == e.info.Point && bytes.Equal(other.info.UData, e.info.UData) {
			return shared.ErrExist.Errorf("there is a function on %s with the same UData already", e.info.Point)
		}
	}
	if live >= shared.MaxHooks {
		return shared.ErrInvalid.Errorf("%d hooks, the limit is %d", live+1, shared.MaxHooks)
	}
	e.info.Index = uint32(len(entries))
	entries = append(entries, e)
	t.entries.Store(&entries)
	return nil
}

// lookup returns the hook on a point with the given user data, or nil.
func (t *hookTable) lookup(point shared.HookPoint, udata []byte) *hookEntry {
	for _, e := range *t.entries.Load() {
		if e != nil && e.info.Point == point && bytes.Equal(e.info.UData, udata) {
			return e
		}
	}
	return nil
}

// remove takes a hook out; calls that come for it later find nothing.
func (t *hookTable) remove(e *hookEntry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	entries := slices.Clone(*t.entries.Load())
	if int(e.info.Index) < len(entries) && entries[e.info.Index] == e {
		entries[e.info.Index] = nil
	}
	t.entries.Store(&entries)
}
