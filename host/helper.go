package host

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/semaphore"

	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/shared"
)

// helper is one loaded helper: struct helper. Its identity, references and hooks outlive its processes.
type helper struct {
	host    *Host
	id      shared.HelperID
	name    string
	spec    shared.HelperSpec
	info    shared.Modinfo
	classes []shared.Class // declared, narrowed by the spec
	// requireNames are the helpers it requires, by itself or by the spec.
	requireNames []string
	source       shared.Source
	log          hclog.Logger
	builtin      *Builtin // nil: a process
	limits       shared.Limits
	room         *semaphore.Weighted // how many more calls may be queued or under way, whatever the incarnation

	inst         atomic.Pointer[instance] // nil: a builtin, or none any more
	bytes        atomic.Int64             // of its data on all objects
	freesSkipped atomic.Uint64            // Free that a dead process could not be asked for

	// The following are protected by host.mu.
	state      shared.State
	lastErr    string
	bound      bool // its hooks go onto heads that appear
	bindings   []binding
	gone       []*hhook.Hook // whose heads are gone, the last few
	past       hhook.Counts  // of those before
	objects    int
	dependants []*helper
	requires   []*helper
	idle       chan struct{} // closed when the last reference is dropped; nil: nobody waits for that
}

// newHelper returns a helper that is about to be loaded.
func (h *Host) newHelper(spec shared.HelperSpec, source shared.Source) *helper {
	hp := &helper{host: h, name: spec.Name, spec: spec, source: source, state: shared.StateStarting, log: h.log.Named(spec.Name)}
	hp.limits = spec.Limits.Or(h.cfg.Limits)
	hp.room = semaphore.NewWeighted(int64(hp.limits.Inflight))
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

// binding is one hook on one head.
type binding struct {
	head *hhook.Head
	hook *hhook.Hook
}

// newHooks returns the hooks the helper has for a head, not yet added to it.
func (hp *helper) newHooks(head *hhook.Head) []*hhook.Hook {
	var hooks []*hhook.Hook
	for _, info := range hp.info.Hooks {
		if info.Point == head.Point() {
			hooks = append(hooks, hhook.NewHook(hp.hookConfig(head, info)))
		}
	}
	return hooks
}

func (hp *helper) hookConfig(head *hhook.Head, info shared.HookInfo) hhook.HookConfig {
	spec := hp.spec.Hook(info.Point)
	limit := shared.DefaultTimeout
	if head.Options().Async {
		limit = head.Options().Budget // nobody waits for the answer, and a busy machine may take its time
	}
	cfg := hhook.HookConfig{
		Helper: hp.name, ID: hp.id, Index: info.Index, UData: info.UData,
		NeedsOSD: hp.info.NeedsOSD, InProc: hp.builtin != nil,
		Timeout: cmp.Or(spec.Timeout, hp.spec.Timeout, limit),
		Order:   spec.Order, Requires: hp.requireNames,
		Policy: hp.policy(spec),
	}
	if hp.builtin != nil {
		cfg.Target = builtinTarget{hp, hp.builtin.Hooks[info.Point]}
	} else {
		cfg.Target = &remote{helper: hp, index: info.Index, mutable: head.Options().Mutable}
	}
	return cfg
}

// policy merges what the operator said of a hook over what was said of the helper.
func (hp *helper) policy(spec shared.HookSpec) hhook.Policy {
	p := hhook.Policy{OnFailure: hp.spec.OnFailure, OnCause: map[shared.Cause]shared.Action{}}
	for c, a := range hp.spec.OnCause {
		p.OnCause[c] = a
	}
	if spec.OnFailure != shared.ActionDefault {
		p = hhook.Policy{OnFailure: spec.OnFailure, OnCause: map[shared.Cause]shared.Action{}}
	}
	for c, a := range spec.OnCause {
		p.OnCause[c] = a
	}
	return p
}

// objectPolicy is the policy for making objects, where there is no head: closed by default if the helper filters anything.
func (hp *helper) objectPolicyLocked() (hhook.Kind, hhook.Policy) {
	kind := hhook.Observe
	for _, b := range hp.bindings {
		if b.head.Options().Kind == hhook.Filter {
			kind = hhook.Filter
		}
	}
	return kind, hp.policy(shared.HookSpec{})
}

// follows reports whether the helper wants a slot on objects of the given classes.
func (hp *helper) follows(classes []shared.Class) bool {
	return hp.info.NeedsOSD && slices.ContainsFunc(hp.classes, func(c shared.Class) bool { return slices.Contains(classes, c) })
}

// refsLocked counts what holds the helper.
func (hp *helper) refsLocked() int { return hp.objects + len(hp.dependants) }

// heldByLocked says who holds the helper, for EBUSY.
func (hp *helper) heldByLocked() string {
	var who []string
	switch hp.objects {
	case 0:
	case 1:
		who = append(who, "1 object")
	default:
		who = append(who, fmt.Sprintf("%d objects", hp.objects))
	}
	for _, d := range hp.dependants {
		who = append(who, d.name)
	}
	return strings.Join(who, ", ")
}

// dropObjectLocked gives back the reference of one object.
func (hp *helper) dropObjectLocked() {
	hp.objects--
	hp.wakeIdleLocked()
}

func (hp *helper) wakeIdleLocked() {
	if hp.refsLocked() == 0 && hp.idle != nil {
		close(hp.idle)
		hp.idle = nil
	}
}

// bindLocked adds the helper's hooks to every head there is, all or none. A hook that the spec marks required must find a head; a head
// that is closing is none any more.
func (hp *helper) bindLocked() error {
	var added []binding
	var failed error
	hp.host.eachHeadLocked(func(head *hhook.Head) {
		hooks := hp.newHooks(head)
		if failed != nil || len(hooks) == 0 {
			return
		}
		if err := head.Add(hooks...); errors.Is(err, shared.ErrClosed) {
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
		for _, b := range added {
			b.head.Remove(b.hook)
		}
		return failed
	}
	hp.bindings, hp.bound = added, true
	return nil
}

func (hp *helper) missingLocked(added []binding) error {
	for _, spec := range hp.spec.Hooks {
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
}

// resumeLocked ends what suspendLocked began.
func (hp *helper) resumeLocked() {
	for _, b := range hp.bindings {
		b.head.Resume(b.hook)
	}
}

// unbindLocked takes the hooks off their heads; runs that began before go on with them.
func (hp *helper) unbindLocked() {
	for _, b := range hp.bindings {
		b.head.Remove(b.hook)
	}
	hp.bound = false
}

// keptHooks is how many hooks whose heads are gone are kept for the calls that may still be under way; of older ones only the counts.
const keptHooks = 16

// dropHeadLocked forgets the bindings to a head that is gone, but not what its hooks counted, and may yet count.
func (hp *helper) dropHeadLocked(head *hhook.Head) {
	hp.bindings = slices.DeleteFunc(hp.bindings, func(b binding) bool {
		if b.head != head {
			return false
		}
		hp.gone = append(hp.gone, b.hook)
		return true
	})
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
