package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/khelp/khelp/config"
	"github.com/khelp/khelp/host/control"
)

// Bounds on how long a command waits for the daemon; an overrun is exit code 8.
const (
	showLimit   = 30 * time.Second // for what the daemon knows
	changeLimit = 2 * time.Minute  // for what takes processes to start or to end, over what a command itself waits
)

// socketEnv names the control socket for all commands.
const socketEnv = "KHELPD_SOCKET"

// app is one run of the program: its streams and the flags that all commands share.
type app struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	output format
	socket string // of --socket; empty: not given
}

// run is the program. It returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr, output: formatTable}
	root := a.rootCommand()
	root.SetArgs(append([]string{}, args...)) // never nil, for which cobra would take os.Args
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	if err := root.ExecuteContext(ctx); err != nil {
		a.report(err)
		return exitCode(err)
	}
	return exitDone
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "khelpd",
		Short: "Host khelp helpers and look after them",
		Long: `khelpd runs helpers - small programs that hook points in a daemon's code - and shows and changes them while they run.

Exit codes: ` + exitHelp() + `.`,
		SuggestionsMinimumDistance: 2,

		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          unknownCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usagef(cmd, "%w", err) })
	flags := root.PersistentFlags()
	flags.VarP(&a.output, "output", "o", "how to show results: table or json")
	flags.StringVar(&a.socket, "socket", "", "control socket of the daemon (or "+socketEnv+"; default "+config.DefaultControlSocket+")")
	mustComplete(root, "output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
	root.AddCommand(
		a.runCommand(), a.validateCommand(), a.fmtCommand(), a.planCommand(), a.reloadCommand(),
		a.loadCommand(), a.unloadCommand(), a.holdCommand(), a.releCommand(), a.restartCommand(),
		a.statCommand(), a.infoCommand(), a.hooksCommand(), a.objectsCommand(), a.eventsCommand(), a.logsCommand(),
		a.versionCommand(),
	)
	checkTopics(root)
	return root
}

// checkTopics has the commands that cobra adds refuse what there is no help for, and no completion of.
func checkTopics(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help":
			cmd.Args = func(_ *cobra.Command, args []string) error {
				topic, rest, err := root.Find(args)
				if err != nil || len(rest) == 0 {
					return err
				}
				return unknownCommand(topic, rest)
			}
		case "completion":
			cmd.Args = unknownCommand
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		}
	}
}

// unknownCommand is called for what cobra took for arguments of a command that has none, because it is no command.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := ""
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = fmt.Sprintf("; did you mean %s?", strings.Join(near, " or "))
	}
	return usagef(cmd, "unknown command %q%s", args[0], hint)
}

// usageArgs makes a wrong number of arguments a usage error.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usagef(cmd, "%w", err)
		}
		return nil
	}
}

// socketPath returns the control socket to connect to.
func (a *app) socketPath() string {
	if a.socket != "" {
		return a.socket
	}
	if path := os.Getenv(socketEnv); path != "" {
		return path
	}
	return config.DefaultControlSocket
}

// withClient calls do with a connection to the daemon and a context that ends after limit, 0 for none. What goes wrong is reported as of the
// command and its object, as in "unload ertt".
func (a *app) withClient(ctx context.Context, limit time.Duration, what string, do func(context.Context, *control.Client) error) error {
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	client, err := control.Dial(ctx, a.socketPath())
	if err != nil {
		return failed(what, err)
	}
	defer func() { _ = client.Close() }() // nothing was written that could be lost
	if err := do(ctx, client); err != nil {
		return failed(what, err)
	}
	return nil
}

// mustComplete registers the completion of a flag that exists.
func mustComplete(cmd *cobra.Command, flag string, f cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err) // the flag's name is wrong: a mistake in this program that any run shows
	}
}
