package host

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/osd"
	"github.com/khelp/khelp/shared"
)

// Vnet is a named set of heads: the same point may stand once in each. It is safe for concurrent use.
type Vnet struct {
	host *Host
	name string

	// The following are protected by host.mu.
	heads  map[shared.HookPoint]*hhook.Head
	closed bool
}

// Vnet returns the vnet with a name, which is made if there is none. The default vnet is "". The error is that of the name.
func (h *Host) Vnet(name string) (*Vnet, error) {
	if name != "" {
		if err := shared.ValidateName("vnet", name); err != nil {
			return nil, err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	v := h.vnets[name]
	if v == nil {
		v = &Vnet{host: h, name: name, heads: map[shared.HookPoint]*hhook.Head{}}
		h.vnets[name] = v
	}
	return v, nil
}

func (h *Host) defaultVnet() *Vnet {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.vnets[""]
}

// RegisterHead registers a point in the default vnet; see Vnet.RegisterHead.
func (h *Host) RegisterHead(point shared.HookPoint, opts hhook.Options) (*hhook.Head, error) {
	return h.defaultVnet().RegisterHead(point, opts)
}

// NewObject makes an object in the default vnet; see Vnet.NewObject.
func (h *Host) NewObject(ctx context.Context, classes ...shared.Class) (*osd.Object, error) {
	return h.defaultVnet().NewObject(ctx, classes...)
}

// Name returns the vnet's name.
func (v *Vnet) Name() string { return v.name }

// RegisterHead registers a point: hhook_head_register. Helpers that are loaded already and hook it are bound before it returns, with
// no gap: the list of heads and the list of helpers meet under one lock. The caller owns the head and ends it with its Close. A point
// that is registered already is ErrExist; options or orders that contradict themselves are ErrInvalid.
func (v *Vnet) RegisterHead(point shared.HookPoint, opts hhook.Options) (*hhook.Head, error) {
	head, err := hhook.NewHead(point, v.name, opts, v.unregister)
	if err != nil {
		return nil, err
	}
	h := v.host
	h.mu.Lock()
	defer h.unlockAndSay()
	if h.closed {
		return nil, errClosed()
	}
	if v.closed {
		return nil, shared.ErrClosed.Errorf("vnet %q is closed", v.name)
	}
	if v.heads[point] != nil {
		return nil, shared.ErrExist.Errorf("hook point %s is registered already%s", point, v.in())
	}
	var bound []bindings
	for _, hp := range h.helpers {
		if !hp.bound {
			continue
		}
		b := bindings{hp, hp.newHooksLocked(head)}
		if err := head.Add(b.hooks...); err != nil {
			return nil, err
		}
		if hp.state == shared.StateDraining {
			head.Suspend(b.hooks...)
		}
		bound = append(bound, b)
	}
	h.addStandInsLocked(head)
	for _, b := range bound {
		for _, hook := range b.hooks {
			b.helper.bindings = append(b.helper.bindings, binding{head, hook})
		}
	}
	v.heads[point] = head
	return head, nil
}

type bindings struct {
	helper *helper
	hooks  []*hhook.Hook
}

func (v *Vnet) in() string {
	if v.name == "" {
		return ""
	}
	return " in vnet " + v.name
}

// unregister is called by a head that is closed.
func (v *Vnet) unregister(head *hhook.Head) {
	h := v.host
	h.mu.Lock()
	defer h.mu.Unlock()
	if v.heads[head.Point()] != head {
		return
	}
	delete(v.heads, head.Point())
	for _, hp := range h.helpers {
		hp.dropHeadLocked(head)
	}
	for _, d := range h.demands {
		delete(d.hooks, head)
	}
}

// Head returns the head of a point with a reference, which the caller gives back with Release: hhook_head_get. No such point is
// ErrNotExist.
func (v *Vnet) Head(point shared.HookPoint) (*hhook.Head, error) {
	v.host.mu.Lock()
	defer v.host.mu.Unlock()
	head := v.heads[point]
	if head == nil {
		return nil, shared.ErrNotExist.Errorf("no hook point %s%s", point, v.in())
	}
	if err := head.Ref(); err != nil {
		return nil, err
	}
	return head, nil
}

// Close ends the vnet. Heads that are left in it are logged as leaks and closed all the same, whoever holds them (the kernel's
// hhook_vnet_uninit). The default vnet is emptied but
// stays. It waits for runs under way as long as an unload does.
func (v *Vnet) Close(ctx context.Context) error {
	h := v.host
	h.mu.Lock()
	left := slices.SortedFunc(maps.Values(v.heads), func(a, b *hhook.Head) int {
		if a.Point() < b.Point() {
			return -1
		}
		return 1
	})
	if v.name != "" && !v.closed {
		delete(h.vnets, v.name)
		v.closed = true
	}
	h.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, h.cfg.DrainTimeout)
	defer cancel()
	var errs []error
	for _, head := range left {
		h.log.Warn("hook head leaked", "point", string(head.Point()), "vnet", v.name, "refs", head.Refs())
		h.publish(Event{Type: EventLeaked, Point: head.Point(), Message: "still registered when its vnet was closed" + head.In()})
		errs = append(errs, head.Destroy(ctx))
	}
	return errors.Join(errs...)
}

// eachHeadLocked calls f for every head, in order of vnet and point.
func (h *Host) eachHeadLocked(f func(*hhook.Head)) {
	for _, vnet := range slices.Sorted(maps.Keys(h.vnets)) {
		v := h.vnets[vnet]
		for _, point := range slices.Sorted(maps.Keys(v.heads)) {
			f(v.heads[point])
		}
	}
}
