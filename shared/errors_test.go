package shared_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/khelp/khelp/shared"
)

// sentinels lists every sentinel with its code, word and errno; 0 stands for none.
var sentinels = []struct {
	err   *shared.Error
	code  shared.Code
	word  string
	errno syscall.Errno
}{
	{shared.ErrExist, shared.CodeExist, "EEXIST", syscall.EEXIST},
	{shared.ErrNotExist, shared.CodeNotExist, "ENOENT", syscall.ENOENT},
	{shared.ErrBusy, shared.CodeBusy, "EBUSY", syscall.EBUSY},
	{shared.ErrInvalid, shared.CodeInvalid, "EINVAL", syscall.EINVAL},
	{shared.ErrNameTooLong, shared.CodeNameTooLong, "ENAMETOOLONG", syscall.ENAMETOOLONG},
	{shared.ErrNoExec, shared.CodeNoExec, "ENOEXEC", syscall.ENOEXEC},
	{shared.ErrPermission, shared.CodePermission, "EPERM", syscall.EPERM},
	{shared.ErrDeadlock, shared.CodeDeadlock, "EDEADLK", syscall.EDEADLK},
	{shared.ErrTooManyLinks, shared.CodeTooManyLinks, "EMLINK", syscall.EMLINK},
	{shared.ErrIncompatible, shared.CodeIncompatible, "EPROGMISMATCH", 0},
	{shared.ErrHelperGone, shared.CodeHelperGone, "EPIPE", syscall.EPIPE},
	{shared.ErrTimeout, shared.CodeTimeout, "ETIMEDOUT", syscall.ETIMEDOUT},
	{shared.ErrBadReply, shared.CodeBadReply, "EPROTO", syscall.EPROTO},
	{shared.ErrOverload, shared.CodeOverload, "EAGAIN", syscall.EAGAIN},
	{shared.ErrTooLarge, shared.CodeTooLarge, "EMSGSIZE", syscall.EMSGSIZE},
	{shared.ErrClosed, shared.CodeClosed, "ESHUTDOWN", syscall.ESHUTDOWN},
	{shared.ErrRejected, shared.CodeRejected, "ECONNREFUSED", syscall.ECONNREFUSED},
	{shared.ErrUnsupported, shared.CodeUnsupported, "ENOTSUP", syscall.ENOTSUP},
	{shared.ErrCanceled, shared.CodeCanceled, "ECANCELED", syscall.ECANCELED},
}

func TestSentinelsHoldBothWays(t *testing.T) {
	for _, s := range sentinels {
		t.Run(s.word, func(t *testing.T) {
			inner := fmt.Errorf("reading: %w", io.ErrUnexpectedEOF)
			err := fmt.Errorf("unload ertt: %w", s.err.Errorf("held by %d objects: %w", 12, inner))
			if !errors.Is(err, s.err) {
				t.Errorf("%v does not wrap its sentinel", err)
			}
			if s.errno != 0 && !errors.Is(err, s.errno) {
				t.Errorf("%v does not wrap %v", err, s.errno)
			}
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%v lost what %%w wrapped", err)
			}
			if want := "unload ertt: held by 12 objects: reading: unexpected EOF"; err.Error() != want {
				t.Errorf("text %q, want %q", err, want)
			}
			for _, other := range sentinels {
				if other.err != s.err && errors.Is(err, other.err) {
					t.Errorf("%v is %v too", err, other.err)
				}
				if other.err != s.err && other.errno != 0 && errors.Is(err, other.errno) {
					t.Errorf("%v is errno %v too", err, other.errno)
				}
			}
			if got := shared.ErrWord(err); got != s.word {
				t.Errorf("ErrWord = %q, want %q", got, s.word)
			}
			if s.err.Word() != s.word || !strings.HasPrefix(s.err.Error(), s.word+": ") {
				t.Errorf("word %q, text %q", s.err.Word(), s.err)
			}
		})
	}
}

func TestCodesComeBackAsTheSameSentinel(t *testing.T) {
	seen := map[shared.Code]bool{}
	for _, s := range sentinels {
		if seen[s.code] || s.err.Code() != s.code || shared.CodeOf(s.err) != s.code {
			t.Errorf("%v: code %d, CodeOf %d, want %d once", s.err, s.err.Code(), shared.CodeOf(s.err), s.code)
		}
		seen[s.code] = true
		if back := shared.FromCode(s.code, ""); back != error(s.err) { //nolint:errorlint // the very sentinel, not one that wraps it
			t.Errorf("FromCode(%d, \"\") = %v", s.code, back)
		}
		if back := shared.FromCode(s.code, s.err.Error()); back != error(s.err) { //nolint:errorlint // as above
			t.Errorf("FromCode(%d) of the bare sentinel's text = %v, its word would be printed twice", s.code, back)
		}
		sent := fmt.Errorf("ask: %w", s.err.Errorf("no %d%%", 5))
		back := shared.FromCode(shared.CodeOf(sent), sent.Error())
		if !errors.Is(back, s.err) || back.Error() != "ask: no 5%" {
			t.Errorf("%v came back as %v", sent, back)
		}
		if s.errno != 0 && !errors.Is(back, s.errno) {
			t.Errorf("%v came back without its errno", sent)
		}
	}
	for code := shared.CodeExist; code <= shared.CodeCanceled; code++ {
		if !seen[code] {
			t.Errorf("code %d has no sentinel", code)
		}
	}
}

func TestCodesWithoutASentinel(t *testing.T) {
	if shared.FromCode(shared.CodeOK, "ignored") != nil || shared.CodeOf(nil) != shared.CodeOK {
		t.Error("CodeOK is not nil")
	}
	if got := shared.CodeOf(io.EOF); got != shared.CodeUnknown {
		t.Errorf("CodeOf(io.EOF) = %d", got)
	}
	if err := shared.FromCode(shared.CodeUnknown, "EOF"); err == nil || err.Error() != "EOF" || shared.CodeOf(err) != shared.CodeUnknown {
		t.Errorf("an error without a sentinel came back as %v", err)
	}
	for _, code := range []shared.Code{-1, shared.CodeCanceled + 1, 4711} {
		err := shared.FromCode(code, "from the future")
		if err == nil || !strings.Contains(err.Error(), fmt.Sprint(int32(code))) || !strings.Contains(err.Error(), "from the future") {
			t.Errorf("code %d came out as %v", code, err)
		}
		if shared.CodeOf(err) != shared.CodeUnknown || shared.ErrWord(err) != "" {
			t.Errorf("code %d wraps a sentinel: %v", code, err)
		}
	}
	if shared.ErrWord(nil) != "" || shared.ErrWord(io.EOF) != "" {
		t.Error("a word without a sentinel")
	}
}

func TestSentinelsAreTheStandardLibrarysToo(t *testing.T) {
	for err, std := range map[*shared.Error]error{
		shared.ErrExist: fs.ErrExist, shared.ErrNotExist: fs.ErrNotExist, shared.ErrPermission: fs.ErrPermission,
	} {
		if !errors.Is(err, std) {
			t.Errorf("%v is not %v", err, std)
		}
	}
	if !errors.Is(shared.ErrUnsupported, errors.ErrUnsupported) {
		t.Error("ErrUnsupported is not errors.ErrUnsupported")
	}
}

func TestEveryCauseHasASentinel(t *testing.T) {
	want := map[shared.Cause]*shared.Error{
		shared.CauseNotLoaded: shared.ErrNotExist, shared.CauseStarting: shared.ErrBusy, shared.CauseTimeout: shared.ErrTimeout,
		shared.CauseCrash: shared.ErrHelperGone, shared.CauseHung: shared.ErrTimeout, shared.CauseBadReply: shared.ErrBadReply,
		shared.CauseOverload: shared.ErrOverload, shared.CauseTooLarge: shared.ErrTooLarge, shared.CauseDenied: shared.ErrPermission,
	}
	if len(shared.Causes) != len(want) {
		t.Errorf("%d causes are listed, want %d", len(shared.Causes), len(want))
	}
	for _, c := range shared.Causes {
		if c.Err() != want[c] {
			t.Errorf("%s goes with %v, want %v", c, c.Err(), want[c])
		}
	}
}
