package osd

import (
	"sync"

	"github.com/khelp/khelp/shared"
)

// Slot is one helper's place on one object: its bytes, if it keeps any, and the order of its calls. It is safe for concurrent use,
// but for what says otherwise.
type Slot struct {
	helper  shared.HelperID
	keeps   bool // whether the helper keeps data here; without, the slot only orders calls
	serial  any  // see Serial
	running sync.Mutex

	mu   sync.Mutex // protects the following field against readers; see Lent
	data []byte
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

// Running is held while a function in this process works on the slot. Calls that leave the process are kept apart by Serial instead.
func (s *Slot) Running() *sync.Mutex { return &s.running }

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

// Swap makes data itself the slot's bytes and returns the slice that held them before, for use again. Only the one whose call has
// ended may.
func (s *Slot) Swap(data []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, s.data = s.data, data
	return data
}

// Commit makes data, of which it keeps a copy, the slot's bytes: whole, or not at all. Only the one whose call has ended may.
func (s *Slot) Commit(data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.data = append(s.data[:0], data...)
}
