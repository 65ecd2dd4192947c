package host

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/khelp/khelp/shared"
)

// references are what holds a helper, and whom it holds. They are protected by host.mu.
type references struct {
	objects    int
	holds      int               // by operators
	holders    map[*instance]int // by other helpers, while they run
	dependants []*helper
	requires   []*helper
	idle       chan struct{} // closed when the last reference is dropped; nil: nobody waits for that
}

// refsLocked counts what holds the helper.
func (hp *helper) refsLocked() int {
	n := hp.objects + len(hp.dependants) + hp.holds
	for _, count := range hp.holders {
		n += count
	}
	return n
}

// holdersLocked says who holds the helper: "12 objects", "vegas", "1 hold", "1 hold of acl".
func (hp *helper) holdersLocked() []string {
	var who []string
	add := func(n int, what string) {
		switch n {
		case 0:
		case 1:
			who = append(who, "1 "+what)
		default:
			who = append(who, fmt.Sprintf("%d %ss", n, what))
		}
	}
	add(hp.objects, "object")
	for _, d := range hp.dependants {
		who = append(who, d.name)
	}
	add(hp.holds, "hold")
	byName := map[string]int{}
	for in, n := range hp.holders {
		byName[in.helper.name] += n
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		add(byName[name], "hold")
		who[len(who)-1] += " of " + name
	}
	return who
}

// heldByLocked says who holds the helper, for EBUSY.
func (hp *helper) heldByLocked() string { return strings.Join(hp.holdersLocked(), ", ") }

// droppedLocked is called when a reference has been given back.
func (hp *helper) droppedLocked() { hp.unusedLocked(time.Now()) }

// unusedLocked is called when a reference has been given back that was of no more use from a certain time on.
func (hp *helper) unusedLocked(since time.Time) {
	hp.idleSince = later(hp.idleSince, since)
	if hp.refsLocked() > 0 {
		return
	}
	if hp.idle != nil {
		close(hp.idle)
		hp.idle = nil
	}
	if hp.host.expendableLocked(hp) { // so that connections that come and go wake nobody for nothing
		hp.host.kick()
	}
}

// dropObjectLocked gives back the reference of one object.
func (hp *helper) dropObjectLocked() {
	hp.objects--
	hp.droppedLocked()
}

// linkLocked has a helper hold one that it requires. It reports whether it did not before.
func (hp *helper) linkLocked(other *helper) bool {
	if slices.Contains(hp.requires, other) {
		return false
	}
	hp.requires = append(hp.requires, other)
	other.dependants = append(other.dependants, hp)
	return true
}

// unlinkLocked gives up what linkLocked took.
func (hp *helper) unlinkLocked(other *helper) {
	hp.requires = slices.DeleteFunc(hp.requires, func(x *helper) bool { return x == other })
	other.dependants = slices.DeleteFunc(other.dependants, func(x *helper) bool { return x == hp })
	if hp.leaving.IsZero() {
		other.droppedLocked()
		return
	}
	other.unusedLocked(hp.leaving)
}

// unrequireLocked gives up all requirements.
func (hp *helper) unrequireLocked() {
	for len(hp.requires) > 0 {
		hp.unlinkLocked(hp.requires[0])
	}
}

// Hold keeps a helper from being unloaded until Rele: module_hold. Holds count. A helper that is not loaded is ErrNotExist.
func (h *Host) Hold(name string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	hp, err := h.holdableLocked(name)
	if err != nil {
		return err
	}
	hp.holds++
	return nil
}

// Rele gives back one Hold: module_rele. One more than there were is ErrInvalid; no such helper is ErrNotExist.
func (h *Host) Rele(name string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	hp := h.findLocked(name)
	switch {
	case hp == nil:
		return h.notLoadedLocked(name)
	case hp.holds == 0:
		return shared.ErrInvalid.Errorf("%s is not held: there is no hold to release", name)
	}
	hp.holds--
	hp.droppedLocked()
	return nil
}

// holdableLocked returns a helper that can be held: one that is there to stay for the moment.
func (h *Host) holdableLocked(name string) (*helper, error) {
	hp := h.findLocked(name)
	switch {
	case hp == nil, hp.state == shared.StateDisabled:
		return nil, h.notLoadedLocked(name)
	case hp.state == shared.StateStarting || hp.state == shared.StatePrimed || hp.state == shared.StateDraining:
		return nil, shared.ErrBusy.Errorf("%s is %s", name, hp.state)
	}
	return hp, nil
}

// holdFor takes a hold on behalf of another helper's process; it ends with that.
func (h *Host) holdFor(in *instance, name string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	hp, err := h.holdableLocked(name)
	switch {
	case name == in.helper.name:
		return shared.ErrInvalid.Errorf("%s cannot hold itself", name)
	case err != nil:
		return err
	case in.over:
		return shared.ErrClosed.Errorf("%s is ending", in.helper.name)
	}
	if hp.holders == nil {
		hp.holders = map[*instance]int{}
	}
	hp.holders[in]++
	return nil
}

// releFor gives back one holdFor.
func (h *Host) releFor(in *instance, name string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	hp := h.findLocked(name)
	switch {
	case hp == nil:
		return h.notLoadedLocked(name)
	case hp.holders[in] == 0:
		return shared.ErrInvalid.Errorf("%s does not hold %s: there is no hold to release", in.helper.name, name)
	}
	if hp.holders[in]--; hp.holders[in] == 0 {
		delete(hp.holders, in)
	}
	hp.droppedLocked()
	return nil
}

// endHoldsLocked gives back all that an incarnation held at run time, and sees to it that it holds nothing more.
func (h *Host) endHoldsLocked(in *instance) {
	in.over = true
	for _, hp := range h.helpers {
		if hp.holders[in] > 0 {
			delete(hp.holders, in)
			hp.droppedLocked()
		}
	}
}
