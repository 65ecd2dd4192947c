package host

import (
	"context"
	"fmt"
	"time"
)

// Waiting returns how many helpers cannot go on before something under way on others has ended.
func Waiting(h *Host) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.waits)
}

// Sweep makes one pass of autounloading as if it were some time later.
func Sweep(h *Host, later time.Duration, pressed bool) {
	h.sweepOnce(context.Background(), time.Now().Add(later), pressed)
}

// Left says what a host still keeps that should be gone when all its helpers are.
func Left(h *Host) (left []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, hp := range h.helpers {
		left = append(left, fmt.Sprintf("%s is %s, held by %v, requires %d", hp.name, hp.state, hp.holdersLocked(), len(hp.requires)))
	}
	for hp := range h.waits {
		left = append(left, fmt.Sprintf("%s waits for %d operations", hp.name, len(h.waits[hp])))
	}
	return left
}

// HadLoaded counts the helpers that a helper remembers to have had loaded.
func HadLoaded(h *Host, name string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.findLocked(name).inst.Load().loaded)
}

// PingPongs returns how many helpers a host remembers that have left because they were idle.
func PingPongs(h *Host) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.pingPongs)
}
