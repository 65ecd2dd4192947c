package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/hcl/v2"

	"github.com/khelp/khelp/config"
	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/shared"
)

// boot loads the helpers that are to be there from the start, each after those it requires. All are tried, so that all that is wrong
// is shown at once; then any failure is the daemon's.
func (d *server) boot(ctx context.Context) error {
	var diags hcl.Diagnostics
	broken, ours, tried := 0, false, 0
	for _, h := range bootOrder(d.cfg.Helpers) {
		tried++
		err := d.host.Load(ctx, h.Spec, host.LoadOptions{})
		if err == nil {
			continue
		}
		if ctx.Err() != nil {
			return fmt.Errorf("load %s: %w", h.Spec.Name, err)
		}
		broken++
		ours = ours || !configFault(err)
		for _, diag := range d.cfg.Diagnose(h.Spec.Name, err) {
			diag.Detail = printable(diag.Detail) // a helper may have had its say in it
			diags = append(diags, diag)
		}
	}
	if broken == 0 {
		return nil
	}
	if err := d.app.diagnose(d.cfg.Files, diags); err != nil {
		return err
	}
	err := fmt.Errorf("%d of %s could not be loaded", broken, plural(tried, "helper"))
	if ours {
		return err
	}
	return &configError{err}
}

// configFault reports whether a helper could not be loaded for a reason that lies in the configuration or in the file it names, and
// will not go away by trying again.
func configFault(err error) bool {
	return slices.ContainsFunc([]error{
		shared.ErrNotExist, shared.ErrInvalid, shared.ErrNoExec, shared.ErrPermission, shared.ErrIncompatible, shared.ErrNameTooLong,
		shared.ErrExist, shared.ErrDeadlock, shared.ErrTooManyLinks, shared.ErrTooLarge, shared.ErrUnsupported,
	}, func(sentinel error) bool { return errors.Is(err, sentinel) })
}

// bootOrder returns the helpers to load at start: as they stand, but each behind those that it is configured to require. Circles have
// been refused with the configuration.
func bootOrder(helpers []config.Helper) []*config.Helper {
	byName := make(map[string]*config.Helper, len(helpers))
	for i := range helpers {
		byName[helpers[i].Spec.Name] = &helpers[i]
	}
	var order []*config.Helper
	seen := make(map[string]bool, len(helpers))
	var visit func(*config.Helper)
	visit = func(h *config.Helper) {
		if seen[h.Spec.Name] || h.Spec.Load != shared.LoadBoot {
			return
		}
		seen[h.Spec.Name] = true
		for _, r := range h.Spec.Requires {
			if required := byName[r.Name]; required != nil {
				visit(required)
			}
		}
		order = append(order, h)
	}
	for i := range helpers {
		visit(&helpers[i])
	}
	return order
}
