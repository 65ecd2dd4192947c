package helper

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// Call is one invocation of a hook. It is the SDK's, is valid until the hook returns, and is for that hook's goroutine only.
type Call struct {
	// Point is where the host is. Empty in New and Free.
	Point shared.HookPoint
	// UData is the hook's own, as declared.
	UData []byte
	// Object names the subsystem's object, such as a connection; 0 for none.
	Object uint64
	// Context is what the call site passes to every hook: usually a protobuf message that the point's subsystem publishes. Do not change
	// it; copy what must outlive the call.
	Context []byte

	newContext    []byte
	hasNewContext bool
}

// SetContext replaces the context for the hooks that come after this one and for the caller. It works on points that are declared
// mutable; others ignore it. The bytes must stay as they are until the hook returns.
func (c *Call) SetContext(b []byte) { c.newContext, c.hasNewContext = b, true }

// Reject returns the error that refuses the caller, with the reason, on a filter point: return it from the hook. What the hook
// changed in *S still commits.
func (c *Call) Reject(format string, args ...any) error { return Reject(format, args...) }

// Reject is Call.Reject for code that has no Call at hand.
func Reject(format string, args ...any) error {
	return &rejection{reason: fmt.Sprintf(format, args...)}
}

type rejection struct{ reason string }

func (r *rejection) Error() string { return r.reason }
func (r *rejection) Unwrap() error { return shared.ErrRejected }

// NoOpinion is Autounload's answer when the helper does not mind either way.
var NoOpinion = errors.New("no opinion")

// maxMessage bounds the text of an error on its way to the host.
const maxMessage = 4 << 10

// verdictOf says what a hook's error means on the wire.
func verdictOf(err error) (wire.Verdict, shared.Code, string) {
	if err == nil {
		return wire.Verdict_VERDICT_PASS, shared.CodeOK, ""
	}
	var r *rejection
	if errors.As(err, &r) {
		return wire.Verdict_VERDICT_REJECT, shared.CodeOK, clip(err.Error())
	}
	return wire.Verdict_VERDICT_PASS, codeOf(err), clip(err.Error())
}

// codeOf is shared.CodeOf that knows the errors of contexts as well.
func codeOf(err error) shared.Code {
	code := shared.CodeOf(err)
	switch {
	case code != shared.CodeUnknown:
		return code
	case errors.Is(err, context.DeadlineExceeded):
		return shared.CodeTimeout
	case errors.Is(err, context.Canceled):
		return shared.CodeCanceled
	default:
		return code
	}
}

func clip(text string) string {
	if len(text) > maxMessage {
		return text[:maxMessage] + "…"
	}
	return text
}

// clipValid is clip for text that a message must hold, which may have been cut within a rune.
func clipValid(text string) string { return strings.ToValidUTF8(clip(text), "") }

// statusOf is wire.StatusOf with codeOf, in a size that can be sent.
func statusOf(err error) *wire.Status {
	if err == nil {
		return &wire.Status{}
	}
	s := wire.StatusOf(err)
	s.Code, s.Message = wire.Code(codeOf(err)), clipValid(s.GetMessage())
	for _, p := range s.GetProperties() {
		p.Message = clipValid(p.GetMessage())
	}
	return s
}

// epoch is the process's own zero of time: differences to it are read from the monotonic clock alone, which costs half of time.Now.
var epoch = time.Now()

func now() time.Duration { return time.Since(epoch) }
