package helper

import (
	"bytes"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/khelp/khelp/shared"
)

// hookTable finds a hook by the index that stands in calls. Reading is one atomic load; indices are never used twice. A hook that has been
// removed is found for a while, for the calls that were under way or queued at the host: until keptHooks others have been removed.
type hookTable struct {
	mu      sync.Mutex // serialises changes, and protects the following field
	removed []*hookEntry
	entries atomic.Pointer[[]*hookEntry]
}

// keptHooks is how many hooks are kept that have been removed.
const keptHooks = shared.MaxHooks

func (t *hookTable) init(entries []*hookEntry) { t.entries.Store(&entries) }

// find returns the hook, perhaps one that has been removed, or nil for an index that has none.
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
		if other == nil || slices.Contains(t.removed, other) {
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
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range *t.entries.Load() {
		if e != nil && e.info.Point == point && bytes.Equal(e.info.UData, udata) && !slices.Contains(t.removed, e) {
			return e
		}
	}
	return nil
}

// remove takes a hook out. Calls that were sent for it before still find it.
func (t *hookTable) remove(e *hookEntry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if slices.Contains(t.removed, e) {
		return
	}
	t.removed = append(t.removed, e)
	if len(t.removed) <= keptHooks {
		return
	}
	t.clearLocked(t.removed[0].info.Index)
	t.removed = slices.Delete(t.removed, 0, 1)
}

// forget takes a hook out that the host has never had: nothing was sent for it that counts.
func (t *hookTable) forget(e *hookEntry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clearLocked(e.info.Index)
}

func (t *hookTable) clearLocked(index uint32) {
	entries := slices.Clone(*t.entries.Load())
	entries[index] = nil
	t.entries.Store(&entries)
}
