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

// bootClasses are the classes that the subsystems of khelpd export, in the order in which their helpers start; "" stands for all others.
var bootClasses = []shared.Class{"tcp", "socket", ""}

// boot brings up the helpers that are to be there from the start: all are launched side by side and then initialised class by class, each
// behind those it requires. All are tried, so that all that is wrong is shown at once; then any failure is the daemon's.
func (d *server) boot(ctx context.Context, cfg *config.Config) error {
	specs := specsOf(cfg)
	failures, err := bootErrors(d.host.Configure(ctx, specs))
	if err != nil {
		return &configError{err}
	}
	specs = slices.DeleteFunc(specs, func(s shared.HelperSpec) bool { return s.Load == shared.LoadManual })
	tried := len(specs)
	specs = slices.DeleteFunc(specs, func(s shared.HelperSpec) bool { return s.Load == shared.LoadDemand })
	failures = append(failures, d.host.Prime(ctx, specs)...)
	for _, class := range bootClasses {
		failures = append(failures, d.host.InitClass(ctx, class)...)
	}
	d.host.EndBoot(ctx)
	if len(failures) == 0 {
		return ctx.Err()
	}
	if ctx.Err() != nil {
		return fmt.Errorf("load %w", failures[0])
	}
	return d.bootFailed(cfg, failures, tried)
}

// bootFailed shows what is wrong and returns what the daemon ends with.
func (d *server) bootFailed(cfg *config.Config, failures []*host.BootError, tried int) error {
	var diags hcl.Diagnostics
	ours := false
	for _, f := range failures {
		ours = ours || !configFault(f.Err)
		diags = append(diags, diagnosed(cfg, f.Helper, f.Err)...)
	}
	_ = d.app.diagnose(cfg.Files, diags) // if nobody reads that, the exit code still tells
	err := fmt.Errorf("%d of %s could not be loaded", len(failures), plural(tried, "helper"))
	if ours {
		return err
	}
	return &configError{err}
}

// bootErrors takes apart what Configure has joined. The error is what is of no helper.
func bootErrors(err error) ([]*host.BootError, error) {
	var one *host.BootError
	joined, many := err.(interface{ Unwrap() []error })
	switch {
	case err == nil:
		return nil, nil
	case many && errors.As(err, &one):
		var failures []*host.BootError
		var rest []error
		for _, e := range joined.Unwrap() {
			f, err := bootErrors(e)
			failures, rest = append(failures, f...), append(rest, err)
		}
		return failures, errors.Join(rest...)
	case errors.As(err, &one):
		return []*host.BootError{one}, nil
	default:
		return nil, err
	}
}

// configFault reports whether a helper could not be loaded for a reason that lies in the configuration or in the file it names, and
// will not go away by trying again.
func configFault(err error) bool {
	return slices.ContainsFunc([]error{
		shared.ErrNotExist, shared.ErrInvalid, shared.ErrNoExec, shared.ErrPermission, shared.ErrIncompatible, shared.ErrNameTooLong,
		shared.ErrExist, shared.ErrDeadlock, shared.ErrTooManyLinks, shared.ErrTooLarge, shared.ErrUnsupported,
	}, func(sentinel error) bool { return errors.Is(err, sentinel) })
}

// specsOf returns what a configuration asks of helpers, in its order.
func specsOf(cfg *config.Config) []shared.HelperSpec {
	specs := make([]shared.HelperSpec, len(cfg.Helpers))
	for i := range cfg.Helpers {
		specs[i] = cfg.Helpers[i].Spec
	}
	return specs
}
