package osd

import (
	"context"
	"sync"
	"time"

	"github.com/khelp/khelp/shared"
)

// Slot is one helper's place on one object: its bytes, if it keeps any, and the order of its calls. It is safe for concurrent use,
// but for what says otherwise.
type Slot struct {
	helper  shared.HelperID
	keeps   bool // whether the helper keeps data here; without, the slot only orders calls
	serial  any  // see Serial
	running turn

	mu    sync.Mutex // protects the following fields, data against readers only; see Lent
	data  []byte
	ended bool
}

// NewSlot returns a slot with a copy of data. Serial is for the dispatcher of the helper's calls; see Slot.Serial.
func NewSlot(helper shared.HelperID, data []byte, serial any) *Slot {
	return &Slot{helper: helper, keeps: true, serial: serial, data: append([]byte(nil), data...)}
}

// NewOrderSlot returns a slot without data, which serves only to keep the order of a helper's calls on an object.
func NewOrderSlot(helper shared.HelperID, serial any) *Slot {
	return &Slot{helper: helper, serial: serial}
}

// Helper returns whose slot it is.
func (s *Slot) Helper() shared.HelperID { return s.helper }

// KeepsData reports whether the helper keeps data here.
func (s *Slot) KeepsData() bool { return s.keeps }

// Serial returns what the dispatcher of the helper's calls put here to keep them in order; nobody else looks at it.
func (s *Slot) Serial() any { return s.serial }

// Enter keeps functions in this process that work on the slot apart: it waits until the one before has left, until deadline, or as long
// as ctx allows if that is zero, and reports whether it is the caller's turn; if so, Leave ends it. Calls that leave the process are
// kept apart by Serial instead.
func (s *Slot) Enter(ctx context.Context, deadline time.Time) bool {
	return s.running.lock(ctx, deadline)
}

// TryEnter is Enter without the wait.
func (s *Slot) TryEnter() bool { return s.running.tryLock() }

// Leave ends what Enter began.
func (s *Slot) Leave() { s.running.unlock() }

// Bytes returns a copy of the committed data: khelp_get_osd.
func (s *Slot) Bytes() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]byte(nil), s.data...)
}

// Len returns the length of the committed data in bytes.
func (s *Slot) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.data)
}

// Lent returns the committed data itself, not to be changed, to the one who is about to call the helper: only one call, or chain of
// calls, of a slot is under way at a time, and only its end commits, so the bytes hold still until then.
func (s *Slot) Lent() []byte { return s.data }

// Admit decides whether a slot may grow by so many bytes, which may be negative.
type Admit func(grown int) bool

// Swap makes data itself the slot's bytes, if admit allows, and returns the slice that held them before, for use again. Only the one
// whose call has ended may.
func (s *Slot) Swap(data []byte, admit Admit) (old []byte, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || !s.admitted(data, admit) {
		return nil, false
	}
	old, s.data = s.data, data
	return old, true
}

// Commit makes data, of which it keeps a copy, the slot's bytes, if admit allows: whole, or not at all. Only the one whose call has ended
// may. A slot that has ended takes nothing more.
func (s *Slot) Commit(data []byte, admit Admit) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || !s.admitted(data, admit) {
		return false
	}
	s.data = append(s.data[:0], data...)
	return true
}

func (s *Slot) admitted(data []byte, admit Admit) bool {
	grown := len(data) - len(s.data)
	return grown == 0 || admit == nil || admit(grown)
}

// End says that the slot's object is gone, and returns how many bytes the slot held at the end. A call that ends later commits nothing.
func (s *Slot) End() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	return len(s.data)
}
