package host_test

import (
	"context"
	"encoding/binary"
	"sync"
	"testing"
	"time"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/helper"
	"github.com/khelp/khelp/shared/wire"
)

// sequence is the data of a helper that checks the order of what it sees.
type sequence struct{ Next, OutOfOrder uint64 }

func sequencing() helper.Helper[sequence] {
	check := func(_ context.Context, c *helper.Call, s *sequence) error {
		if binary.LittleEndian.Uint64(c.Context) != s.Next {
			s.OutOfOrder++
		}
		s.Next++
		return nil
	}
	return helper.Helper[sequence]{
		Name: "sequencing", Version: "1.0.0", Classes: []shared.Class{"tcp"},
		Hooks: helper.Hooks[sequence]{"tcp.est_in": check, "socket.rcv": check},
	}
}

// Calls of one object keep their order on an async head, against later synchronous ones on another head too; and the context is copied.
func TestH10_OrderPerObject(t *testing.T) {
	h := hosttest.New(t, host.Config{})
	in := head(t, h, "tcp.est_in", hhook.Options{Async: true})
	rcv := head(t, h, "socket.rcv", hhook.Options{Kind: hhook.Filter})
	hosttest.Load(t, h, sequencing(), shared.HelperSpec{})
	const objects, rounds, burst = 4, 50, 20
	var all sync.WaitGroup
	for range objects {
		o := object(t, h, "tcp")
		all.Go(func() {
			var msg [8]byte // one buffer, changed as soon as Run returns
			for i := range uint64(rounds * burst) {
				binary.LittleEndian.PutUint64(msg[:], i)
				point := in
				if i%burst == burst-1 {
					point = rcv
				}
				if v, err := point.Run(context.Background(), o, msg[:]); err != nil || v.Rejected {
					t.Errorf("run %d: %+v, %v", i, v, err)
					return
				}
			}
			data := o.Slots()[0].Bytes() // the last run was synchronous: everything before it has committed
			if next, bad := binary.LittleEndian.Uint64(data), binary.LittleEndian.Uint64(data[8:]); next != rounds*burst || bad != 0 {
				t.Errorf("object %d: %d calls, %d out of order; want %d in order", o.ID(), next, bad, rounds*burst)
			}
			destroy(t, o)
		})
	}
	all.Wait()
}

func TestH10_DestroyDrains(t *testing.T) {
	h := hosttest.New(t, host.Config{})
	in := head(t, h, "tcp.est_in", hhook.Options{Async: true})
	hosttest.Load(t, h, counting(), shared.HelperSpec{})
	o := object(t, h, "tcp")
	const runs = 1000
	for range runs {
		if _, err := in.Run(t.Context(), o, nil); err != nil {
			t.Fatal(err)
		}
	}
	destroy(t, o)
	if c := in.Hooks()[0].Stats().Read(); c.Committed != runs {
		t.Errorf("Destroy returned with %+v; want %d committed", c, runs)
	}
}

// A full queue makes the caller wait for the head's budget, and then counts as overload.
func TestH10_FullQueueIsOverload(t *testing.T) {
	const inflight, budget = 4, 100 * time.Millisecond
	h := hosttest.New(t, host.Config{Limits: shared.Limits{Inflight: inflight}})
	in := head(t, h, "tcp.est_in", hhook.Options{Async: true, Budget: budget})
	release := make(chan struct{})
	hosttest.Load(t, h, helper.Helper[struct{}]{
		Name: "stuck", Version: "1.0.0",
		Hooks: helper.Hooks[struct{}]{"tcp.est_in": func(context.Context, *helper.Call, *struct{}) error { <-release; return nil }},
	}, shared.HelperSpec{Timeout: time.Minute})
	o := object(t, h, "tcp")
	for range inflight {
		if _, err := in.Run(t.Context(), o, nil); err != nil {
			t.Fatal(err)
		}
	}
	start := time.Now()
	if _, err := in.Run(t.Context(), o, nil); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d < budget {
		t.Errorf("the caller waited %v, the budget is %v", d, budget)
	}
	close(release)
	destroy(t, o)
	if c := in.Hooks()[0].Stats().Read(); c.Committed != inflight || c.Missed[shared.CauseOverload] != 1 {
		t.Errorf("%+v; want %d committed and 1 overload", c, inflight)
	}
}

// If a call of a chain does not commit, those behind it do not either, whatever the helper says; and the chain after starts from what
// was committed.
func TestH10_ChainFailsFromTheFirstThatFails(t *testing.T) {
	type got struct {
		data    string
		chained bool
	}
	var mu sync.Mutex
	var calls []got
	first := make(chan struct{})
	s := &hostile{}
	s.reply = func(c *wire.CallView) [][]byte {
		mu.Lock()
		defer mu.Unlock()
		calls = append(calls, got{string(c.Data), c.Chained})
		r := wire.ReplyView{Seq: c.Seq, HasData: true, Data: c.Context}
		switch string(c.Context) {
		case "1":
			<-first // until the others are queued
		case "3":
			r.Code = shared.CodeInvalid
		}
		return [][]byte{reply(r)}
	}
	s.info = hostileInfo()
	h := hosttest.New(t, host.Config{})
	in := head(t, h, "tcp.est_in", hhook.Options{Async: true})
	if err := h.Load(t.Context(), shared.HelperSpec{Name: "hostile"}, host.LoadOptions{Dial: s.serve(t)}); err != nil {
		t.Fatal(err)
	}
	o := object(t, h, "tcp")
	for _, msg := range []string{"1", "2", "3", "4", "5"} {
		if _, err := in.Run(t.Context(), o, []byte(msg)); err != nil {
			t.Fatal(err)
		}
	}
	close(first)
	hosttest.Until(t, "five ends", func() bool { return in.Hooks()[0].Stats().Read().Calls == 5 })
	if c := in.Hooks()[0].Stats().Read(); c.Committed != 2 || c.Missed[shared.CauseBadReply] != 3 {
		t.Errorf("%+v; want 1 and 2 committed, 3 to 5 missed", c)
	}
	if data := string(o.Slots()[0].Bytes()); data != "2" {
		t.Errorf("data %q, want that of call 2", data)
	}
	if _, err := in.Run(t.Context(), o, []byte("6")); err != nil {
		t.Fatal(err)
	}
	destroy(t, o)
	mu.Lock()
	defer mu.Unlock()
	want := []got{{"template", false}, {"1", false}, {"", true}, {"", true}, {"", true}, {"2", false}}
	if len(calls) != len(want) {
		t.Fatalf("calls %+v", calls)
	}
	for i := range want {
		if calls[i] != want[i] {
			t.Errorf("call %d came as %+v, want %+v", i+1, calls[i], want[i])
		}
	}
}

// A helper that leaves is skipped from then on; what it was queued before is drained first.
func TestL9_UnloadDrainsAsync(t *testing.T) {
	h := hosttest.New(t, host.Config{})
	in := head(t, h, "tcp.est_in", hhook.Options{Async: true})
	var mu sync.Mutex
	seen := 0
	hosttest.Load(t, h, helper.Helper[struct{}]{
		Name: "stateless", Version: "1.0.0",
		Hooks: helper.Hooks[struct{}]{"tcp.est_in": func(context.Context, *helper.Call, *struct{}) error {
			mu.Lock()
			defer mu.Unlock()
			seen++
			return nil
		}},
	}, shared.HelperSpec{})
	o := object(t, h, "tcp")
	defer destroy(t, o)
	const runs = 500
	for range runs {
		if _, err := in.Run(t.Context(), o, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Unload(t.Context(), "stateless", host.UnloadOptions{}); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if seen != runs || in.Enabled() {
		t.Errorf("the helper saw %d of %d; enabled %v", seen, runs, in.Enabled())
	}
}
