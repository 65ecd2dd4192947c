package helper

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/khelp/khelp/shared"
)

func tableEntry(udata string) *hookEntry {
	return &hookEntry{info: shared.HookInfo{Point: "a.b", UData: []byte(udata)}}
}

// A hook that was removed is found by its index, which no other gets, but by nothing else, and not for ever.
func TestK5_HookTableKeepsWhatWasRemoved(t *testing.T) {
	var table hookTable
	table.init(nil)
	first := tableEntry("x")
	for range 2 {
		if err := table.add(first); err != nil {
			t.Fatal(err)
		}
		if err := table.add(tableEntry("x")); !errors.Is(err, shared.ErrExist) {
			t.Errorf("twice: %v, want ErrExist", err)
		}
		table.forget(first) // the host has refused it
		if table.find(first.info.Index) != nil || table.lookup("a.b", []byte("x")) != nil {
			t.Error("one that was forgotten is found")
		}
	}
	if err := table.add(first); err != nil {
		t.Fatal(err)
	}
	table.remove(first)
	table.remove(first) // twice is once
	if table.find(first.info.Index) != first || table.lookup("a.b", []byte("x")) != nil {
		t.Error("one that was removed is not found by its index, or is by its name")
	}
	for i := range keptHooks {
		next := tableEntry("x")
		if err := table.add(next); err != nil {
			t.Fatal(err)
		}
		if next.info.Index == first.info.Index {
			t.Fatal("an index is used twice")
		}
		if found := table.find(first.info.Index) == first; !found {
			t.Fatalf("gone after %d others were removed", i)
		}
		table.remove(next)
	}
	if table.find(first.info.Index) != nil {
		t.Errorf("still found after %d others were removed", keptHooks)
	}
	if len(table.removed) != keptHooks {
		t.Errorf("%d are kept", len(table.removed))
	}
}

// Hooks come and go from many goroutines while others call. Invariant: between add and remove a hook is found by index and by name, and
// right after it by index.
func TestK5_HookTableHammer(t *testing.T) {
	var table hookTable
	table.init(nil)
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 100 {
				e := tableEntry(fmt.Sprint(g))
				if err := table.add(e); err != nil {
					t.Error(err)
					return
				}
				if table.find(e.info.Index) != e || table.lookup("a.b", e.info.UData) != e {
					t.Error("not found after add")
				}
				if i%2 == 0 {
					table.forget(e)
					continue
				}
				table.remove(e)
				if table.find(e.info.Index) != e {
					t.Error("not found after remove")
				}
			}
		})
	}
	all.Wait()
}
