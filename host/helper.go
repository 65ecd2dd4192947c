package host

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/shared"
)

// helper is one helper in the registry: struct helper. Its identity, references and counters outlive its processes.
type helper struct {
	host    *Host
	id      shared.HelperID
	name    string
	source  shared.Source
	log     hclog.Logger
	builtin *Builtin // nil: a process

	face         atomic.Pointer[face]     // never nil
	inst         atomic.Pointer[instance] // nil: a builtin, or none any more
	room         atomic.Pointer[room]     // never nil
	bytes        atomic.Int64             // of its data on all objects
	freesSkipped atomic.Uint64            // Free that a dead process could not be asked for

	// The following are protected by host.mu.
	state     shared.State
	op        *operation // nil: none is under way
	rising    *instance  // of a load under way, or nil
	failure   error      // why the last load has failed
	lastErr   string
	changedAt time.Time // when it was primed, was disabled or failed, whichever was last
	restarts  uint64
	down      bool // a builtin that has finished and could not be initialised again
	bound     bool // its hooks go onto heads that appear
	bindings  []binding
	drains    []func(context.Context) error // wait for the runs that had the hooks when it began to leave
	aside     int                           // the era of the stand-ins that have taken the hooks' places while it leaves; 0: none
	gone      []*hhook.Hook                 // whose heads are gone, the last few
	past      hhook.Counts                  // of those before

	references
	lifetime
}

// newHelper returns a helper that is about to be loaded.
func (h *Host) newHelper(f *face, source shared.Source) *helper {
	hp := &helper{host: h, name: f.spec.Name, source: source, state: shared.StateStarting, log: h.helperLog(f.spec.Name)}
	hp.face.Store(f)
	hp.room.Store(newRoom(hp.limits().Inflight))
	return hp
}

// alive returns the incarnation to call, or the failure that there is none.
func (hp *helper) alive() (*instance, hhook.Outcome) {
	in := hp.inst.Load()
	if in == nil {
		return nil, hhook.Failed(shared.CauseNotLoaded, shared.ErrNotExist.Errorf("%s is not loaded", hp.name))
	}
	if err := in.dead(); err != nil {
		return nil, hhook.Failed(shared.CauseCrash, shared.ErrHelperGone.Errorf("%s is gone: %w", hp.name, err))
	}
	return in, hhook.Outcome{}
}

// lease returns the incarnation to call and keeps it from being retired until its sending is unlocked for reading, or the failure that
// there is none.
func (hp *helper) lease() (*instance, hhook.Outcome) {
	for {
		in, failed := hp.alive()
		if failed.Cause != shared.CauseNone {
			return nil, failed
		}
		in.sending.RLock()
		if !in.retired {
			return in, hhook.Outcome{}
		}
		in.sending.RUnlock() // another has taken over since
	}
}

// binding is one hook on one head.
type binding struct {
	head *hhook.Head
	hook *hhook.Hook
}

// info returns which of the helper's hooks it is.
func (b binding) info() shared.HookInfo {
	return shared.HookInfo{Point: b.head.Point(), Index: b.hook.Index, UData: b.hook.UData}
}

// hooksLocked returns what the helper hooks at present: what it declared, and what it has added and removed since.
func (hp *helper) hooksLocked() []shared.HookInfo {
	if in := hp.inst.Load(); in != nil {
		return in.hooks
	}
	return hp.face.Load().info.Hooks
}

// newHooksLocked returns the hooks the helper has for a head, not yet added to it.
func (hp *helper) newHooksLocked(head *hhook.Head) []*hhook.Hook {
	var hooks []*hhook.Hook
	for _, info := range hp.hooksLocked() {
		if info.Point == head.Point() {
			hooks = append(hooks, hhook.NewHook(hp.hookConfig(head, info)))
		}
	}
	return hooks
}

// requiredLocked returns whom a helper requires, and whom those require: one of them may have no hook where the others meet.
func (h *Host) requiredLocked(f *face) []string {
	names := f.requireNames()
	for i := 0; i < len(names); i++ {
		other := h.findLocked(names[i])
		if other == nil {
			continue
		}
		for _, name := range other.face.Load().requireNames() {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

func (hp *helper) hookConfig(head *hhook.Head, info shared.HookInfo) hhook.HookConfig {
	f := hp.face.Load()
	cfg := f.hookConfig(head, info)
	cfg.ID, cfg.InProc = hp.id, hp.builtin != nil
	cfg.Requires = hp.host.requiredLocked(f)
	if hp.builtin != nil {
		cfg.Target = hp.targetLocked(info.Point)
	} else {
		cfg.Target = &remote{helper: hp, hook: info, born: hp.inst.Load(), mutable: head.Options().Mutable}
	}
	return cfg
}

// objectPolicyLocked is the policy for making objects, where there is no head: closed by default if the helper filters anything.
func (hp *helper) objectPolicyLocked() (hhook.Kind, hhook.Policy) {
	kind := hhook.Observe
	for _, b := range hp.bindings {
		if b.head.Options().Kind == hhook.Filter {
			kind = hhook.Filter
		}
	}
	return kind, hp.face.Load().policy(shared.HookSpec{})
}

// bindLocked adds the helper's hooks to every head there is, all or none, in the place of what stood there for it while it was to be
// loaded on demand. A hook that the spec marks required must find a head; a head that is closing is none any more.
func (hp *helper) bindLocked() error {
	standIns := hp.host.standInsLocked(hp.name)
	var added []binding
	var failed error
	hp.host.eachHeadLocked(func(head *hhook.Head) {
		hooks := successors(hp.newHooksLocked(head), standIns[head])
		if failed != nil || len(hooks) == 0 && len(standIns[head]) == 0 {
			return
		}
		if err := head.Replace(standIns[head], hooks); errors.Is(err, shared.ErrClosed) {
			return
		} else if err != nil {
			failed = err
			return
		}
		for _, hook := range hooks {
			added = append(added, binding{head, hook})
		}
	})
	if failed == nil {
		failed = hp.missingLocked(added)
	}
	if failed != nil {
		replaceHooks(hooksOf(added), standIns)
		return failed
	}
	hp.bindings, hp.bound = added, true
	return nil
}

// replaceHooks puts stand-ins on heads in the place of hooks, on each head in one step.
func replaceHooks(old, standIns hooksByHead) {
	replace := func(head *hhook.Head) {
		if head.Replace(old[head], standIns[head]) != nil {
			head.Remove(old[head]...) // closing, or in an order that no stand-in fits into: then there is none
			delete(standIns, head)
		}
	}
	for head := range old {
		replace(head)
	}
	for head := range standIns {
		if _, both := old[head]; !both {
			replace(head)
		}
	}
}

func (hp *helper) missingLocked(added []binding) error {
	for _, spec := range hp.face.Load().spec.Hooks {
		there := slices.ContainsFunc(added, func(b binding) bool { return b.head.Point() == spec.Point })
		if spec.Required && !there {
			return shared.ErrNotExist.Errorf("%s requires hook point %s, which nobody has registered", hp.name, spec.Point)
		}
	}
	return nil
}

// suspendLocked has the hooks passed over, and counted as skipped, until they are resumed or unbound.
func (hp *helper) suspendLocked() {
	for _, b := range hp.bindings {
		b.head.Suspend(b.hook)
	}
	hp.noteDrainsLocked()
}

// noteDrainsLocked notes whom drain is to wait for: the runs that have the helper's hooks now.
func (hp *helper) noteDrainsLocked() {
	hp.drains = nil
	for head := range hooksOf(hp.bindings) {
		hp.drains = append(hp.drains, head.Draining())
	}
}

// resumeLocked ends what suspendLocked, or stepAsideLocked, began.
func (hp *helper) resumeLocked() {
	if hp.aside > 0 {
		hp.stepInLocked()
		return
	}
	for _, b := range hp.bindings {
		b.head.Resume(b.hook)
	}
}

// unbindLocked takes the hooks off their heads, and puts stand-ins there if there are to be any; runs that began before go on with them.
func (hp *helper) unbindLocked(standIns hooksByHead) {
	replaceHooks(hooksOf(hp.bindings), standIns)
	for _, b := range hp.bindings {
		hp.gone = append(hp.gone, b.hook)
	}
	hp.bindings, hp.bound = nil, false
	hp.sumUp()
}

// isActiveLocked reports whether others may require and hold the helper.
func (hp *helper) isActiveLocked() bool { return hp.state == shared.StateActive }

// keptHooks is how many hooks whose heads are gone are kept for the calls that may still be under way; of older ones only the counts.
const keptHooks = 16

// dropHeadLocked forgets the bindings to a head that is gone, but not what its hooks counted, and may yet count.
func (hp *helper) dropHeadLocked(head *hhook.Head) {
	hp.bindings = slices.DeleteFunc(hp.bindings, func(b binding) bool {
		if b.head == head {
			hp.gone = append(hp.gone, b.hook)
		}
		return b.head == head
	})
	hp.sumUp()
}

// dropHooksLocked takes hooks off their heads.
func (hp *helper) dropHooksLocked(which func(binding) bool) {
	hp.bindings = slices.DeleteFunc(hp.bindings, func(b binding) bool {
		if !which(b) {
			return false
		}
		b.head.Remove(b.hook)
		hp.gone = append(hp.gone, b.hook)
		return true
	})
	hp.sumUp()
}

// sumUp keeps of older hooks that are gone only what they counted.
func (hp *helper) sumUp() {
	for len(hp.gone) > keptHooks {
		addCounts(&hp.past, hp.gone[0].Stats().Read())
		hp.gone = slices.Delete(hp.gone, 0, 1)
	}
}

func addCounts(sum *hhook.Counts, c hhook.Counts) {
	sum.Calls += c.Calls
	sum.Committed += c.Committed
	sum.Skipped += c.Skipped
	if sum.Missed == nil {
		sum.Missed = map[shared.Cause]uint64{}
	}
	for cause, n := range c.Missed {
		sum.Missed[cause] += n
	}
}
