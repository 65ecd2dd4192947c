package host

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/khelp/khelp/shared"
)

// Configure says which helpers the operator has configured, instead of what the last Configure said: whom requirements and helpers may
// have loaded (rule L21), with what properties and limits, and who is loaded on demand. It loads nothing: what loads at start is for
// Prime and InitClass, or for Load. A helper with LoadDemand is described, once for each sum of its file, so that its points and classes
// are known; the errors of those that cannot be are joined, each a *BootError. Specs must have names, no two the same; else the error is
// ErrInvalid or ErrExist and nothing has changed. It is ErrBusy while another Configure or a Reconfigure is under way.
func (h *Host) Configure(ctx context.Context, specs []shared.HelperSpec) error {
	catalogue, err := catalogueOf(specs)
	if err != nil {
		return err
	}
	ctx, done, err := h.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	if err := h.beginChange(); err != nil {
		return err
	}
	defer h.endChange()
	faces, failed := h.demandFaces(ctx, specs)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.setCatalogueLocked(catalogue)
	h.setDemandsLocked(specs, faces, nil)
	errs := make([]error, len(failed))
	for i, e := range failed {
		errs[i] = e
	}
	return errors.Join(errs...)
}

// setCatalogueLocked makes others the configured helpers.
func (h *Host) setCatalogueLocked(next map[string]shared.HelperSpec) {
	before := h.catalogue
	h.catalogue = next
	h.forgetPingPongsLocked(time.Now(), func(name string) bool {
		_, was := before[name]
		_, is := next[name]
		return was && !is
	})
}

// catalogueOf checks specs and returns them by name.
func catalogueOf(specs []shared.HelperSpec) (map[string]shared.HelperSpec, error) {
	out := make(map[string]shared.HelperSpec, len(specs))
	for i := range specs {
		spec := &specs[i]
		if err := shared.ValidateName("helper name", spec.Name); err != nil {
			return nil, err
		}
		if err := spec.Validate(); err != nil {
			return nil, fmt.Errorf("helper %s: %w", spec.Name, err)
		}
		if _, twice := out[spec.Name]; twice {
			return nil, shared.ErrExist.Errorf("helper %s is configured twice", spec.Name)
		}
		out[spec.Name] = *spec
	}
	return out, nil
}

// demandFaces finds out what those of some helpers are that load on demand. The others, and those of which it cannot be found out, have
// none.
func (h *Host) demandFaces(ctx context.Context, specs []shared.HelperSpec) ([]*face, []*BootError) {
	faces := make([]*face, len(specs))
	g := newGate()
	failed := sideBySide(len(specs), func(i int) *BootError {
		if specs[i].Load != shared.LoadDemand {
			return nil
		}
		if err := g.enter(ctx); err != nil {
			return &BootError{Helper: specs[i].Name, Err: err}
		}
		defer g.leave()
		f, err := h.demandFace(ctx, &specs[i])
		if err != nil {
			return &BootError{Helper: specs[i].Name, Err: err}
		}
		faces[i] = f
		return nil
	})
	return faces, failed
}

func (h *Host) demandFace(ctx context.Context, spec *shared.HelperSpec) (*face, error) {
	info, err := h.Describe(ctx, *spec)
	if err != nil {
		return nil, err
	}
	asked := face{spec: *spec}
	f, err := asked.described(&info)
	if err != nil {
		return nil, err
	}
	_, err = f.properties()
	return f, err
}

// setDemandsLocked makes others the helpers that load on demand. What is kept stays as it is, if it does not become another.
func (h *Host) setDemandsLocked(specs []shared.HelperSpec, faces []*face, kept func(name string) bool) {
	gone := maps.Clone(h.demands)
	for i, f := range faces {
		if f != nil {
			delete(gone, specs[i].Name)
			h.enlistLocked(f, i)
		}
	}
	for name := range gone {
		if kept == nil || !kept(name) {
			h.delistLocked(name)
		}
	}
}

// Configured returns the spec that Configure was given for a name.
func (h *Host) Configured(name string) (shared.HelperSpec, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	spec, ok := h.catalogue[name]
	return spec, ok
}
