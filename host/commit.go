package host

import (
	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/osd"
	"github.com/khelp/khelp/shared"
)

// slotLimit returns how many bytes one slot of the helper may hold.
func (hp *helper) slotLimit() int {
	limit := hp.limits.Slot
	if m := int(hp.info.OSD.MaxBytes); m > 0 && m < limit {
		limit = m
	}
	return limit
}

// commit makes data the slot's bytes if the limits allow; else out becomes the failure of a bad reply, and the slot keeps what it has.
func (hp *helper) commit(slot *osd.Slot, data []byte, out *hhook.Outcome) {
	if hp.admit(slot, data, out) {
		slot.Commit(data)
	}
}

// admit holds data against the limits, and counts it.
func (hp *helper) admit(slot *osd.Slot, data []byte, out *hhook.Outcome) bool {
	grown := int64(len(data) - len(slot.Lent()))
	if grown == 0 {
		return true
	}
	if limit := hp.slotLimit(); len(data) > limit {
		*out = hhook.Failed(shared.CauseBadReply, shared.ErrTooLarge.Errorf("%d bytes of data, a slot holds %d", len(data), limit))
		return false
	}
	if sum := hp.bytes.Add(grown); grown > 0 && sum > hp.limits.Slots {
		hp.bytes.Add(-grown)
		*out = hhook.Failed(shared.CauseBadReply,
			shared.ErrTooLarge.Errorf("%s's data on all objects would be %d bytes, the limit is %d", hp.name, sum, hp.limits.Slots))
		return false
	}
	return true
}
