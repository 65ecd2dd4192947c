package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/khelp/khelp/host/control"
	"github.com/khelp/khelp/shared"
)

func (a *app) holdCommand() *cobra.Command {
	return a.nameCommand("hold", &cobra.Command{
		Use:   "hold NAME",
		Short: "Keep a helper from being unloaded",
		Long:  "Keep a helper from being unloaded, until rele gives that up. Holds count: each needs a rele of its own.",
	}, (*control.Client).Hold)
}

func (a *app) releCommand() *cobra.Command {
	return a.nameCommand("rele", &cobra.Command{
		Use:   "rele NAME",
		Short: "Give up one hold of a helper",
	}, (*control.Client).Rele)
}

func (a *app) restartCommand() *cobra.Command {
	return a.nameCommand("restart", &cobra.Command{
		Use:   "restart NAME",
		Short: "Have another process of a helper take over",
		Long: `Start another process of a helper, which takes over between calls, object by object. References, hooks, configuration and committed data
stay. If it cannot take over, the old process stays as it was.`,
	}, (*control.Client).Restart)
}

// nameCommand completes a command that does one thing to one helper.
func (a *app) nameCommand(verb string, cmd *cobra.Command, do func(*control.Client, context.Context, string) error) *cobra.Command {
	cmd.Args = usageArgs(cobra.ExactArgs(1))
	cmd.ValidArgsFunction = a.completeHelpers
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name := args[0]
		what := verb + " " + name
		if err := shared.ValidateName("helper name", name); err != nil {
			return failed(what, err)
		}
		err := a.withClient(cmd.Context(), changeLimit, what, func(ctx context.Context, c *control.Client) error {
			return do(c, ctx, name)
		})
		if err != nil {
			return err
		}
		return a.changed(verb, name, name)
	}
	return cmd
}
