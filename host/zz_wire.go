package host

import (
	"sync"

	"github.com/khelp/khelp/shared"
)

// wires stands for fields of Host until it has them.
var wires = struct {
	mu     sync.Mutex
	byHost map[*Host]*wiring
}{byHost: map[*Host]*wiring{}}

type wiring struct {
	events *eventLog
	logs   *logbook
}

func (h *Host) wired() *wiring {
	wires.mu.Lock()
	defer wires.mu.Unlock()
	if wires.byHost[h] == nil {
		wires.byHost[h] = &wiring{newEventLog(), newLogbook()}
	}
	return wires.byHost[h]
}

func (h *Host) eventLog() *eventLog { return h.wired().events }
func (h *Host) logbook() *logbook   { return h.wired().logs }

// presentLocked returns a loaded event for each helper that is active.
func (h *Host) presentLocked() []Event {
	var present []Event
	for _, hp := range h.helpers {
		if hp.state == shared.StateActive {
			present = append(present, Event{Type: EventLoaded, Helper: hp.name})
		}
	}
	return present
}
