package hhook

import "github.com/khelp/khelp/shared"

// Kind says what the results of a head's hooks may do.
type Kind uint8

// The kinds. The zero value is Observe.
const (
	Observe Kind = iota // results cannot stop the caller
	Filter              // a hook may reject; the first reject ends the chain
)

// String returns observe or filter.
func (k Kind) String() string {
	if k == Filter {
		return "filter"
	}
	return "observe"
}

// Policy is what the operator chose for the failures of one hook.
type Policy struct {
	OnFailure shared.Action
	OnCause   map[shared.Cause]shared.Action // wins over OnFailure; callers must not change it after use
}

// Decide says what to do about a hook that failed: the one place where that is decided, for runs and for the making of objects. The
// default is closed for a filter and open for an observer.
func Decide(kind Kind, p Policy, cause shared.Cause) shared.Action {
	if a := p.OnCause[cause]; a != shared.ActionDefault {
		return a
	}
	if p.OnFailure != shared.ActionDefault {
		return p.OnFailure
	}
	if kind == Filter {
		return shared.Closed
	}
	return shared.Open
}
