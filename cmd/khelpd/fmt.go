package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/khelp/khelp/config"
)

func (a *app) fmtCommand() *cobra.Command {
	var write bool
	cmd := &cobra.Command{
		Use:   "fmt [-w] PATH",
		Short: "Lay out configuration files in the canonical way",
		Long: `Print configuration files in the canonical layout, or with -w change them in place and print the names of those that changed.

PATH is a file or a directory of *.hcl. A file with syntax errors is reported and left as it is.`,
		Args: usageArgs(cobra.ExactArgs(1)),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return []cobra.Completion{"hcl"}, cobra.ShellCompDirectiveFilterFileExt
		},
		RunE: func(_ *cobra.Command, args []string) error {
			return a.formatFiles(args[0], write)
		},
	}
	cmd.Flags().BoolVarP(&write, "write", "w", false, "change the files in place")
	return cmd
}

func (a *app) formatFiles(path string, write bool) error {
	formatted, files, diags := config.FormatFiles(path)
	if err := a.diagnose(files, diags); err != nil {
		return err
	}
	doc := formatDocument{Schema: schemaName, Files: []formattedDocument{}}
	for i := range formatted {
		f := &formatted[i]
		file := formattedDocument{Name: f.Name, Changed: f.Changed()}
		if write {
			if err := f.Write(); err != nil {
				return failed("fmt "+path, err)
			}
		} else {
			file.Text = string(f.After)
		}
		doc.Files = append(doc.Files, file)
	}
	if err := a.showFormatted(doc, write); err != nil {
		return err
	}
	if diags.HasErrors() {
		return failed("fmt "+path, badConfig(diags))
	}
	return nil
}

func (a *app) showFormatted(doc formatDocument, write bool) error {
	if a.output == formatJSON {
		return writeJSON(a.stdout, doc)
	}
	for _, f := range doc.Files {
		var err error
		switch {
		case !write:
			_, err = io.WriteString(a.stdout, f.Text)
		case f.Changed:
			_, err = fmt.Fprintln(a.stdout, f.Name)
		}
		if err != nil {
			return fmt.Errorf("output: %w", err)
		}
	}
	return nil
}

// formatDocument is what fmt -o json says.
type formatDocument struct {
	Schema string              `json:"schema"`
	Files  []formattedDocument `json:"files"`
}

type formattedDocument struct {
	Name    string `json:"name"`
	Changed bool   `json:"changed"`
	Text    string `json:"text,omitempty"` // not with -w
}
