package host

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/khelp/khelp/shared"
)

// Configure says which helpers the operator has configured, instead of what the last Configure said: whom requirements and helpers may
// have loaded (rule L21), with what properties and limits, and who is loaded on demand. It loads nothing: what loads at start is for
// Prime and InitClass, or for Load. A helper with LoadDemand is described, once for each sum of its file, so that its points and classes
// are known; the errors of those that cannot be are joined, each a *BootError. Specs must have names, no two the same; else the error is
// ErrInvalid or ErrExist and nothing has changed.
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
	faces, failed := h.demandFaces(ctx, specs)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.catalogue = catalogue
	h.setDemandsLocked(faces)
	errs := make([]error, len(failed))
	for i, e := range failed {
		errs[i] = e
	}
	return errors.Join(errs...)
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

// demandFaces finds out what helpers are that load on demand.
func (h *Host) demandFaces(ctx context.Context, specs []shared.HelperSpec) ([]*face, []*BootError) {
	var demanded []shared.HelperSpec
	for i := range specs {
		if specs[i].Load == shared.LoadDemand {
			demanded = append(demanded, specs[i])
		}
	}
	faces := make([]*face, len(demanded))
	failed := sideBySide(len(demanded), startsAtOnce(), func(i int) *BootError {
		info, err := h.Describe(ctx, demanded[i])
		if err == nil {
			f := &face{spec: demanded[i]}
			if faces[i], err = f.described(&info); err == nil {
				_, err = faces[i].properties()
			}
		}
		if err != nil {
			return &BootError{Helper: demanded[i].Name, Err: err}
		}
		return nil
	})
	return faces, failed
}

// setDemandsLocked makes others the helpers that load on demand. A face that is nil is that of one that could not be described.
func (h *Host) setDemandsLocked(faces []*face) {
	for name := range maps.Clone(h.demands) {
		h.delistLocked(name)
	}
	for _, f := range faces {
		if f != nil {
			h.enlistLocked(f)
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
