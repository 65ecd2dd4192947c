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
	helpers, err := bootOrder(d.cfg.Helpers)
	if err != nil {
		return &configError{err}
	}
	var diags hcl.Diagnostics
	broken, ours, tried := 0, false, 0
	for _, h := range helpers {
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
	_ = d.app.diagnose(d.cfg.Files, diags) // if nobody reads that, the exit code still tells
	err = fmt.Errorf("%d of %s could not be loaded", broken, plural(tried, "helper"))
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

// bootOrder returns the helpers to load at start: as they stand, but each behind those that it is configured to require.
func bootOrder(helpers []config.Helper) ([]*config.Helper, error) {
	var boot []*config.Helper
	var requiring []shared.Requiring
	for i := range helpers {
		if h := &helpers[i]; h.Spec.Load == shared.LoadBoot {
			boot = append(boot, h)
			requiring = append(requiring, shared.Requiring{Helper: h.Spec.Name, Requires: h.Spec.Requires})
		}
	}
	order, err := shared.SortRequires(requiring)
	if err != nil {
		return nil, err
	}
	sorted := make([]*config.Helper, len(order))
	for i, k := range order {
		sorted[i] = boot[k]
	}
	return sorted, nil
}
