package main

import (
	"fmt"
	"io"
	"os"

	"github.com/hashicorp/hcl/v2"
	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/khelp/khelp/config"
)

func (a *app) validateCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "validate -c PATH",
		Short: "Check a configuration and start nothing",
		Long: `Check a configuration, a file or all *.hcl files of a directory, and start nothing.

Only regular files are read: no pipe, no device and no standard input ("-").`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if path == "" {
				return usagef(cmd, "the configuration is missing: -c PATH, a file or a directory of *.hcl")
			}
			cfg, diags := config.Load(path)
			if err := a.diagnose(cfg.Files, diags); err != nil {
				return err
			}
			if a.output == formatJSON {
				if err := writeJSON(a.stdout, newDiagnosticsDocument(diags)); err != nil {
					return err
				}
			}
			if diags.HasErrors() {
				return failed("validate "+path, badConfig(diags))
			}
			if a.output == formatTable {
				_, err := fmt.Fprintf(a.stdout, "%s: ok: %s, %s\n", path, plural(len(cfg.Helpers), "helper"), plural(len(cfg.TCP), "tcp block"))
				return err
			}
			return nil
		},
	}
	configFlag(cmd, &path)
	return cmd
}

// configFlag adds -c.
func configFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVarP(path, "config", "c", "", "configuration: a file, or a directory of *.hcl")
	if err := cmd.MarkFlagFilename("config", "hcl"); err != nil {
		panic(err) // the flag's name is wrong: a mistake in this program that any run shows
	}
}

// diagnose prints diagnostics on stderr: in colour and wrapped if that is a terminal.
func (a *app) diagnose(files map[string]*hcl.File, diags hcl.Diagnostics) error {
	width, color := uint(0), false
	if isTerminal(a.stderr) {
		width, color = 100, os.Getenv("NO_COLOR") == ""
	}
	if err := config.WriteDiagnostics(a.stderr, files, diags, width, color); err != nil {
		return fmt.Errorf("output: %w", err)
	}
	return nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd()) && os.Getenv("TERM") != "dumb"
}

// badConfig is the error after diagnostics that have been printed.
func badConfig(diags hcl.Diagnostics) error {
	errs := 0
	for _, d := range diags {
		if d.Severity == hcl.DiagError {
			errs++
		}
	}
	return &configError{fmt.Errorf("bad configuration: %s", plural(errs, "error"))}
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// diagnosticsDocument is what validate -o json says.
type diagnosticsDocument struct {
	Schema      string               `json:"schema"`
	Valid       bool                 `json:"valid"`
	Diagnostics []diagnosticDocument `json:"diagnostics"`
}

type diagnosticDocument struct {
	Severity string `json:"severity"` // error or warning
	Summary  string `json:"summary"`
	Detail   string `json:"detail"`
	File     string `json:"file"`
	Line     int    `json:"line"` // from 1; 0: no place
	Column   int    `json:"column"`
}

func newDiagnosticsDocument(diags hcl.Diagnostics) diagnosticsDocument {
	doc := diagnosticsDocument{Schema: schemaName, Valid: !diags.HasErrors(), Diagnostics: make([]diagnosticDocument, len(diags))}
	for i, d := range diags {
		out := diagnosticDocument{Severity: "error", Summary: d.Summary, Detail: d.Detail}
		if d.Severity == hcl.DiagWarning {
			out.Severity = "warning"
		}
		if d.Subject != nil {
			out.File, out.Line, out.Column = d.Subject.Filename, d.Subject.Start.Line, d.Subject.Start.Column
		}
		doc.Diagnostics[i] = out
	}
	return doc
}
