package lane

import (
	"time"

	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// MaxChain is the most calls that one chain may have: what a sequence number has room for.
const MaxChain = 1 << 12

// Handler is told how the calls of its chain end: for each of them, in order, either Reply or, from some call on, Fail. The methods
// are called one at a time and must not block.
type Handler interface {
	// Reply delivers the reply to call i. The view's slices are good until it returns.
	Reply(i int, r *wire.ReplyView)
	// Fail says that call i and those behind it will have no reply. It is called at most once.
	Fail(i int, cause shared.Cause, err error)
}

// Call is one call of a chain. Its slices are borrowed until Submit returns.
type Call struct {
	Kind    wire.CallKind
	Hook    uint32
	Context []byte
	Timeout time.Duration // from when it is sent, or from the reply before in a chain
}

// Chain is the calls of one object that go out together; each after the first starts from the data that the one before left. Its
// slices are borrowed until Submit returns.
type Chain struct {
	Object  uint64
	HasData bool
	Data    []byte
	Calls   []Call
	Handler Handler
}

// Counts are the replies that fitted nothing.
type Counts struct {
	Late  uint64 // for calls that had ended already: too late, or twice
	Stray uint64 // with numbers that were never given out
}
