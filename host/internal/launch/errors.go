package launch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"time"

	"github.com/khelp/khelp/shared"
)

// Reason tells failed starts apart. It is a word, so that it can stand in logs and events.
type Reason string

// The reasons, with the sentinel that the error wraps.
const (
	ReasonConfig      Reason = "config"         // the configuration contradicts itself (ErrInvalid)
	ReasonMissing     Reason = "missing"        // no such file (ErrNotExist)
	ReasonDirectory   Reason = "directory"      // a directory or a device instead of a program (ErrNoExec)
	ReasonMode        Reason = "not_executable" // file mode or mount forbids running or reading it (ErrPermission)
	ReasonArch        Reason = "architecture"   // built for another system (ErrNoExec)
	ReasonInterpreter Reason = "interpreter"    // a script's interpreter or a program's loader is missing (ErrNoExec: the file asked for is there)
	ReasonFormat      Reason = "format"         // neither program nor script (ErrNoExec)
	ReasonChecksum    Reason = "checksum"       // not the file that was pinned (ErrPermission)
	ReasonExec        Reason = "exec"           // the kernel refused for another reason (that errno)
	ReasonExited      Reason = "exited"         // it ended before it could be used (ErrHelperGone, and *ExitError)
	ReasonNotHelper   Reason = "not_helper"     // it runs, but gives no handshake (ErrNoExec)
	ReasonProtocol    Reason = "protocol"       // other protocol, version or transport (ErrIncompatible)
	ReasonNoTLS       Reason = "no_tls"         // it offers no certificate (ErrIncompatible)
	ReasonTimeout     Reason = "timeout"        // not ready in time (ErrTimeout)
	ReasonCanceled    Reason = "canceled"       // the caller gave up (ErrCanceled)
	ReasonConnect     Reason = "connect"        // handshake given, connection refused (ErrHelperGone)
)

// Error is a failed start. It wraps a sentinel of package shared and, where there is one, the cause underneath.
type Error struct {
	Reason Reason
	Tail   []string // last lines of the helper's output, oldest first, if it ran at all
	err    error
}

// errorTailLines bounds the output that is repeated in an error's text; Tail has all that was kept.
const errorTailLines = 10

func (e *Error) Error() string {
	if len(e.Tail) == 0 {
		return e.err.Error()
	}
	last := e.Tail[max(0, len(e.Tail)-errorTailLines):]
	return e.err.Error() + "; its last output:\n  " + strings.Join(last, "\n  ")
}

// Unwrap returns the sentinel and the cause.
func (e *Error) Unwrap() error { return e.err }

// Permanent reports whether trying again cannot help until somebody changes the file or the configuration.
func (e *Error) Permanent() bool {
	switch e.Reason {
	case ReasonTimeout, ReasonCanceled, ReasonConnect, ReasonExec:
		return false
	case ReasonExited:
		// 126 and 127 are what shells and env answer for a command that cannot be run or found.
		var exit *ExitError
		return errors.As(e.err, &exit) && (exit.Code == 126 || exit.Code == 127)
	}
	return true
}

// ExitError is the end of a helper process. It wraps shared.ErrHelperGone, for status 0 too: whatever its status, it is gone.
type ExitError struct {
	Code   int            // exit status, -1 if a signal ended it
	Signal syscall.Signal // the signal that ended it, or 0
	Core   bool           // it dumped core
	Tail   []string       // last lines of its output, oldest first
}

func (e *ExitError) Error() string {
	switch {
	case e.Signal != 0 && e.Core:
		return fmt.Sprintf("ended by signal %d (%s), core dumped", int(e.Signal), e.Signal)
	case e.Signal != 0:
		return fmt.Sprintf("ended by signal %d (%s)", int(e.Signal), e.Signal)
	}
	return fmt.Sprintf("exited with status %d", e.Code)
}

// Unwrap returns shared.ErrHelperGone.
func (e *ExitError) Unwrap() error { return shared.ErrHelperGone }

func fail(reason Reason, err error) *Error { return &Error{Reason: reason, err: err} }

func failf(reason Reason, sentinel *shared.Error, format string, args ...any) *Error {
	return fail(reason, sentinel.Errorf(format, args...))
}

// unusable is failf for a program whose interpreter or loader is missing. The kernel's ENOENT is about that other file and only told, not
// wrapped: the file asked for exists.
func unusable(err error, format string, args ...any) *Error {
	return failf(ReasonInterpreter, shared.ErrNoExec, "%s: %v", fmt.Sprintf(format, args...), err)
}

// wrapErrno adds the sentinel that answers to err's errno, if there is one.
func wrapErrno(err error, format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return shared.ErrNotExist.Errorf("%s: %w", text, err)
	case errors.Is(err, fs.ErrPermission):
		return shared.ErrPermission.Errorf("%s: %w", text, err)
	case errors.Is(err, syscall.ENOEXEC):
		return shared.ErrNoExec.Errorf("%s: %w", text, err)
	}
	return fmt.Errorf("%s: %w", text, err)
}

// interrupted returns err if it has its reason already, and otherwise makes it a timeout or a cancellation if that is what ended the
// start.
func interrupted(ctx context.Context, limit time.Duration, doing string, err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	switch {
	case ctx.Err() == nil:
	case errors.Is(context.Cause(ctx), errStartTimeout):
		return failf(ReasonTimeout, shared.ErrTimeout, "%s took longer than %v", doing, limit)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return failf(ReasonTimeout, shared.ErrTimeout, "%s took longer than the caller waits: %w", doing, ctx.Err())
	default:
		return failf(ReasonCanceled, shared.ErrCanceled, "start canceled while %s: %w", doing, ctx.Err())
	}
	return fail(ReasonExec, err)
}
