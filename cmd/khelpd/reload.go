package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/hcl/v2"

	"github.com/khelp/khelp/config"
	"github.com/khelp/khelp/host/control"
	"github.com/khelp/khelp/shared"
)

// plan says what a reload would change if the configuration were this one: control.Options.Plan.
func (d *server) plan(_ context.Context, specs []shared.HelperSpec, parts []control.Part) (control.Plan, error) {
	blocks, values, err := partsIn(parts)
	if err != nil {
		return control.Plan{}, err
	}
	changes, err := d.host.Plan(specs)
	if err != nil {
		return control.Plan{}, err
	}
	set, warnings := settingChanges(*d.inForce.Load(), values)
	return control.Plan{Changes: changes, Parts: append(set, tcpChanges(d.proxies.blocks(), blocks)...), Warnings: warnings}, nil
}

// reload reads the configuration again and brings everything in line with it: control.Options.Reload. Reloads come one after another. Once
// the configuration is found to be good a reload is not given up when whoever asked for it goes away, only when the daemon ends.
func (d *server) reload(ctx context.Context) (control.Plan, error) {
	select {
	case d.turn <- struct{}{}:
		defer func() { <-d.turn }()
	case <-ctx.Done():
		return control.Plan{}, ctx.Err()
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(d.life, cancel)()
	notifyReloading(d.log)
	defer notifyReady(d.log)
	plan, err := d.reconfigure(ctx)
	if err != nil {
		var bad *control.ConfigError
		if errors.As(err, &bad) {
			_, _ = fmt.Fprint(d.app.stderr, bad.Diagnostics) // if nobody reads that, whoever asked may
		}
		d.log.Error("reload failed", "error", err)
		return control.Plan{}, err
	}
	d.logPlan(plan)
	return plan, nil
}

func (d *server) reconfigure(ctx context.Context) (control.Plan, error) {
	cfg, diags := config.Load(d.path)
	if !diags.HasErrors() {
		more, err := d.check(ctx, cfg)
		if err != nil {
			return control.Plan{}, err
		}
		diags = append(diags, more...)
	}
	if diags.HasErrors() {
		return control.Plan{}, &control.ConfigError{Diagnostics: diagnosticsText(cfg, diags), Err: badConfig(diags)}
	}
	specs := specsOf(cfg)
	if _, err := d.host.Plan(specs); err != nil {
		return control.Plan{}, err // before anything has changed
	}
	var plan control.Plan
	plan.Parts, plan.Warnings = d.changeSettings(cfg)
	d.cfg.Store(cfg)
	// Helpers come behind the settings that they load by, and before listeners, so that those find their filters.
	var err error
	if plan.Changes, err = d.host.Reconfigure(ctx, specs); err != nil {
		return control.Plan{}, err
	}
	plan.Parts = append(plan.Parts, d.proxies.change(ctx, cfg.TCP)...)
	for _, diag := range diags {
		plan.Warnings = append(plan.Warnings, diagnosticLine(diag))
	}
	return plan, nil
}

// check holds another configuration against what is known of its helpers, and finds them where that configuration says.
func (d *server) check(ctx context.Context, cfg *config.Config) (hcl.Diagnostics, error) {
	if slices.Equal(cfg.Khelpd.HelperPath, d.cfg.Load().Khelpd.HelperPath) {
		return check(cfg, d.host), nil
	}
	return validate(ctx, cfg, false)
}

// changeSettings brings the settings in line with a configuration. One that could not be is tried again the next time.
func (d *server) changeSettings(cfg *config.Config) (changes []control.PartChange, warnings []string) {
	next := settingsOf(cfg)
	changes, warnings = settingChanges(*d.inForce.Load(), next)
	inForce := maps.Clone(*d.inForce.Load())
	for i := range changes {
		c := &changes[i]
		if c.Err = d.set(c.Name, cfg); c.Err == nil {
			inForce[c.Name] = next[c.Name]
		} else {
			delete(inForce, c.Name)
		}
	}
	d.inForce.Store(&inForce)
	return changes, warnings
}

// set brings one setting in line with a configuration.
func (d *server) set(name string, cfg *config.Config) error {
	switch name {
	case settingLogLevel:
		d.log.SetLevel(hclog.LevelFromString(cfg.Khelpd.LogLevel))
		return nil
	case settingAutounload:
		return d.host.SetAutounload(autounloadOf(cfg))
	case settingHelperPath:
		d.host.SetHelperPath(cfg.Khelpd.HelperPath)
		return nil
	case settingAutoload:
		d.host.SetAutoload(cfg.Khelpd.Autoload)
		return nil
	default:
		return d.setAccess(cfg)
	}
}

// setAccess changes who may do what. The authoriser is there before the door opens.
func (d *server) setAccess(cfg *config.Config) error {
	authorize, mode := accessOf(cfg)
	d.access.Store(&authorize)
	return control.SetMode(d.lis, mode)
}

// logPlan says what a reload has done.
func (d *server) logPlan(plan control.Plan) {
	made, missed := 0, 0
	note := func(what, name, action, reason string, err error) {
		if err != nil {
			missed++
			d.log.Error("could not be changed", what, name, "action", action, "reason", reason, "error", err)
			return
		}
		made++
		d.log.Info("changed", what, name, "action", action, "reason", reason)
	}
	for _, ch := range plan.Changes {
		note("helper", ch.Helper, string(ch.Action), ch.Reason, ch.Err)
	}
	for _, ch := range plan.Parts {
		note(ch.Kind, ch.Name, ch.Action, ch.Reason, ch.Err)
	}
	for _, w := range plan.Warnings {
		d.log.Warn("reload", "warning", w)
	}
	d.log.Info("reloaded", "changes", made, "failures", missed)
}

// diagnosticsText shows diagnostics as they are shown where there is no terminal.
func diagnosticsText(cfg *config.Config, diags hcl.Diagnostics) string {
	var b strings.Builder
	if err := config.WriteDiagnostics(&b, cfg.Files, diags, 0, false); err != nil {
		return diags.Error()
	}
	return b.String()
}

// diagnosticLine shows a diagnostic in short.
func diagnosticLine(d *hcl.Diagnostic) string {
	if d.Subject == nil {
		return d.Summary + ": " + d.Detail
	}
	return fmt.Sprintf("%s:%d: %s: %s", d.Subject.Filename, d.Subject.Start.Line, d.Summary, d.Detail)
}

// errorsOf collects what a reload could not do.
func errorsOf(plan control.Plan) error {
	var errs []error
	for _, ch := range plan.Changes {
		if ch.Err != nil {
			errs = append(errs, fmt.Errorf("%s %s: %w", ch.Action, ch.Helper, ch.Err))
		}
	}
	for _, ch := range plan.Parts {
		switch {
		case ch.Err == nil:
		case ch.Kind == kindTCP: // its errors begin with its name
			errs = append(errs, fmt.Errorf("%s %w", ch.Action, ch.Err))
		default:
			errs = append(errs, fmt.Errorf("%s %s: %w", ch.Action, ch.Name, ch.Err))
		}
	}
	return errors.Join(errs...)
}
