package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/khelp/khelp/host/control"
)

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version of this program and of the daemon, if one runs",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			doc := versionDocument{Schema: schemaName, buildDocument: newBuildDocument(control.BuildVersion())}
			err := a.withClient(cmd.Context(), showLimit, "version", func(ctx context.Context, c *control.Client) error {
				v, err := c.Version(ctx)
				if err != nil {
					return err
				}
				daemon := newBuildDocument(v)
				doc.Daemon = &daemon
				return nil
			})
			// The question is what this program is; the daemon's answer is extra.
			if err != nil && !errors.Is(err, control.ErrNotRunning) {
				a.report(err)
			}
			if a.output == formatJSON {
				return writeJSON(a.stdout, doc)
			}
			return versionLines(a.stdout, doc)
		},
	}
}

func versionLines(w io.Writer, doc versionDocument) error {
	line := func(what string, b buildDocument) error {
		revision := ""
		if b.Revision != "" {
			revision = ", revision " + b.Revision
		}
		_, err := fmt.Fprintf(w, "%s %s (api %d, %s%s)\n", what, printableLine(b.Version), b.API, printableLine(b.Go), printableLine(revision))
		if err != nil {
			return fmt.Errorf("output: %w", err)
		}
		return nil
	}
	if err := line("khelpd", doc.buildDocument); err != nil {
		return err
	}
	if doc.Daemon == nil {
		return nil
	}
	return line("daemon", *doc.Daemon)
}
