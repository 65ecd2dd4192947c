package host

import (
	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/osd"
	"github.com/khelp/khelp/shared"
)

// slotLimit returns how many bytes one slot of the helper may hold.
func (hp *helper) slotLimit() int {
	limit := hp.host.cfg.MaxSlot
	if m := int(hp.info.OSD.MaxBytes); m > 0 && m < limit {
		limit = m
	}
	return limit
}

// commit makes data the slot's bytes if the limits allow; else the reply is a bad one and the slot keeps what it has.
func (hp *helper) commit(slot *osd.Slot, data []byte, out hhook.Outcome) hhook.Outcome {
	if limit := hp.slotLimit(); len(data) > limit {
		return hhook.Failed(shared.CauseBadReply, shared.ErrTooLarge.Errorf("%d bytes of data, a slot holds %d", len(data), limit))
	}
	if grown := int64(len(data) - len(slot.Lent())); grown != 0 {
		if sum := hp.bytes.Add(grown); grown > 0 && sum > hp.host.cfg.MaxSlots {
			hp.bytes.Add(-grown)
			return hhook.Failed(shared.CauseBadReply,
				shared.ErrTooLarge.Errorf("%s's data on all objects would be %d bytes, the limit is %d", hp.name, sum, hp.host.cfg.MaxSlots))
		}
	}
	slot.Commit(data)
	return out
}
