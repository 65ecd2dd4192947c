package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/control"
	"github.com/khelp/khelp/shared"
)

func (a *app) eventsCommand() *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Show what has happened to helpers, or what happens",
		Long: `Show the last events, or with --follow first the present state, a loaded event for each active helper, and then what happens, until
SIGINT or SIGTERM (exit code 0) or until the daemon ends (exit code 3).

With -o json each event is an object on a line of its own.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return stream(a, cmd.Context(), "events", follow, func(ctx context.Context, c *control.Client) iter.Seq2[host.Event, error] {
				return c.Events(ctx, follow)
			}, a.writeEvent)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "show the present state, and then what happens")
	return cmd
}

func (a *app) logsCommand() *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "logs NAME",
		Short: "Show what a helper has logged",
		Long: `Show the last records of a helper's log, also of one that has been unloaded or could not be loaded, and with --follow go on with what
comes, until SIGINT or SIGTERM (exit code 0) or until the daemon ends (exit code 3).

With -o json each record is an object on a line of its own.`,
		Args:              usageArgs(cobra.ExactArgs(1)),
		ValidArgsFunction: a.completeHelpers,
		RunE: func(cmd *cobra.Command, args []string) error {
			name := args[0]
			what := "logs " + name
			if err := shared.ValidateName("helper name", name); err != nil {
				return failed(what, err)
			}
			return stream(a, cmd.Context(), what, follow, func(ctx context.Context, c *control.Client) iter.Seq2[host.LogRecord, error] {
				return c.Logs(ctx, name, follow)
			}, func(r host.LogRecord) error { return a.writeLog(name, r) })
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what comes")
	return cmd
}

// stream writes what comes from a daemon until that ends it, or, if it follows, until a signal does.
func stream[T any](a *app, ctx context.Context, what string, follow bool, //nolint:revive // a method cannot have a type parameter; a is its receiver
	open func(context.Context, *control.Client) iter.Seq2[T, error], write func(T) error,
) error {
	limit := showLimit
	if follow {
		var stop context.CancelFunc
		ctx, stop = signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
		defer stop()
		limit = 0
	}
	err := a.withClient(ctx, limit, what, func(ctx context.Context, c *control.Client) error {
		for v, err := range open(ctx, c) {
			if err == nil {
				err = write(v)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if follow && ctx.Err() != nil && errors.Is(err, shared.ErrCanceled) {
		return nil // that is how it is to end
	}
	return err
}

// eventDocument is a line of events -o json.
type eventDocument struct {
	Schema      string    `json:"schema"`
	Time        time.Time `json:"time"`
	Type        string    `json:"type"`
	Helper      string    `json:"helper"`
	Incarnation uint32    `json:"incarnation"`
	Point       string    `json:"point"`
	Object      uint64    `json:"object"`
	Cause       string    `json:"cause"`
	Message     string    `json:"message"`
}

// logDocument is a line of logs -o json.
type logDocument struct {
	Schema  string    `json:"schema"`
	Time    time.Time `json:"time"`
	Level   string    `json:"level"`
	Helper  string    `json:"helper"`
	Message string    `json:"message"`
}

// lineTime is how lines for people begin.
const lineTime = "2006-01-02T15:04:05.000Z07:00"

func (a *app) writeEvent(e host.Event) error {
	if a.output == formatJSON {
		return writeJSONLine(a.stdout, eventDocument{
			Schema: schemaName, Time: e.Time.UTC(), Type: string(e.Type), Helper: e.Helper, Incarnation: e.Incarnation,
			Point: string(e.Point), Object: e.Object, Cause: string(e.Cause), Message: e.Message,
		})
	}
	words := []string{e.Time.Local().Format(lineTime), fmt.Sprintf("%-11s", e.Type)}
	for _, w := range []struct{ name, value string }{
		{"", e.Helper}, {"#", number(uint64(e.Incarnation))}, {"point=", string(e.Point)}, {"object=", number(e.Object)},
		{"cause=", string(e.Cause)}, {"", e.Message},
	} {
		if w.value != "" {
			words = append(words, w.name+w.value)
		}
	}
	return writeLine(a.stdout, strings.Join(words, " "))
}

func (a *app) writeLog(helper string, r host.LogRecord) error {
	if a.output == formatJSON {
		return writeJSONLine(a.stdout, logDocument{Schema: schemaName, Time: r.Time.UTC(), Level: r.Level, Helper: helper, Message: r.Message})
	}
	return writeLine(a.stdout, fmt.Sprintf("%s %-5s %s", r.Time.Local().Format(lineTime), r.Level, r.Message))
}

// writeLine writes a line whose text may come from a helper.
func writeLine(w io.Writer, line string) error {
	if _, err := fmt.Fprintln(w, strings.TrimRight(printableLine(line), " ")); err != nil {
		return fmt.Errorf("output: %w", err)
	}
	return nil
}

// writeJSONLine is the encoder of streams: an object on a line.
func writeJSONLine(w io.Writer, document any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(document); err != nil {
		return fmt.Errorf("output: %w", err)
	}
	return nil
}
