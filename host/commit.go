package host

import (
	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/osd"
	"github.com/khelp/khelp/shared"
)

// slotLimit returns how many bytes one slot of the helper may hold.
func (hp *helper) slotLimit() int {
	limit := hp.limits().Slot
	if m := int(hp.face.Load().info.OSD.MaxBytes); m > 0 && m < limit {
		limit = m
	}
	return limit
}

// commit makes data the slot's bytes if the limits allow; else out becomes the failure of a bad reply, and the slot keeps what it has.
func (hp *helper) commit(slot *osd.Slot, data []byte, out *hhook.Outcome) {
	if !slot.Commit(data, func(grown int) bool { return hp.admit(len(data), grown, out) }) {
		hp.refused(out)
	}
}

// swap is commit for data that the caller can do without; it returns a slice to use instead.
func (hp *helper) swap(slot *osd.Slot, data []byte, out *hhook.Outcome) []byte {
	old, ok := slot.Swap(data, func(grown int) bool { return hp.admit(len(data), grown, out) })
	if !ok {
		hp.refused(out)
		return data
	}
	return old
}

// refused sees to it that what did not commit is a failure: the slot of an object that is gone takes nothing and says no reason.
func (hp *helper) refused(out *hhook.Outcome) {
	if out.Cause == shared.CauseNone {
		*out = hhook.Failed(shared.CauseTimeout, shared.ErrTimeout.Errorf("the object was gone before %s answered", hp.name))
	}
}

// admit holds data of a size, and the growth of its slot, against the limits, and counts it.
func (hp *helper) admit(size, grown int, out *hhook.Outcome) bool {
	if limit := hp.slotLimit(); size > limit {
		*out = hhook.Failed(shared.CauseBadReply, shared.ErrTooLarge.Errorf("%d bytes of data, a slot holds %d", size, limit))
		return false
	}
	if sum, limit := hp.bytes.Add(int64(grown)), hp.limits().Slots; grown > 0 && sum > limit {
		hp.bytes.Add(-int64(grown))
		*out = hhook.Failed(shared.CauseBadReply,
			shared.ErrTooLarge.Errorf("%s's data on all objects would be %d bytes, the limit is %d", hp.name, sum, limit))
		return false
	}
	return true
}
