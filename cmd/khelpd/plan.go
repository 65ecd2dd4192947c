package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/khelp/khelp/config"
	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/control"
)

func (a *app) planCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "plan -c PATH",
		Short: "Show what a reload would change",
		Long: `Read a configuration here, ask the daemon what it would change if that were its own, and change nothing.

Exit code 9 says that there are changes, 0 that there are none.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if path == "" {
				return missingConfig(cmd)
			}
			what := "plan " + path
			cfg, diags := config.Load(path)
			if !diags.HasErrors() {
				more, err := validate(cmd.Context(), cfg, false)
				if err != nil {
					return failed(what, err)
				}
				diags = append(diags, more...)
			}
			if err := a.diagnose(cfg.Files, diags); err != nil {
				return err
			}
			if diags.HasErrors() {
				return failed(what, badConfig(diags))
			}
			return a.withClient(cmd.Context(), showLimit, what, func(ctx context.Context, c *control.Client) error {
				return a.plan(ctx, c, cfg)
			})
		},
	}
	configFlag(cmd, &path)
	return cmd
}

func (a *app) plan(ctx context.Context, c *control.Client, cfg *config.Config) error {
	plan, err := c.Plan(ctx, specsOf(cfg), partsOf(cfg))
	if err != nil {
		return err
	}
	if err := a.showPlan(plan); err != nil {
		return err
	}
	if len(plan.Changes)+len(plan.Parts) > 0 {
		return errChanges
	}
	return nil
}

func (a *app) reloadCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Have the daemon read its configuration again",
		Long: `Have the daemon read its own configuration again and bring helpers, listeners, access and log level in line with it, as SIGHUP does.
Connections that there are go on.

It shows what was changed, as plan does. If the configuration is wrong that is shown, nothing has changed, and the exit code is 7. A change
that could not be made is shown with its error; the others are made all the same.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withClient(cmd.Context(), changeLimit, "reload", func(ctx context.Context, c *control.Client) error {
				plan, err := c.Reload(ctx)
				var bad *control.ConfigError
				if errors.As(err, &bad) {
					_, _ = io.WriteString(a.stderr, printable(bad.Diagnostics))
				}
				if err != nil {
					return err
				}
				return errors.Join(a.showPlan(plan), errorsOf(plan))
			})
		},
	}
}

// planDocument is what plan and reload -o json say.
type planDocument struct {
	Schema   string           `json:"schema"`
	Changes  []planChange     `json:"changes"`
	TCP      []planPartChange `json:"tcp"`
	Settings []planPartChange `json:"settings"`
	Warnings []string         `json:"warnings"`
}

type planChange struct {
	Helper    string   `json:"helper"`
	Action    string   `json:"action"`
	Reason    string   `json:"reason"`
	BlockedBy []string `json:"blocked_by"`
	Error     string   `json:"error,omitempty"` // of reload: why it was not made
}

type planPartChange struct {
	Name   string `json:"name"`
	Action string `json:"action"`
	Reason string `json:"reason"`
	Error  string `json:"error,omitempty"`
}

func newPlanDocument(plan control.Plan) planDocument {
	doc := planDocument{
		Schema: schemaName, TCP: []planPartChange{}, Settings: []planPartChange{}, Warnings: stringsOf(plan.Warnings),
		Changes: mapped(plan.Changes, func(ch host.Change) planChange {
			return planChange{
				Helper: ch.Helper, Action: string(ch.Action), Reason: ch.Reason, BlockedBy: stringsOf(ch.BlockedBy), Error: errorText(ch.Err),
			}
		}),
	}
	for _, ch := range plan.Parts {
		part := planPartChange{Name: ch.Name, Action: ch.Action, Reason: ch.Reason, Error: errorText(ch.Err)}
		if ch.Kind == kindTCP {
			doc.TCP = append(doc.TCP, part)
		} else {
			doc.Settings = append(doc.Settings, part)
		}
	}
	return doc
}

// errorText is an error with its word, as in "EBUSY: held by 12 objects"; "" for none.
func errorText(err error) string {
	switch word := errWord(err); {
	case err == nil:
		return ""
	case word == "":
		return err.Error()
	default:
		return word + ": " + err.Error()
	}
}

func (a *app) showPlan(plan control.Plan) error {
	if a.output == formatJSON {
		return writeJSON(a.stdout, newPlanDocument(plan))
	}
	for _, w := range plan.Warnings {
		fmt.Fprintln(a.stderr, "khelpd: warning: "+printableLine(w))
	}
	if len(plan.Changes)+len(plan.Parts) == 0 {
		return writeLine(a.stdout, "no changes")
	}
	if err := changesTable(a.stdout, plan.Changes); err != nil {
		return err
	}
	return partsLines(a.stdout, plan.Parts)
}

func changesTable(w io.Writer, changes []host.Change) error {
	if len(changes) == 0 {
		return nil
	}
	t := newTable(w, "HELPER", "ACTION", "REASON", "BLOCKED BY")
	for _, ch := range changes {
		t.row(ch.Helper, string(ch.Action), withError(ch.Reason, ch.Err), list(ch.BlockedBy))
	}
	return t.flush()
}

// partsLines shows what is no helper, one to a line: tcp "web" replace: upstream is …
func partsLines(w io.Writer, parts []control.PartChange) error {
	for _, ch := range parts {
		if err := writeLine(w, fmt.Sprintf("%s %q %s: %s", ch.Kind, ch.Name, ch.Action, withError(ch.Reason, ch.Err))); err != nil {
			return err
		}
	}
	return nil
}

func withError(reason string, err error) string {
	if err == nil {
		return reason
	}
	return reason + "; not done: " + errorText(err)
}

// errChanges ends a plan that has found some: there is nothing to report.
var errChanges = &quietError{exitChanges}
