package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/hcl/v2"
	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/khelp/khelp/config"
	"github.com/khelp/khelp/host"
)

func (a *app) validateCommand() *cobra.Command {
	var (
		path     string
		describe bool
	)
	cmd := &cobra.Command{
		Use:   "validate -c PATH",
		Short: "Check a configuration and start nothing",
		Long: `Check a configuration, a file or all *.hcl files of a directory, and start nothing.

Helpers are held against what is known of them from when they last ran. With --describe those that are configured are started, asked what
they are and ended again.

Only regular files are read: no pipe, no device and no standard input ("-").`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if path == "" {
				return missingConfig(cmd)
			}
			cfg, diags := config.Load(path)
			if !diags.HasErrors() {
				more, err := validate(cmd.Context(), cfg, describe)
				if err != nil {
					return failed("validate "+path, err)
				}
				diags = append(diags, more...)
			}
			return a.showValidated(path, cfg, diags)
		},
	}
	configFlag(cmd, &path)
	cmd.Flags().BoolVar(&describe, "describe", false, "start the helpers to look what they are")
	return cmd
}

func missingConfig(cmd *cobra.Command) error {
	return usagef(cmd, "the configuration is missing: -c PATH, a file or a directory of *.hcl")
}

func (a *app) showValidated(path string, cfg *config.Config, diags hcl.Diagnostics) error {
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
}

// check holds a configuration without errors against what a host knows of its helpers. It starts nothing.
func check(cfg *config.Config, h *host.Host) hcl.Diagnostics { return cfg.Check(h.Known, builtinNames) }

// validate checks a configuration with a host of its own, which has nothing but a cache; with describe it fills that first.
func validate(ctx context.Context, cfg *config.Config, describe bool) (diags hcl.Diagnostics, err error) {
	h, err := newHost(cfg, hclog.NewNullLogger())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.Shutdown(ctx)) }()
	if describe {
		if err := keepDescriptors(); err != nil {
			return nil, err
		}
		diags = describeAll(ctx, cfg, h)
	}
	return append(diags, check(cfg, h)...), nil
}

// describeAll asks every helper of a configuration what it is, several at once.
func describeAll(ctx context.Context, cfg *config.Config, h *host.Host) hcl.Diagnostics {
	errs := make([]error, len(cfg.Helpers))
	var g errgroup.Group
	g.SetLimit(2 * runtime.GOMAXPROCS(0))
	for i := range cfg.Helpers {
		g.Go(func() error {
			_, errs[i] = h.Describe(ctx, cfg.Helpers[i].Spec)
			return nil
		})
	}
	_ = g.Wait() // no function returns an error
	var diags hcl.Diagnostics
	for i, err := range errs {
		diags = append(diags, diagnosed(cfg, cfg.Helpers[i].Spec.Name, err)...)
	}
	return diags
}

// diagnosed is cfg.Diagnose for an error in which a helper may have had its say.
func diagnosed(cfg *config.Config, helper string, err error) hcl.Diagnostics {
	diags := cfg.Diagnose(helper, err)
	for _, d := range diags {
		d.Detail = printable(d.Detail)
	}
	return diags
}

// newHost makes a host as a configuration says, with the builtins that khelpd carries on offer.
func newHost(cfg *config.Config, log hclog.Logger) (*host.Host, error) {
	h, err := host.New(host.Config{
		Logger: log, HelperPath: cfg.Khelpd.HelperPath, ModinfoDir: cacheDir(),
		Autoload: cfg.Khelpd.Autoload, Autounload: autounloadOf(cfg),
	})
	if err != nil {
		return nil, err
	}
	if err := h.OfferBuiltin(newCount()); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

func autounloadOf(cfg *config.Config) host.Autounload {
	return host.Autounload{
		After: cfg.Autounload.After, MemoryFloor: cfg.Autounload.MemoryFloor, UnderPressure: host.UnderPressure(cfg.Autounload.UnderPressure),
	}
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
