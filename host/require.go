package host

import (
	"context"
	"errors"
	"fmt"

	"github.com/khelp/khelp/shared"
)

// requireAll sees to it that whoever a helper requires is active, and has the helper hold them.
func (h *Host) requireAll(ctx context.Context, hp *helper, f *face, l *loading) error {
	if n := len(f.requireNames()); n > h.cfg.MaxRequires {
		return shared.ErrInvalid.Errorf("%s requires %d helpers, the limit is %d", hp.name, n, h.cfg.MaxRequires)
	}
	h.mu.Lock()
	hp.op.face = f // so that nobody takes over meanwhile whose version it cannot work with
	h.mu.Unlock()
	for _, r := range f.requires {
		if err := h.require(ctx, hp, r, l); err != nil {
			return fmt.Errorf("%s requires %s: %w", hp.name, r.Name, err)
		}
	}
	return nil
}

// require sees to it that one requirement is active and held: it is there, or is just being loaded, or is loaded now.
func (h *Host) require(ctx context.Context, hp *helper, r shared.Requirement, l *loading) error {
	for {
		busy, err := h.tryRequire(hp, r, l.depth)
		switch {
		case errors.Is(err, errNotThere):
			err = h.bringRequired(ctx, hp, r.Name, l)
		case err == nil && busy != nil:
			err = h.awaitRequired(ctx, hp, busy)
		default:
			return err
		}
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ended(ctx, "loading "+r.Name)
		}
	}
}

var errNotThere = errors.New("not loaded")

// tryRequire links a requirement that is active. It returns errNotThere if it must be loaded, and the helper itself if something is under
// way on it.
func (h *Host) tryRequire(hp *helper, r shared.Requirement, depth int) (busy *helper, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	other := h.findLocked(r.Name)
	switch {
	case hp.builtin != nil && (other != nil && other.builtin == nil || other == nil && h.offered[r.Name] == nil):
		return nil, shared.ErrNotExist.Errorf("a builtin can require builtins only")
	case other == nil:
		return nil, errNotThere
	case other.isActiveLocked():
		// Who is replaced, and active all the while, may have come to require one that requires it.
		if path := path(other, hp, func(x *helper) []*helper { return x.requires }); path != nil {
			return nil, circular(path)
		}
		if err := meets(r.Name, other.face.Load().info.Version, r.Constraint); err != nil {
			return nil, err
		}
		if deep := depth + 1 + other.heightLocked(); deep > h.cfg.MaxDepth {
			return nil, tooDeep(deep, h.cfg.MaxDepth)
		}
		hp.linkLocked(other)
		return nil, nil
	case other.op != nil:
		return other, nil
	case other.state == shared.StateFailed:
		return nil, shared.ErrNotExist.Errorf("it has failed: %s", other.lastErr)
	default: // primed, or disabled
		return nil, errNotThere
	}
}

// awaitRequired waits for what is under way on a requirement. If it is a load that fails, the reason is the answer for all that wait,
// unless it lay in how that load was asked for.
func (h *Host) awaitRequired(ctx context.Context, hp, other *helper) error {
	op, err := h.await(ctx, hp, other)
	if err != nil || op == nil || op.particular {
		return err
	}
	return op.err
}

// bringRequired loads what a helper requires.
func (h *Host) bringRequired(ctx context.Context, hp *helper, name string, l *loading) error {
	if l.depth >= h.cfg.MaxDepth {
		return tooDeep(l.depth+1, h.cfg.MaxDepth)
	}
	spec, err := h.autoloadable(hp, l.incarnation, name, l.noAutoload)
	if err != nil {
		return err
	}
	child := &loading{force: l.force, noAutoload: l.noAutoload, auto: true, parent: hp, depth: l.depth + 1}
	other, err := h.enter(ctx, spec, child)
	if errors.Is(err, shared.ErrExist) && h.onItsWay(name) {
		return nil // somebody else was faster
	}
	if err != nil {
		return err
	}
	if err := h.bring(ctx, other, child); err != nil {
		return err
	}
	l.brought = append(append(l.brought, child.brought...), brought{other, child.claimed})
	return nil
}

// onItsWay reports whether a helper is active or will be, or not, without anybody's doing.
func (h *Host) onItsWay(name string) bool {
	hp, bound, busy := h.look(name)
	return hp == nil || bound || busy
}

// heightLocked returns how deep the requirements of an active helper go.
func (hp *helper) heightLocked() int {
	height := 0
	for _, r := range hp.requires {
		height = max(height, 1+r.heightLocked())
	}
	return height
}

func tooDeep(deep, limit int) error {
	return shared.ErrTooManyLinks.Errorf("it would be requirement %d in a row, the limit is %d", deep, limit)
}

// autoloadable returns the spec of a helper that is to be loaded without an operator asking for it, if it may be: rule L21. Whoever asks
// on behalf of somebody who may not have helpers autoloaded is refused. A refusal is told to everybody.
func (h *Host) autoloadable(asker *helper, incarnation uint32, name string, refused bool) (shared.HelperSpec, error) {
	h.mu.Lock()
	spec, configured := h.catalogue[name]
	there := h.findLocked(name)
	if h.leavingLocked(name) != nil {
		there = nil
	}
	active := there != nil && (there.bound || there.op != nil) // or soon; it may have become so just now
	allowed := h.cfg.Autoload.Allows(name, configured || h.offered[name] != nil)
	h.mu.Unlock()
	if spec.Name == "" {
		spec.Name = name
	}
	var err error
	switch {
	case active:
	case refused:
		err = shared.ErrPermission.Errorf("%s asks for %s, but whoever asked for %s may not have helpers autoloaded", asker.name, name, asker.name)
	case there != nil || allowed:
	default:
		if err := h.exists(&spec); err != nil {
			return spec, err // there is nothing that could be allowed
		}
		err = shared.ErrPermission.Errorf("%s asks for %s, which is not configured and may not be autoloaded", asker.name, name)
	}
	if err != nil {
		h.refused(asker, incarnation, err)
	}
	return spec, err
}

// refused tells of a helper's request that was not permitted.
func (h *Host) refused(asker *helper, incarnation uint32, err error) {
	h.publish(Event{Type: EventRefused, Helper: asker.name, Incarnation: incarnation, Message: err.Error()})
	asker.log.Warn("load refused", "error", err)
}
