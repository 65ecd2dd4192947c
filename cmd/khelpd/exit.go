package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/khelp/khelp/host/control"
	"github.com/khelp/khelp/shared"
)

// The exit codes, a contract with scripts.
const (
	exitDone       = 0
	exitFailed     = 1
	exitUsage      = 2
	exitNotRunning = 3
	exitNotExist   = 4
	exitPermission = 5
	exitBusy       = 6
	exitConfig     = 7
	exitTimeout    = 8
	exitChanges    = 9
)

// exitWords says what the codes mean, in their order.
var exitWords = []string{
	"done", "failed", "usage", "daemon not running", "no such helper or point", "not permitted", "busy", "bad configuration", "timed out",
	"plan found changes",
}

// exitHelp is exitWords for people: "0 done, 1 failed, …".
func exitHelp() string {
	var b strings.Builder
	for code, word := range exitWords {
		if code > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%d %s", code, word)
	}
	return b.String()
}

// quietError ends a command that has said all there is to say with an exit code.
type quietError struct{ code int }

func (e *quietError) Error() string { return exitWords[e.code] }

// usageError is a mistake on the command line.
type usageError struct {
	command string // "khelpd load"
	err     error
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(cmd *cobra.Command, format string, args ...any) error {
	return &usageError{command: cmd.CommandPath(), err: fmt.Errorf(format, args...)}
}

// commandError is what went wrong with a command that was understood.
type commandError struct {
	what string // the command and what it was about: "unload ertt"
	err  error
}

func (e *commandError) Error() string { return e.what + ": " + e.err.Error() }
func (e *commandError) Unwrap() error { return e.err }

func failed(what string, err error) error { return &commandError{what: what, err: err} }

// configError says that the configuration is at fault. Its diagnostics, if it has any, have been printed.
type configError struct{ err error }

func (e *configError) Error() string { return e.err.Error() }
func (e *configError) Unwrap() error { return e.err }

// exitCode finds the code for what a command ended with.
func exitCode(err error) int {
	var (
		usage    *usageError
		conf     *configError
		property *shared.PropertyError
		quiet    *quietError
		remote   *control.ConfigError
	)
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &quiet):
		return quiet.code
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, control.ErrNotRunning):
		return exitNotRunning
	case errors.As(err, &conf), errors.As(err, &remote), errors.As(err, &property):
		return exitConfig
	case errors.Is(err, shared.ErrNotExist):
		return exitNotExist
	case errors.Is(err, shared.ErrPermission), errors.Is(err, syscall.EACCES):
		return exitPermission
	case errors.Is(err, shared.ErrBusy), isAddrInUse(err):
		return exitBusy
	case errors.Is(err, shared.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return exitTimeout
	default:
		return exitFailed
	}
}

// report prints an error as "khelpd: unload ertt: EBUSY: held by 12 objects", the command and the errno word where there are any.
func (a *app) report(err error) {
	if quiet := (*quietError)(nil); errors.As(err, &quiet) {
		return
	}
	var (
		b       strings.Builder
		usage   *usageError
		command *commandError
		text    = err
	)
	b.WriteString("khelpd: ")
	switch {
	case errors.As(err, &usage):
		if verb := strings.TrimPrefix(usage.command, "khelpd "); verb != usage.command {
			b.WriteString(verb + ": ")
		}
		text = usage.err
	case errors.As(err, &command):
		b.WriteString(command.what + ": ")
		text = command.err
	}
	sentence := printable(text.Error())
	if word := errWord(text); word != "" && !strings.HasPrefix(sentence, word+":") {
		b.WriteString(word + ": ")
	}
	// A sentence of several lines, such as the last words of a helper, is indented so that it can be told from the next message.
	b.WriteString(strings.ReplaceAll(strings.TrimRight(sentence, "\n"), "\n", "\n\t"))
	if usage != nil {
		b.WriteString("\nRun '" + usage.command + " --help' for usage.")
	}
	fmt.Fprintln(a.stderr, b.String())
}

// errWord returns the errno word of an error: of a sentinel, or of the few errors of the system that come without one.
func errWord(err error) string {
	switch {
	case errors.Is(err, control.ErrNotRunning) && errors.Is(err, syscall.ENOENT):
		return "ENOENT"
	case errors.Is(err, control.ErrNotRunning):
		return "ECONNREFUSED"
	case shared.ErrWord(err) != "":
		return shared.ErrWord(err)
	case isAddrInUse(err):
		return "EADDRINUSE"
	case errors.Is(err, syscall.EACCES):
		return "EACCES"
	case errors.Is(err, context.DeadlineExceeded):
		return "ETIMEDOUT"
	default:
		return ""
	}
}

func isAddrInUse(err error) bool { return errors.Is(err, syscall.EADDRINUSE) }
