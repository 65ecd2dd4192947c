package host

import (
	"cmp"
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"

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

// sideBySide calls f for 0 to n-1, all at once, and returns the errors in that order. They may wait for one another, so what is to be
// bounded must be so within f.
func sideBySide(n int, f func(int) *BootError) []*BootError {
	errs := make([]*BootError, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { errs[i] = f(i) })
	}
	all.Wait()
	return slices.DeleteFunc(errs, func(e *BootError) bool { return e == nil })
}

// gate bounds how many of a number of helpers come up at once. It is passed by whoever waits for nobody else. A nil gate is open.
type gate chan struct{}

// newGate returns a gate for more helpers than there are processors: they mostly wait for their processes.
func newGate() gate { return make(gate, max(16, 4*runtime.GOMAXPROCS(0))) }

func (g gate) enter(ctx context.Context) error {
	if g == nil {
		return nil
	}
	select {
	case g <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ended(ctx, "waiting for others to come up")
	}
}

func (g gate) leave() {
	if g != nil {
		<-g
	}
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
	g := newGate()
	entries := make([]entry, len(specs))
	for i, spec := range specs {
		entries[i] = entry{spec: spec, l: &loading{priming: priming, gate: g}, err: spec.Validate()}
	}
	for {
		leaving := h.tryEnterAll(entries)
		if leaving == nil {
			break
		}
		if _, err := h.await(ctx, nil, leaving); err != nil {
			for i := range entries {
				entries[i].err = cmp.Or(entries[i].err, err)
			}
			return entries
		}
	}
	for i := range entries { // a file whose name somebody has may have another of its own
		if e := &entries[i]; e.l.guessed && errors.Is(e.err, shared.ErrExist) {
			e.helper, e.err = h.enter(ctx, e.spec, e.l)
		}
	}
	return entries
}

// tryEnterAll is enterAll but for the waiting: it returns whom to wait for, and then has entered none.
func (h *Host) tryEnterAll(entries []entry) (leaving *helper) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range entries {
		if e := &entries[i]; e.err == nil {
			if hp := h.leavingLocked(nameOf(&e.spec)); hp != nil {
				return hp
			}
		}
	}
	for i := range entries {
		if e := &entries[i]; e.err == nil {
			e.helper, e.err = h.enterLocked(e.l.face(e.spec), e.l)
		}
	}
	return nil
}

func (e *entry) failed(err error) *BootError {
	if err == nil {
		return nil
	}
	return &BootError{Helper: nameOf(&e.spec), Err: err}
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
	return sideBySide(len(entries), func(i int) *BootError {
		e := &entries[i]
		if e.err == nil {
			e.err = h.bring(ctx, e.helper, e.l)
		}
		if e.err != nil {
			h.loadFailed(nameOf(&e.spec), e.err)
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
	return sideBySide(len(entries), func(i int) *BootError {
		e := &entries[i]
		if e.err == nil {
			e.err = h.prime(ctx, e.helper, e.l)
		}
		return e.failed(e.err)
	})
}

// prime launches and describes a helper that is entered, and ends that operation.
func (h *Host) prime(ctx context.Context, hp *helper, l *loading) error {
	in, f, err := h.describeEntered(ctx, hp, l)
	h.mu.Lock()
	defer h.mu.Unlock()
	defer hp.endLocked()
	if err != nil {
		h.unenterLocked(hp, l)
		hp.op.err, hp.op.particular = err, l.particular(ctx, err)
		return err
	}
	hp.face.Store(f)
	hp.inst.Store(in)
	hp.state, hp.changedAt = shared.StatePrimed, time.Now()
	hp.source = shared.SourceBoot
	if hp.builtin != nil {
		hp.source = shared.SourceBuiltin
	}
	h.publish(hp.primedEventLocked())
	return nil
}

// describeEntered finds out what a helper is that is entered; for a builtin there is no instance.
func (h *Host) describeEntered(ctx context.Context, hp *helper, l *loading) (*instance, *face, error) {
	if hp.builtin != nil {
		info := hp.builtin.modinfo()
		f, err := hp.face.Load().described(&info)
		return nil, f, err
	}
	in, err := h.meet(ctx, hp, l, 1)
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
		failed = append(failed, sideBySide(len(group), func(i int) *BootError {
			if err := h.initPrimed(ctx, group[i]); err != nil {
				h.loadFailed(group[i].name, err)
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
	for {
		mine, err := h.claimPrimed(hp)
		switch {
		case err != nil:
			return err
		case mine:
			return h.bring(ctx, hp, &loading{claimed: shared.StatePrimed})
		}
		if op, err := h.await(ctx, nil, hp); err != nil || op == nil {
			return err
		}
	}
}

// claimPrimed begins to load a primed helper and reports true, unless somebody else has. The error is that of a load that has failed.
func (h *Host) claimPrimed(hp *helper) (mine bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case hp.op != nil:
		return false, nil
	case !slices.Contains(h.helpers, hp):
		return false, hp.failure // nil: it has been unloaded
	case hp.state != shared.StatePrimed:
		return false, nil
	}
	hp.state = shared.StateStarting
	hp.beginLocked(0)
	return true, nil
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
		if err := h.unload(ctx, hp, unloading{unclaimed: true, disable: true, forget: true}); err == nil {
			hp.log.Warn("primed at start, but claimed by nobody: ended")
		}
	}
}
