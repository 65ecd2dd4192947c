package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/control"
	"github.com/khelp/khelp/shared"
)

func (a *app) infoCommand() *cobra.Command {
	var section string
	cmd := &cobra.Command{
		Use:   "info NAME|PATH",
		Short: "Show what a helper says of itself",
		Long: `Show what a helper says of itself: version, classes, hooks, requirements, properties, object data and sections.

A NAME is asked of the daemon, which may have to start the helper to look (and needs the privilege load for that). Anything with a slash is
the PATH of a helper: it is started here, asked and ended again, and no daemon is needed. With --section the bytes of one section are
written as they are, whatever -o says.`,
		Args:              usageArgs(cobra.ExactArgs(1)),
		ValidArgsFunction: a.completeKnown,
		RunE: func(cmd *cobra.Command, args []string) error {
			what := "info " + args[0]
			name, err := helperName(args[0])
			if err != nil {
				return failed(what, err)
			}
			one := cmd.Flags().Changed("section")
			if filepath.IsAbs(name) {
				err = a.infoOfPath(cmd.Context(), name, one, section)
				if err != nil {
					return failed(what, err)
				}
				return nil
			}
			return a.withClient(cmd.Context(), changeLimit, what, func(ctx context.Context, c *control.Client) error {
				return a.infoOfName(ctx, c, name, one, section)
			})
		},
	}
	cmd.Flags().StringVar(&section, "section", "", "write the bytes of this section")
	return cmd
}

func (a *app) infoOfName(ctx context.Context, c *control.Client, name string, one bool, section string) error {
	if one {
		text, err := c.Section(ctx, name, section)
		if err != nil {
			return err
		}
		return writeBytes(a.stdout, text)
	}
	info, err := c.Info(ctx, name)
	if err != nil {
		return err
	}
	return a.showInfo(info)
}

// infoOfPath starts the helper from here.
func (a *app) infoOfPath(ctx context.Context, path string, one bool, section string) (err error) {
	if err := keepDescriptors(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, changeLimit)
	defer cancel()
	h, err := host.New(host.Config{ModinfoDir: cacheDir()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Shutdown(ctx)) }()
	info, err := h.Describe(ctx, shared.HelperSpec{Command: []string{path}})
	if err != nil {
		return err
	}
	if one {
		text, err := control.FindSection(&info, section)
		if err != nil {
			return err
		}
		return writeBytes(a.stdout, text)
	}
	return a.showInfo(control.NewInfo(info))
}

func writeBytes(w io.Writer, b []byte) error {
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("output: %w", err)
	}
	return nil
}

func (a *app) showInfo(info control.Info) error {
	if a.output == formatJSON {
		return writeJSON(a.stdout, newInfoDocument(info))
	}
	return infoLines(a.stdout, info)
}

// infoLines shows a row for each thing that a helper says.
func infoLines(w io.Writer, info control.Info) error {
	m := &info.Modinfo
	t := newTable(w, "name", m.Name)
	t.row("version", m.Version)
	t.row("api", strconv.FormatUint(uint64(m.API), 10))
	t.row("description", m.Description)
	t.row("classes", list(m.Classes))
	for _, h := range m.Hooks {
		sleeps := ""
		if h.MaySleep {
			sleeps = "may sleep"
		}
		t.row("hook "+string(h.Point), sleeps)
	}
	for _, r := range m.Requires {
		t.row("requires "+r.Name, r.Constraint)
	}
	for _, name := range m.Reads {
		t.row("reads "+name, "")
	}
	for _, p := range m.Properties {
		t.row("property "+p.Name, propertyText(p))
	}
	if m.NeedsOSD {
		t.row("object data", fmt.Sprintf("version %d, %d bytes at most", m.OSD.DataVersion, m.OSD.MaxBytes))
	}
	for _, f := range m.OSD.Schema {
		count := ""
		if f.Count > 1 {
			count = fmt.Sprintf("[%d]", f.Count)
		}
		t.row("field "+f.Name, fmt.Sprintf("%s%s at %d", f.Type, count, f.Offset))
	}
	for _, s := range info.Sections {
		t.row("section "+s.Name, plural(s.Bytes, "byte"))
	}
	return t.flush()
}

func propertyText(p shared.Property) string {
	text := string(p.Type)
	if p.Format != shared.FormatNone {
		text += " (" + printable(string(p.Format)) + ")"
	}
	switch {
	case p.Minimum != nil && p.Maximum != nil:
		text += fmt.Sprintf(" from %d to %d", *p.Minimum, *p.Maximum)
	case p.Minimum != nil:
		text += fmt.Sprintf(" of %d or more", *p.Minimum)
	case p.Maximum != nil:
		text += fmt.Sprintf(" of %d or less", *p.Maximum)
	}
	switch {
	case p.Required:
		text += ", required"
	case p.Default != nil:
		text += fmt.Sprintf(", default %v", p.Default)
	}
	if p.Doc != "" {
		text += ": " + p.Doc
	}
	return text
}
