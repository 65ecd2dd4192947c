package control

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/khelp/khelp/host/control/controlv1"
	"github.com/khelp/khelp/shared"
)

// ErrNotRunning is what Dial and every call end with when nobody listens on the socket, or no longer. It wraps the error of the system
// where there is one.
var ErrNotRunning = errors.New("daemon is not running")

// errEnding is what a stream that follows something ends with when the server does.
var errEnding = status.Error(codes.Unavailable, "the daemon ends")

// maxDiagnostics bounds the text of diagnostics, in bytes: it crosses in a header.
const maxDiagnostics = 256 << 10

// notRunningError wraps the system's error too, for which its own sentence is the better one.
type notRunningError struct {
	text  string
	cause error
}

func (e *notRunningError) Error() string   { return e.text }
func (e *notRunningError) Unwrap() []error { return []error{ErrNotRunning, e.cause} }

// toStatus turns a host's error into one that crosses gRPC with its sentinel, its sentence and the properties at fault.
func toStatus(err error) error {
	if err == nil || errors.Is(err, errEnding) {
		return err
	}
	// A gRPC status within err is not passed on: it is a helper's, and would look like the state of this connection.
	detail := errorDetail(err)
	st := status.New(grpcCode(shared.Code(detail.GetCode())), detail.GetMessage())
	if with, err := st.WithDetails(detail); err == nil {
		st = with
	}
	return st.Err()
}

// errorDetail is all of an error that crosses; none for none.
func errorDetail(err error) *controlv1.ErrorDetail {
	if err == nil {
		return nil
	}
	detail := &controlv1.ErrorDetail{Code: int32(errorCode(err)), Message: validText(err.Error())}
	for _, p := range shared.PropertyErrors(err) {
		detail.Properties = append(detail.Properties, &controlv1.PropertyError{Name: validText(p.Name), Message: validText(p.Err.Error())})
	}
	var config *ConfigError
	if errors.As(err, &config) {
		text := validText(config.Diagnostics[:min(len(config.Diagnostics), maxDiagnostics)])
		detail.Diagnostics = &text
	}
	return detail
}

// validText makes what a helper may have had its say in fit for a message.
func validText(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// errorCode is shared.CodeOf for errors that may also come from a context.
func errorCode(err error) shared.Code {
	if code := shared.CodeOf(err); code != shared.CodeUnknown {
		return code
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return shared.CodeTimeout
	case errors.Is(err, context.Canceled):
		return shared.CodeCanceled
	default:
		return shared.CodeUnknown
	}
}

// grpcCode is the nearest gRPC code, for clients that know only those. Ours read the detail.
func grpcCode(code shared.Code) codes.Code {
	switch code {
	case shared.CodeExist:
		return codes.AlreadyExists
	case shared.CodeNotExist:
		return codes.NotFound
	case shared.CodeBusy, shared.CodeDeadlock, shared.CodeTooManyLinks, shared.CodeNoExec, shared.CodeIncompatible:
		return codes.FailedPrecondition
	case shared.CodeInvalid, shared.CodeNameTooLong:
		return codes.InvalidArgument
	case shared.CodePermission:
		return codes.PermissionDenied
	case shared.CodeTimeout:
		return codes.DeadlineExceeded
	case shared.CodeOverload, shared.CodeTooLarge:
		return codes.ResourceExhausted
	case shared.CodeUnsupported:
		return codes.Unimplemented
	case shared.CodeCanceled:
		return codes.Canceled
	case shared.CodeRejected, shared.CodeClosed, shared.CodeHelperGone, shared.CodeBadReply:
		return codes.Aborted
	default:
		return codes.Unknown
	}
}

// fromStatus turns what a call ended with into the host's error again.
func fromStatus(err error) error {
	if err == nil {
		return nil
	}
	st, ok := status.FromError(err)
	if !ok {
		return err
	}
	for _, d := range st.Details() {
		if detail, ok := d.(*controlv1.ErrorDetail); ok {
			return fromDetail(detail)
		}
	}
	switch st.Code() {
	case codes.Unavailable:
		return fmt.Errorf("%w: the connection broke: %s", ErrNotRunning, st.Message())
	case codes.DeadlineExceeded:
		return shared.ErrTimeout.Errorf("the daemon did not answer in time")
	case codes.Canceled:
		return shared.ErrCanceled.Errorf("canceled")
	case codes.ResourceExhausted:
		return shared.ErrTooLarge.Errorf("%s", st.Message())
	case codes.Unimplemented:
		return shared.ErrUnsupported.Errorf("the daemon does not know this command: %s", st.Message())
	default:
		return fmt.Errorf("control service: %s", st.Message())
	}
}

// fromDetail is the inverse of errorDetail.
func fromDetail(d *controlv1.ErrorDetail) error {
	if d == nil {
		return nil
	}
	err := shared.FromCode(shared.Code(d.GetCode()), d.GetMessage())
	if err == nil {
		return fmt.Errorf("control service: an error without a code: %s", d.GetMessage())
	}
	var properties []*shared.PropertyError
	for _, p := range d.GetProperties() {
		properties = append(properties, &shared.PropertyError{Name: p.GetName(), Err: shared.ErrInvalid.Errorf("%s", p.GetMessage())})
	}
	err = shared.NameProperties(err, properties)
	if d.Diagnostics != nil {
		err = &ConfigError{Diagnostics: d.GetDiagnostics(), Err: err}
	}
	return err
}

// errno returns the system's own error in err, which is shorter than what net makes of it, or err.
func errno(err error) error {
	var e syscall.Errno
	if errors.As(err, &e) {
		return e
	}
	return err
}
