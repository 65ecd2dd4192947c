package host

import (
	"cmp"
	"context"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/khelp/khelp/shared"
)

// BootError is what became of one helper that was to be there from the start.
type BootError struct {
	Helper string
	Err    error
}

func (e *BootError) Error() string { return e.Helper + ": " + e.Err.Error() }

// Unwrap returns the reason.
func (e *BootError) Unwrap() error { return e.Err }

// startsAtOnce returns how many helpers start and describe themselves at once. They are mostly waited for, so there are more than processors.
func startsAtOnce() int { return max(16, 4*runtime.GOMAXPROCS(0)) }

// sideBySide calls f for 0 to n-1, limit at once (-1: all), and returns the errors in that order. With a limit, no call may wait for another.
func sideBySide(n, limit int, f func(int) *BootError) []*BootError {
	errs := make([]*BootError, n)
	var g errgroup.Group
	g.SetLimit(limit)
	for i := range n {
		g.Go(func() error {
			errs[i] = f(i)
			return nil
		})
	}
	_ = g.Wait() // no function returns an error
	return slices.DeleteFunc(errs, func(e *BootError) bool { return e == nil })
}

// entry is a helper that has been entered to be loaded, or why it could not be.
type entry struct {
	spec   shared.HelperSpec
	helper *helper
	l      *loading
	err    error
}

// enterAll enters helpers in the order given, which is the order of loading from then on, all at once: whoever waited for one that is
// leaving, with others entered, could keep it from doing so.
func (h *Host) enterAll(ctx context.Context, specs []shared.HelperSpec, priming bool) []entry {
	entries := make([]entry, len(specs))
	for i, spec := range specs {
		entries[i] = entry{spec: spec, l: &loading{priming: priming}, err: spec.Validate()}
	}
	for {
		leaving := h.tryEnterAll(entries)
		if leaving == nil {
			return entries
		}
		if err := h.await(ctx, nil, leaving); err != nil {
			for i := range entries {
				entries[i].err = cmp.Or(entries[i].err, err)
			}
			return entries
		}
	}
}

// tryEnterAll is enterAll but for the waiting: it returns whom to wait for, and then has entered none.
func (h *Host) tryEnterAll(entries []entry) (leaving *helper) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range entries {
		if e := &entries[i]; e.err == nil {
			f, _ := e.l.face(e.spec)
			if hp := h.leavingLocked(f.spec.Name); hp != nil {
				return hp
			}
		}
	}
	for i := range entries {
		if e := &entries[i]; e.err == nil {
			f, named := e.l.face(e.spec)
			e.helper, e.err = h.enterLocked(f, named, e.l)
		}
	}
	return nil
}

func (e *entry) failed(err error) *BootError {
	if err == nil {
		return nil
	}
	name := e.spec.Name
	if name == "" {
		name = provisionalName(e.spec.Command[0])
	}
	return &BootError{Helper: name, Err: err}
}

// LoadAll loads helpers side by side, each behind those it requires. They stand in the order given, as if they had been loaded one after
// another. The result has an error for each that failed.
func (h *Host) LoadAll(ctx context.Context, specs []shared.HelperSpec) []*BootError {
	ctx, done, err := h.begin(ctx)
	if err != nil {
		return allFailed(specs, err)
	}
	defer done()
	entries := h.enterAll(ctx, specs, false)
	return sideBySide(len(entries), -1, func(i int) *BootError {
		e := &entries[i]
		if e.err == nil {
			e.err = h.bring(ctx, e.helper, e.spec.Name != "", e.l)
		}
		if e.err != nil {
			h.publish(Event{Type: EventLoadFailed, Helper: e.failed(e.err).Helper, Message: e.err.Error()})
		}
		return e.failed(e.err)
	})
}

func allFailed(specs []shared.HelperSpec, err error) []*BootError {
	out := make([]*BootError, len(specs))
	for i := range specs {
		e := entry{spec: specs[i]}
		out[i] = e.failed(err)
	}
	return out
}

// Prime launches helpers and asks what they are, side by side, and leaves them in the state primed: NetBSD's module_prime, for what the
// boot loader has brought. InitClass initialises them, Load does if one is asked for, and a requirement does; EndBoot ends those that
// nobody claimed. The result has an error for each helper that could not be primed; of these nothing stays behind.
func (h *Host) Prime(ctx context.Context, specs []shared.HelperSpec) []*BootError {
	ctx, done, err := h.begin(ctx)
	if err != nil {
		return allFailed(specs, err)
	}
	defer done()
	entries := h.enterAll(ctx, specs, true)
	return sideBySide(len(entries), -1, func(i int) *BootError {
		e := &entries[i]
		if e.err == nil {
			e.err = h.prime(ctx, e.helper, e.spec.Name != "", e.l)
		}
		return e.failed(e.err)
	})
}

// prime launches and describes a helper that is entered, and ends that operation.
func (h *Host) prime(ctx context.Context, hp *helper, named bool, l *loading) error {
	in, f, err := h.describeEntered(ctx, hp, named)
	h.mu.Lock()
	defer h.mu.Unlock()
	defer hp.endLocked()
	if err != nil {
		hp.failure = err
		h.unenterLocked(hp, l)
		return err
	}
	hp.face.Store(f)
	hp.inst.Store(in)
	hp.state = shared.StatePrimed
	hp.source = shared.SourceBoot
	if hp.builtin != nil {
		hp.source = shared.SourceBuiltin
	}
	h.publish(Event{Type: EventPrimed, Helper: hp.name, Message: "version " + f.info.Version})
	return nil
}

// describeEntered finds out what a helper is that is entered; for a builtin there is no instance.
func (h *Host) describeEntered(ctx context.Context, hp *helper, named bool) (*instance, *face, error) {
	if hp.builtin != nil {
		info := hp.builtin.modinfo()
		f, err := hp.face.Load().described(&info)
		return nil, f, err
	}
	in, err := h.meet(ctx, hp, named, nil)
	if err != nil {
		return nil, nil, err
	}
	return in, in.face, nil
}

// InitClass initialises the primed helpers that follow a class, "" for all that are left, each behind those it requires and side by side
// otherwise, but builtins first: module_init_class. The result has an error for each that failed; those are gone.
func (h *Host) InitClass(ctx context.Context, class shared.Class) []*BootError {
	ctx, done, err := h.begin(ctx)
	if err != nil {
		return []*BootError{{Helper: "", Err: err}}
	}
	defer done()
	builtins, others := h.primed(class)
	var failed []*BootError
	for _, group := range [][]*helper{builtins, others} {
		failed = append(failed, sideBySide(len(group), -1, func(i int) *BootError {
			if err := h.initPrimed(ctx, group[i]); err != nil {
				return &BootError{Helper: group[i].name, Err: err}
			}
			return nil
		})...)
	}
	return failed
}

// primed returns the primed helpers that follow a class.
func (h *Host) primed(class shared.Class) (builtins, others []*helper) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, hp := range h.helpers {
		switch {
		case hp.state != shared.StatePrimed, class != "" && !slices.Contains(hp.face.Load().classes, class):
		case hp.builtin != nil:
			builtins = append(builtins, hp)
		default:
			others = append(others, hp)
		}
	}
	return builtins, others
}

// initPrimed initialises a primed helper, unless somebody who requires it does so already: then it waits for that.
func (h *Host) initPrimed(ctx context.Context, hp *helper) error {
	l := &loading{}
	for {
		busy, err := h.claimPrimed(hp, l)
		switch {
		case busy:
			err = h.await(ctx, nil, hp)
		case l.claimed == "":
			return err
		default:
			if err = h.bring(ctx, hp, true, l); err != nil {
				h.publish(Event{Type: EventLoadFailed, Helper: hp.name, Message: err.Error()})
			}
			return err
		}
		if err != nil {
			return err
		}
	}
}

// claimPrimed begins the load of a primed helper; or reports that something is under way on it; or returns what somebody else's load of it
// came to, and nothing is claimed.
func (h *Host) claimPrimed(hp *helper, l *loading) (busy bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case hp.op != nil:
		return true, nil
	case hp.state != shared.StatePrimed || !slices.Contains(h.helpers, hp):
		return false, hp.failure
	}
	l.claimed = hp.state
	hp.state = shared.StateStarting
	hp.beginLocked(0)
	return false, nil
}

// EndBoot ends the primed helpers that nobody has claimed, and logs them.
func (h *Host) EndBoot(ctx context.Context) {
	ctx, done, err := h.begin(ctx)
	if err != nil {
		return
	}
	defer done()
	builtins, others := h.primed("")
	for _, hp := range slices.Concat(builtins, others) {
		if err := h.unload(ctx, hp, unloading{unclaimed: true, disable: true}); err == nil {
			hp.log.Warn("primed at start, but claimed by nobody: ended")
		}
	}
}
