package main

import (
	"context"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/control"
	"github.com/khelp/khelp/shared"
)

func (a *app) loadCommand() *cobra.Command {
	var (
		req     control.LoadRequest
		classes []string
	)
	req.Properties = map[string]any{}
	set := map[string]string{}
	cmd := &cobra.Command{
		Use:   "load NAME|PATH",
		Short: "Load a helper by name, or from a file",
		Long: `Load a helper and wait until it is active.

A NAME is loaded as the daemon's configuration says, or else found on its helper path. Anything with a slash is the PATH of a helper
and is loaded as it is. Properties given here win over those of the configuration.`,
		Args:              usageArgs(cobra.ExactArgs(1)),
		ValidArgsFunction: a.completeLoadable,
		RunE: func(cmd *cobra.Command, args []string) error {
			what := "load " + args[0]
			name, err := helperName(args[0])
			if err != nil {
				return failed(what, err)
			}
			req.Name = name
			for _, c := range classes {
				class := shared.Class(c)
				if err := class.Validate(); err != nil {
					return usagef(cmd, "--class: %w", err)
				}
				req.Classes = append(req.Classes, class)
			}
			var own string
			err = a.withClient(cmd.Context(), changeLimit, what, func(ctx context.Context, c *control.Client) (err error) {
				own, err = c.Load(ctx, req)
				return byFlag(err, set)
			})
			if err != nil {
				return err
			}
			return a.changed("load", args[0], own)
		},
	}
	flags := cmd.Flags()
	flags.VarP(&propertyFlag{values: req.Properties, flags: set, flag: "-b", parse: parseBool, kind: "bool"}, "bool", "b", "set a property to true or false")
	flags.VarP(&propertyFlag{values: req.Properties, flags: set, flag: "-i", parse: parseInt, kind: "int"}, "int", "i", "set a property to a whole number")
	flags.VarP(&propertyFlag{values: req.Properties, flags: set, flag: "-s", parse: parseString, kind: "string"}, "string", "s", "set a property to a text")
	flags.StringArrayVar(&classes, "class", nil, "load only if the helper follows this class of objects; may be repeated")
	flags.BoolVar(&req.Force, "force", false, "load a helper built for another API generation, or a builtin that is disabled")
	return cmd
}

// helperName makes a path absolute, as the daemon has another working directory, and checks what is not a path.
func helperName(arg string) (string, error) {
	if strings.ContainsRune(arg, '/') || strings.ContainsRune(arg, filepath.Separator) {
		path, err := filepath.Abs(arg)
		if err != nil {
			return "", err
		}
		return path, nil
	}
	return arg, shared.ValidateName("helper name", arg)
}

func (a *app) unloadCommand() *cobra.Command {
	var opts host.UnloadOptions
	cmd := &cobra.Command{
		Use:   "unload NAME",
		Short: "Unload a helper",
		Long: `Unload a helper and wait until it is gone. One that is held is busy (exit code 6), unless --wait says how long to wait for that to end.

A builtin cannot be unloaded. With --disable it is taken out, and only load --force brings it back.`,
		Args:              usageArgs(cobra.ExactArgs(1)),
		ValidArgsFunction: a.completeHelpers,
		RunE: func(cmd *cobra.Command, args []string) error {
			name := args[0]
			what := "unload " + name
			if opts.Wait < 0 {
				return usagef(cmd, "--wait %v is negative", opts.Wait)
			}
			if err := shared.ValidateName("helper name", name); err != nil {
				return failed(what, err)
			}
			err := a.withClient(cmd.Context(), changeLimit+opts.Wait, what, func(ctx context.Context, c *control.Client) error {
				return c.Unload(ctx, name, opts)
			})
			if err != nil {
				return err
			}
			return a.changed("unload", name, name)
		},
	}
	cmd.Flags().DurationVar(&opts.Wait, "wait", 0, "wait this long for references to drop")
	cmd.Flags().BoolVar(&opts.Disable, "disable", false, "take a builtin out")
	return cmd
}

// changed answers a command that did what it was asked: with nothing for people, with a document for programs.
func (a *app) changed(action, name, helper string) error {
	if a.output != formatJSON {
		return nil
	}
	return writeJSON(a.stdout, changeDocument{Schema: schemaName, Action: action, Name: name, Helper: helper})
}

// completeHelpers completes the names of helpers that the daemon has loaded.
func (a *app) completeHelpers(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.loadedHelpers(cmd), cobra.ShellCompDirectiveNoFileComp
}

// loadedHelpers asks for names, and has none without a daemon.
func (a *app) loadedHelpers(cmd *cobra.Command) []cobra.Completion {
	var out []cobra.Completion
	_ = a.withClient(cmd.Context(), completeLimit, "completion", func(ctx context.Context, c *control.Client) error {
		st, err := c.Stat(ctx, "")
		for i := range st.Helpers {
			out = append(out, cobra.CompletionWithDesc(st.Helpers[i].Name, string(st.Helpers[i].State)))
		}
		return err
	})
	return out
}

// completeKnown completes what can be shown: helpers that are loaded or could be, or files.
func (a *app) completeKnown(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
	names, directive := a.completeLoadable(cmd, args, word)
	if directive == cobra.ShellCompDirectiveDefault && !strings.ContainsAny(word, `./\`) {
		names = append(a.loadedHelpers(cmd), names...)
	}
	return names, directive
}

// completeLoadable completes what can be loaded: helpers that are configured and not loaded, or files.
func (a *app) completeLoadable(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	if strings.ContainsAny(word, `./\`) { // a path
		return nil, cobra.ShellCompDirectiveDefault
	}
	var names []cobra.Completion
	// Without a daemon there are files all the same.
	_ = a.withClient(cmd.Context(), completeLimit, "completion", func(ctx context.Context, c *control.Client) error {
		var err error
		names, err = c.Loadable(ctx)
		return err
	})
	return names, cobra.ShellCompDirectiveDefault
}

// completeLimit bounds how long a shell waits for a name.
const completeLimit = 2 * time.Second
