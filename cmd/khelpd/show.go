package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/control"
	"github.com/khelp/khelp/shared"
)

func (a *app) statCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "stat [NAME]",
		Short:             "Show the helpers, or everything about one",
		Args:              usageArgs(cobra.MaximumNArgs(1)),
		ValidArgsFunction: a.completeHelpers,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, what := "", "stat"
			if len(args) == 1 {
				name, what = args[0], "stat "+args[0]
				if err := shared.ValidateName("helper name", name); err != nil {
					return failed(what, err)
				}
			}
			return a.withClient(cmd.Context(), showLimit, what, func(ctx context.Context, c *control.Client) error {
				st, err := c.Stat(ctx, name)
				if err != nil {
					return err
				}
				if a.output == formatJSON {
					return writeJSON(a.stdout, newStatDocument(st))
				}
				if err := statTable(a.stdout, st); err != nil || name == "" {
					return err
				}
				return statDetails(a.stdout, st)
			})
		},
	}
}

func statTable(w io.Writer, st host.Stat) error {
	t := newTable(w, "NAME", "VERSION", "STATE", "CLASS", "SOURCE", "REFS", "FLAGS", "HOOKS", "REQUIRES")
	for i := range st.Helpers {
		h := &st.Helpers[i]
		t.row(h.Name, h.Version, string(h.State), list(h.Classes), string(h.Source), strconv.Itoa(h.Refs), list(h.Flags), list(h.Hooks),
			list(h.Requires))
	}
	return t.flush()
}

// statDetails shows what has no column.
func statDetails(w io.Writer, st host.Stat) error {
	for i := range st.Helpers {
		h := &st.Helpers[i]
		if _, err := fmt.Fprintln(w); err != nil {
			return fmt.Errorf("output: %w", err)
		}
		t := newTable(w, "id", strconv.FormatUint(uint64(h.ID), 10))
		t.row("pid", number(uint64(max(h.PID, 0))))
		t.row("incarnation", strconv.FormatUint(uint64(h.Incarnation), 10))
		t.row("restarts", strconv.FormatUint(h.Restarts, 10))
		t.row("sha256", h.SHA256)
		t.row("lane", h.Lane)
		t.row("objects", fmt.Sprintf("%d (%d bytes)", h.Objects, h.ObjectBytes))
		t.row("calls", strconv.FormatUint(h.Calls, 10))
		t.row("committed", strconv.FormatUint(h.Committed, 10))
		t.row("missed", missed(h.Missed))
		t.row("skipped", strconv.FormatUint(h.Skipped, 10))
		t.row("autoloaded", strconv.FormatBool(h.Autoloaded))
		if !h.AutounloadAt.IsZero() {
			t.row("autounload at", h.AutounloadAt.Format(time.RFC3339))
		}
		t.row("last error", h.LastError)
		for _, name := range slices.Sorted(maps.Keys(h.Values)) {
			t.row("value "+name, strconv.FormatFloat(h.Values[name], 'g', -1, 64))
		}
		if err := t.flush(); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) hooksCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "hooks",
		Short: "Show the hook points and what is hooked to them",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withClient(cmd.Context(), showLimit, "hooks", func(ctx context.Context, c *control.Client) error {
				heads, err := c.Hooks(ctx)
				if err != nil {
					return err
				}
				if a.output == formatJSON {
					return writeJSON(a.stdout, newHooksDocument(heads))
				}
				return hooksTable(a.stdout, heads)
			})
		},
	}
}

// hooksTable shows a row for each hook, in the order in which they run, and one for a head that has none.
func hooksTable(w io.Writer, heads []host.HeadStat) error {
	t := newTable(w, "POINT", "VNET", "KIND", "REFS", "FORWARDED", "HELPER", "ORDER", "CALLS", "COMMITTED", "MISSED", "SKIPPED", "P50", "P99")
	for i := range heads {
		h := &heads[i]
		kind := h.Kind
		if h.Async {
			kind += ",async"
		}
		if h.Mutable {
			kind += ",mutable"
		}
		head := []string{string(h.Point), h.Vnet, kind, strconv.Itoa(h.Refs), strconv.FormatUint(h.Forwarded, 10)}
		if len(h.Hooks) == 0 {
			t.row(append(head, make([]string, 8)...)...)
		}
		for j := range h.Hooks {
			k := &h.Hooks[j]
			t.row(append(slices.Clone(head), k.Helper, k.Order, strconv.FormatUint(k.Calls, 10), strconv.FormatUint(k.Committed, 10),
				missed(k.Missed), strconv.FormatUint(k.Skipped, 10), duration(k.P50), duration(k.P99))...)
		}
	}
	return t.flush()
}

func (a *app) objectsCommand() *cobra.Command {
	var helper string
	cmd := &cobra.Command{
		Use:   "objects",
		Short: "Show the objects alive and the helpers' data on them",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			what := "objects"
			if cmd.Flags().Changed("helper") {
				what += " --helper " + helper
				if err := shared.ValidateName("helper name", helper); err != nil {
					return failed(what, err)
				}
			}
			return a.withClient(cmd.Context(), showLimit, what, func(ctx context.Context, c *control.Client) error {
				objects, err := c.Objects(ctx, host.ObjectFilter{Helper: helper})
				if err != nil {
					return err
				}
				if a.output == formatJSON {
					return writeJSON(a.stdout, newObjectsDocument(objects))
				}
				return objectsTable(a.stdout, objects)
			})
		},
	}
	cmd.Flags().StringVar(&helper, "helper", "", "only objects with data of this helper")
	mustComplete(cmd, "helper", a.completeHelpers)
	return cmd
}

// objectsTable shows a row for each slot, and one for an object without any.
func objectsTable(w io.Writer, objects []host.ObjectStat) error {
	t := newTable(w, "ID", "CLASS", "VNET", "NAME", "FORWARDED", "HELPER", "VERSION", "BYTES", "VALUES")
	for i := range objects {
		o := &objects[i]
		object := []string{strconv.FormatUint(o.ID, 10), list(o.Classes), o.Vnet, o.Name, counts(o.Forwarded)}
		if len(o.Slots) == 0 {
			t.row(append(object, make([]string, 4)...)...)
		}
		for j := range o.Slots {
			s := &o.Slots[j]
			t.row(append(slices.Clone(object), s.Helper, s.Version, strconv.Itoa(s.Bytes), values(s.Values))...)
		}
	}
	return t.flush()
}

// number shows 0 as nothing.
func number(n uint64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatUint(n, 10)
}

// missed shows "0", or the sum and its parts: "3 (crash 1, timeout 2)".
func missed(by map[shared.Cause]uint64) string {
	var sum uint64
	var parts []string
	for _, cause := range slices.Sorted(maps.Keys(by)) {
		if n := by[cause]; n > 0 {
			sum += n
			parts = append(parts, fmt.Sprintf("%s %d", cause, n))
		}
	}
	if sum == 0 {
		return "0"
	}
	return fmt.Sprintf("%d (%s)", sum, strings.Join(parts, ", "))
}

func counts(by map[shared.HookPoint]uint64) string {
	var parts []string
	for _, point := range slices.Sorted(maps.Keys(by)) {
		parts = append(parts, fmt.Sprintf("%s=%d", point, by[point]))
	}
	return strings.Join(parts, " ")
}

func values(v map[string]any) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(v)) {
		parts = append(parts, fmt.Sprintf("%s=%v", name, v[name]))
	}
	return strings.Join(parts, " ")
}

// duration shows three digits at most; none as nothing.
func duration(d time.Duration) string {
	switch {
	case d <= 0:
		return ""
	case d < time.Millisecond:
		return d.Round(10 * time.Nanosecond).String()
	case d < time.Second:
		return d.Round(10 * time.Microsecond).String()
	default:
		return d.Round(10 * time.Millisecond).String()
	}
}
