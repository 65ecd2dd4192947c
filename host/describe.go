package host

import (
	"context"
	"strings"

	"github.com/khelp/khelp/shared"
)

// Describe starts a helper, asks what it is and ends it again; nothing is initialised. A spec with a name only is found as Load finds it.
// For a builtin, and a program that was described before under the same sum, nothing is started; what is known of a helper that is loaded,
// Known tells. The errors are those of Load.
func (h *Host) Describe(ctx context.Context, spec shared.HelperSpec) (shared.Modinfo, error) {
	if err := spec.Validate(); err != nil {
		return shared.Modinfo{}, err
	}
	if info, ok := h.known(spec, true); ok {
		return info, nil
	}
	ctx, done, err := h.begin(ctx)
	if err != nil {
		return shared.Modinfo{}, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, h.cfg.StartTimeout)
	defer cancel()
	f := &face{spec: spec}
	named := spec.Name != ""
	if !named {
		f.spec.Name = provisionalName(spec.Command[0])
	}
	// It is no helper of the registry's: nobody can find it, and it takes no name away.
	hp := h.newHelper(f, shared.SourceFilesys)
	in, info, err := h.introduce(ctx, hp, f, nil, 0)
	if err != nil {
		return shared.Modinfo{}, err
	}
	in.abort()
	if named && info.Name != spec.Name {
		return shared.Modinfo{}, misnamed(spec.Name, info.Name)
	}
	return *info, nil
}

// Known returns what is known of a helper without starting anything: it is loaded, builtin, or was described before and its file has not
// changed as far as can be seen.
func (h *Host) Known(spec shared.HelperSpec) (shared.Modinfo, bool) { return h.known(spec, false) }

// known looks at what is loaded and builtin, and then at what was described before; exact has the file's sum decide if the file has
// changed, and does not believe that a file is still what was loaded from it.
func (h *Host) known(spec shared.HelperSpec, exact bool) (shared.Modinfo, bool) {
	spec, info := h.identify(spec, exact)
	if info != nil {
		return *info, true
	}
	if h.cfg.Attach != nil && h.cfg.Attach(spec.Name) != nil {
		return shared.Modinfo{}, false
	}
	command, err := h.command(&spec)
	if err != nil {
		return shared.Modinfo{}, false
	}
	info, sum, ok := h.modinfos.Lookup(command, exact)
	if !ok || spec.SHA256 != "" && !strings.EqualFold(sum, spec.SHA256) || spec.Name != "" && info.Name != spec.Name {
		return shared.Modinfo{}, false
	}
	return *info, true
}

// identify returns the spec that is meant by one with a name only, and what is known of it for certain.
func (h *Host) identify(spec shared.HelperSpec, exact bool) (shared.HelperSpec, *shared.Modinfo) {
	if len(spec.Command) > 0 {
		return spec, nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if hp := h.findLocked(spec.Name); hp != nil && !exact {
		if info := &hp.face.Load().info; info.Name != "" {
			return spec, info
		}
	}
	if b := h.offered[spec.Name]; b != nil {
		info := b.modinfo()
		return spec, &info
	}
	if configured, ok := h.catalogue[spec.Name]; ok {
		return configured, nil
	}
	return spec, nil
}

// remember keeps what a helper has said of itself for the next time.
func (h *Host) remember(in *instance, info *shared.Modinfo) {
	if sum := in.end.SHA256(); sum != "" {
		if command, err := h.command(&in.face.spec); err == nil {
			h.modinfos.Store(command, sum, info)
		}
	}
}
