package osd

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/khelp/khelp/shared"
)

// Object is the host's handle on one object of a subsystem: struct osd. It is made by a host and ends with Destroy. It is safe for
// concurrent use.
type Object struct {
	id      uint64
	vnet    string
	classes []shared.Class
	end     func(context.Context, *Object) error
	slots   []*Slot // of helpers that keep data here; fixed for the object's life
	turn    turn
	order   atomic.Pointer[[]*Slot] // of helpers that keep none; made on first use, copied on write

	failure error // of Destroy; set before gone is closed

	mu        sync.Mutex    // protects the following fields
	gone      chan struct{} // made by the first Destroy, closed at its end
	name      string
	forwarded func() map[shared.HookPoint]uint64
}

// NewObject returns an object with the given slots, of which it takes hold. The id is the caller's to choose and
// never 0. End is called by the first Destroy, once; nil: there is nothing to do.
func NewObject(id uint64, vnet string, classes []shared.Class, slots []*Slot, end func(context.Context, *Object) error) *Object {
	return &Object{id: id, vnet: vnet, classes: classes, slots: slots, end: end}
}

// ID returns the object's number, which is never used again while the host lives.
func (o *Object) ID() uint64 { return o.id }

// Vnet returns the vnet in which the object was made.
func (o *Object) Vnet() string { return o.vnet }

// Classes returns the classes the object was made with. Callers must not change them.
func (o *Object) Classes() []shared.Class { return o.classes }

// SetName gives the object a name for people, such as the addresses of a connection.
func (o *Object) SetName(name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.name = name
}

// Name returns what SetName set.
func (o *Object) Name() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.name
}

// SetForwarded tells where to read how often the subsystem, by its own count, passed each point with this object. The function must be
// safe for concurrent use and must not call back into the host.
func (o *Object) SetForwarded(count func() map[shared.HookPoint]uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.forwarded = count
}

// Forwarded returns the subsystem's own count by point, or nil if it keeps none.
func (o *Object) Forwarded() map[shared.HookPoint]uint64 {
	o.mu.Lock()
	count := o.forwarded
	o.mu.Unlock()
	if count == nil {
		return nil
	}
	return count()
}

// Slot returns the slot in which a helper keeps data on this object, or nil: osd_get.
func (o *Object) Slot(helper shared.HelperID) *Slot {
	for _, s := range o.slots {
		if s.helper == helper {
			return s
		}
	}
	return nil
}

// Slots returns the slots with data. Callers must not change the slice.
func (o *Object) Slots() []*Slot { return o.slots }

// OrderSlot returns the slot that keeps a helper's calls on this object in order: the one with its data, or one made for the purpose
// by newSlot on first use.
func (o *Object) OrderSlot(helper shared.HelperID, newSlot func() *Slot) *Slot {
	if s := o.Slot(helper); s != nil {
		return s
	}
	if s := find(o.order.Load(), helper); s != nil {
		return s
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	old := o.order.Load()
	if s := find(old, helper); s != nil {
		return s
	}
	var list []*Slot
	if old != nil {
		list = append(list, *old...)
	}
	s := newSlot()
	list = append(list, s)
	o.order.Store(&list)
	return s
}

// Forget drops the slot made by OrderSlot for a helper that has been unloaded.
func (o *Object) Forget(helper shared.HelperID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	old := o.order.Load()
	if find(old, helper) == nil {
		return
	}
	var list []*Slot
	for _, s := range *old {
		if s.helper != helper {
			list = append(list, s)
		}
	}
	o.order.Store(&list)
}

// EachSlot calls f for every slot, with data or without.
func (o *Object) EachSlot(f func(*Slot)) {
	for _, s := range o.slots {
		f(s)
	}
	if order := o.order.Load(); order != nil {
		for _, s := range *order {
			f(s)
		}
	}
}

func find(list *[]*Slot, helper shared.HelperID) *Slot {
	if list == nil {
		return nil
	}
	for _, s := range *list {
		if s.helper == helper {
			return s
		}
	}
	return nil
}

// Lock takes the object's turn, in which the hooks of one synchronous run go by, in the order of asking. It waits until deadline, or
// as long as ctx allows if that is zero, and reports whether it has the turn; if so, Unlock gives it back.
func (o *Object) Lock(ctx context.Context, deadline time.Time) bool {
	return o.turn.lock(ctx, deadline)
}

// Unlock gives the turn back.
func (o *Object) Unlock() { o.turn.unlock() }

// Destroy ends the object: what is queued for it is drained, every helper with a slot that wants to know is told, and its references
// are dropped (osd_exit, khelp_destroy_osd). It waits no longer than ctx and the helpers' own deadlines allow; when it returns the
// object is gone, whatever the error says of the way there. Further calls wait for the first, as long as their ctx allows (ErrTimeout),
// and return its error.
func (o *Object) Destroy(ctx context.Context) error {
	o.mu.Lock()
	gone, first := o.gone, o.gone == nil
	if first {
		gone = make(chan struct{})
		o.gone = gone
	}
	o.mu.Unlock()
	if first {
		defer close(gone)
		if o.end != nil {
			o.failure = o.end(ctx, o)
		}
		return o.failure
	}
	select {
	case <-gone:
		return o.failure
	case <-ctx.Done():
		return shared.ErrTimeout.Errorf("object %d is still being destroyed: %w", o.id, context.Cause(ctx))
	}
}

// TryLock takes the object's turn if it is free.
func (o *Object) TryLock() bool { return o.turn.tryLock() }
