package shared

import (
	"errors"
	"fmt"
	"syscall"
)

// Error is a sentinel of khelp: a condition with a stable code that crosses the wire and, where one exists, the errno the kernel
// would have answered with. Compare with errors.Is, against the sentinel or against the errno: both
//
//	errors.Is(err, shared.ErrBusy)
//	errors.Is(err, syscall.EBUSY)
//
// hold for an error that wraps ErrBusy. Sentinels are immutable and safe for concurrent use.
type Error struct {
	code  Code
	word  string
	text  string
	errno syscall.Errno // 0: this condition has no errno on this system
}

// Code is the number of a sentinel on the wire (khelp.v1.Code). It never changes its meaning.
type Code int32

// The codes of the protocol. CodeOK is the absence of an error; CodeUnknown is an error that wraps no sentinel.
const (
	CodeOK           Code = 0
	CodeUnknown      Code = 1
	CodeExist        Code = 2
	CodeNotExist     Code = 3
	CodeBusy         Code = 4
	CodeInvalid      Code = 5
	CodeNameTooLong  Code = 6
	CodeNoExec       Code = 7
	CodePermission   Code = 8
	CodeDeadlock     Code = 9
	CodeTooManyLinks Code = 10
	CodeIncompatible Code = 11
	CodeHelperGone   Code = 12
	CodeTimeout      Code = 13
	CodeBadReply     Code = 14
	CodeOverload     Code = 15
	CodeTooLarge     Code = 16
	CodeClosed       Code = 17
	CodeRejected     Code = 18
	CodeUnsupported  Code = 19
	CodeCanceled     Code = 20
)

// The sentinels. Each wraps the errno in its comment; ErrIncompatible has one on the BSDs only and prints its word everywhere.
var (
	ErrExist        = sentinel(CodeExist, "EEXIST", "already exists", syscall.EEXIST)
	ErrNotExist     = sentinel(CodeNotExist, "ENOENT", "does not exist", syscall.ENOENT)
	ErrBusy         = sentinel(CodeBusy, "EBUSY", "busy", syscall.EBUSY)
	ErrInvalid      = sentinel(CodeInvalid, "EINVAL", "invalid", syscall.EINVAL)
	ErrNameTooLong  = sentinel(CodeNameTooLong, "ENAMETOOLONG", "name too long", syscall.ENAMETOOLONG)
	ErrNoExec       = sentinel(CodeNoExec, "ENOEXEC", "cannot be executed as a helper", syscall.ENOEXEC)
	ErrPermission   = sentinel(CodePermission, "EPERM", "not permitted", syscall.EPERM)
	ErrDeadlock     = sentinel(CodeDeadlock, "EDEADLK", "circular requirement", syscall.EDEADLK)
	ErrTooManyLinks = sentinel(CodeTooManyLinks, "EMLINK", "too many levels", syscall.EMLINK)
	ErrIncompatible = sentinel(CodeIncompatible, "EPROGMISMATCH", "incompatible version", 0)
	ErrHelperGone   = sentinel(CodeHelperGone, "EPIPE", "helper is gone", syscall.EPIPE)
	ErrTimeout      = sentinel(CodeTimeout, "ETIMEDOUT", "timed out", syscall.ETIMEDOUT)
	ErrBadReply     = sentinel(CodeBadReply, "EPROTO", "bad reply", syscall.EPROTO)
	ErrOverload     = sentinel(CodeOverload, "EAGAIN", "overloaded", syscall.EAGAIN)
	ErrTooLarge     = sentinel(CodeTooLarge, "EMSGSIZE", "too large", syscall.EMSGSIZE)
	ErrClosed       = sentinel(CodeClosed, "ESHUTDOWN", "closed", syscall.ESHUTDOWN)
	ErrRejected     = sentinel(CodeRejected, "ECONNREFUSED", "rejected", syscall.ECONNREFUSED)
	ErrUnsupported  = sentinel(CodeUnsupported, "ENOTSUP", "not supported", syscall.ENOTSUP)
	ErrCanceled     = sentinel(CodeCanceled, "ECANCELED", "canceled", syscall.ECANCELED)
)

// sentinels finds a sentinel by its code; filled by sentinel while the package initialises and read only after that.
var sentinels = map[Code]*Error{}

func sentinel(code Code, word, text string, errno syscall.Errno) *Error {
	e := &Error{code: code, word: word, text: text, errno: errno}
	sentinels[code] = e
	return e
}

// Error returns the errno's word and what it means here, as in "EBUSY: busy".
func (e *Error) Error() string { return e.word + ": " + e.text }

// Code returns the sentinel's number on the wire.
func (e *Error) Code() Code { return e.code }

// Word returns the errno's name, as in "EBUSY".
func (e *Error) Word() string { return e.word }

// Unwrap returns the errno, or nil where this system has none.
func (e *Error) Unwrap() error {
	if e.errno == 0 {
		return nil
	}
	return e.errno
}

// Errorf returns an error that wraps the sentinel and carries a sentence of its own. The sentence takes fmt.Errorf's verbs, %w too.
// Its text is the sentence alone: the word is found by ErrWord, so that it is printed once, by whoever reports the error.
func (e *Error) Errorf(format string, args ...any) error {
	return &wrapped{sentinel: e, err: fmt.Errorf(format, args...)}
}

type wrapped struct {
	sentinel *Error
	err      error
}

func (w *wrapped) Error() string   { return w.err.Error() }
func (w *wrapped) Unwrap() []error { return []error{w.sentinel, w.err} }

// ErrWord returns the errno word of the first sentinel that err wraps, as in "EBUSY", or "" if it wraps none.
func ErrWord(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.word
	}
	return ""
}

// CodeOf returns the wire code of the first sentinel that err wraps: CodeOK for nil, CodeUnknown for an error without one.
func CodeOf(err error) Code {
	if err == nil {
		return CodeOK
	}
	var e *Error
	if errors.As(err, &e) {
		return e.code
	}
	return CodeUnknown
}

// FromCode makes an error that came as a code and a text into the sentinel again, wrapped with its text if that says more than the
// sentinel's own. CodeOK is nil; a code this build does not know keeps its number in the text.
func FromCode(code Code, text string) error {
	if code == CodeOK {
		return nil
	}
	e, known := sentinels[code]
	switch {
	case known && (text == "" || text == e.Error()):
		return e
	case known:
		return e.Errorf("%s", text)
	case code == CodeUnknown && text != "":
		return errors.New(text)
	default:
		return fmt.Errorf("error code %d: %s", code, text)
	}
}
