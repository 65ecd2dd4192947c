package host

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/khelp/khelp/shared"
)

// operation is a load, an unload or a replacement under way on a helper. There is one at a time. It ends by itself: every step of it has
// a deadline.
type operation struct {
	helper *helper
	depth  int           // how many requirements deep a load is
	done   chan struct{} // closed when it has ended
	face   *face         // what the helper is about to be, from the moment on that it holds whom it requires for that; nil: not so far

	noAutoload bool // whoever asked for it may not have helpers autoloaded, by the helper's own requests either

	// The following are set before it ends.
	err        error // why a load has failed
	particular bool  // and that says nothing about another load of the helper
}

// beginLocked enters an operation on a helper that has none.
func (hp *helper) beginLocked(depth int) {
	hp.op = &operation{helper: hp, depth: depth, done: make(chan struct{})}
	hp.failure = nil
}

// overLocked reports whether the operation has ended.
func (op *operation) overLocked() bool { return op.helper.op != op }

// endLocked ends what beginLocked began.
func (hp *helper) endLocked() {
	close(hp.op.done)
	hp.op = nil
	hp.host.kick()
}

// endOperation ends what somebody waits for, who may be nil.
func (h *Host) endOperation(hp, waits *helper) {
	h.mu.Lock()
	defer h.mu.Unlock()
	op := hp.op
	hp.endLocked()
	h.independLocked(waits, op)
}

// waits are who cannot go on before which operations have ended. As helpers have others loaded and unloaded in their Init and their Fini,
// and wait for what others have begun, circles are looked for here, where all of them are seen, and not along one load.
type waits map[*helper][]*operation

// pathLocked returns the helpers from one to another, each waiting for the next, or nil. Whoever waited for what has ended in the meantime
// is about to go on.
func (w waits) pathLocked(from, to *helper) []*helper {
	return path(from, to, func(at *helper) []*helper {
		var next []*helper
		for _, op := range w[at] {
			if !op.overLocked() {
				next = append(next, op.helper)
			}
		}
		return next
	})
}

// path returns the helpers from one to another, each leading to the next, or nil.
func path(from, to *helper, next func(*helper) []*helper) []*helper {
	seen := map[*helper]bool{}
	var visit func(*helper) []*helper
	visit = func(at *helper) []*helper {
		if at == to {
			return []*helper{at}
		}
		if seen[at] {
			return nil
		}
		seen[at] = true
		for _, n := range next(at) {
			if rest := visit(n); rest != nil {
				return append([]*helper{at}, rest...)
			}
		}
		return nil
	}
	return visit(from)
}

// circular is the error of a path that leads back to where it began.
func circular(path []*helper) error {
	var names []string
	for _, x := range path {
		names = append(names, x.name)
	}
	return shared.ErrDeadlock.Errorf("the requirements go in a circle: %s", strings.Join(append(names, names[0]), " → "))
}

// dependLocked enters that hp, unless it is nil, cannot go on before the operation under way on other has ended. If other waits for hp
// already, that is ErrDeadlock with the circle. Undo it with independLocked.
func (h *Host) dependLocked(hp, other *helper) error {
	if hp == nil {
		return nil
	}
	if path := h.waits.pathLocked(other, hp); path != nil {
		return circular(path)
	}
	h.waits[hp] = append(h.waits[hp], other.op)
	return nil
}

// independLocked undoes dependLocked. Op may have ended.
func (h *Host) independLocked(hp *helper, op *operation) {
	if hp == nil {
		return
	}
	if i := slices.Index(h.waits[hp], op); i >= 0 {
		h.waits[hp] = slices.Delete(h.waits[hp], i, i+1)
	}
	if len(h.waits[hp]) == 0 {
		delete(h.waits, hp)
	}
}

func (h *Host) independ(hp *helper, op *operation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.independLocked(hp, op)
}

// await waits until the operation under way on other has ended, on behalf of hp; nil stands for somebody who is no helper. It returns the
// operation, nil if there was none.
func (h *Host) await(ctx context.Context, hp, other *helper) (*operation, error) {
	h.mu.Lock()
	op, name := other.op, other.name
	if op == nil {
		h.mu.Unlock()
		return nil, nil
	}
	err := h.dependLocked(hp, other)
	h.mu.Unlock()
	if err != nil {
		return nil, err
	}
	defer h.independ(hp, op)
	select {
	case <-op.done:
		return op, nil
	case <-ctx.Done():
		return nil, ended(ctx, "waiting for "+name)
	}
}

// ended returns why a context has ended, as a sentinel.
func ended(ctx context.Context, doing string) error {
	err := context.Cause(ctx)
	if sentinel := (*shared.Error)(nil); errors.As(err, &sentinel) {
		return err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return shared.ErrTimeout.Errorf("%s: %w", doing, err)
	}
	return shared.ErrCanceled.Errorf("%s: %w", doing, err)
}
