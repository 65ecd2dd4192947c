package host

import (
	"context"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/shared"
)

// weightUnit is how many bytes of context take as much of a helper's room as one call.
const weightUnit = 4 << 10

// room bounds how many calls of a helper may be queued or under way, whatever the incarnation. When the limit changes the helper gets
// another room; what is in the old one leaves it as it goes on, and is not counted in the new one.
type room struct {
	limit int
	free  *semaphore.Weighted
}

// place is a call's in a room.
type place struct {
	room   *room
	weight int64
}

func newRoom(limit int) *room { return &room{limit: limit, free: semaphore.NewWeighted(int64(limit))} }

// limits returns what the helper may take of its host, by its present spec.
func (hp *helper) limits() shared.Limits { return hp.face.Load().spec.Limits.Or(hp.host.cfg.Limits) }

// resizeLocked gives the helper the room that its present spec allows.
func (hp *helper) resizeLocked() {
	if limit := hp.limits().Inflight; hp.room.Load().limit != limit {
		hp.room.Store(newRoom(limit))
	}
}

// take takes a place for a call with a context, which is all of the room at most, and waits for it until a deadline.
func (hp *helper) take(ctx context.Context, msg []byte, deadline time.Time) (place, hhook.Outcome) {
	r := hp.room.Load()
	p := place{room: r, weight: min(1+int64(len(msg)/weightUnit), int64(r.limit))}
	if r.free.TryAcquire(p.weight) {
		return p, hhook.Outcome{}
	}
	wait, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	if r.free.Acquire(wait, p.weight) != nil {
		return place{}, hhook.Failed(shared.CauseOverload, shared.ErrOverload.Errorf("%s has %d calls queued or under way", hp.name, r.limit))
	}
	return p, hhook.Outcome{}
}

// leave gives the place back.
func (p place) leave() { p.room.free.Release(p.weight) }
