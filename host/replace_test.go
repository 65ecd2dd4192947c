package host_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/host/osd"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/helper"
)

type swapState struct{ Count uint64 }

func countSwap(_ context.Context, _ *helper.Call, s *swapState) error { s.Count++; return nil }

func init() {
	// The second has a hook more, before the others by name, so that the numbers of its hooks are others.
	programs["swap1"] = func() {
		helper.Serve(helper.Helper[swapState]{
			Name: "swap", Version: "1.0.0", Classes: helper.Classes{"thing"},
			Hooks: helper.Hooks[swapState]{
				"thing.use": countSwap,
				"thing.old": func(_ context.Context, _ *helper.Call, s *swapState) error { s.Count += 1 << 32; return nil },
			},
		})
	}
	programs["swap2"] = func() {
		helper.Serve(helper.Helper[swapState]{
			Name: "swap", Version: "2.0.0", Classes: helper.Classes{"thing"},
			Hooks: helper.Hooks[swapState]{
				"thing.use":  countSwap,
				"thing.more": func(_ context.Context, _ *helper.Call, s *swapState) error { s.Count += 1 << 48; return nil },
			},
		})
	}
	programs["swap-data"] = func() {
		helper.Serve(helper.Helper[swapState]{
			Name: "swap", Version: "3.0.0", Classes: helper.Classes{"thing"}, DataVersion: 3,
			Hooks: helper.Hooks[swapState]{"thing.use": countSwap},
		})
	}
}

// traffic runs a head on objects until it is stopped.
type traffic struct {
	head    *hhook.Head
	objects []*osd.Object
	runs    []atomic.Uint64 // by object
	bad     atomic.Pointer[hhook.Verdict]
	stop    chan struct{}
	workers sync.WaitGroup
}

func startTraffic(t *testing.T, head *hhook.Head, objects []*osd.Object) *traffic {
	t.Helper()
	tr := &traffic{head: head, objects: objects, runs: make([]atomic.Uint64, len(objects)), stop: make(chan struct{})}
	for w := range 4 {
		tr.workers.Go(func() {
			for i := w; ; i++ {
				select {
				case <-tr.stop:
					return
				default:
				}
				n := i % len(objects)
				v, err := head.Run(context.Background(), objects[n], []byte("x"))
				if err != nil || v.Rejected {
					tr.bad.Store(&v)
				}
				tr.runs[n].Add(1)
			}
		})
	}
	t.Cleanup(tr.end)
	return tr
}

func (tr *traffic) end() {
	select {
	case <-tr.stop:
	default:
		close(tr.stop)
	}
	tr.workers.Wait()
}

// total waits for as many runs again as there are objects.
func (tr *traffic) flow(t *testing.T) {
	t.Helper()
	var before uint64
	for i := range tr.runs {
		before += tr.runs[i].Load()
	}
	hosttest.Until(t, "traffic", func() bool {
		var now uint64
		for i := range tr.runs {
			now += tr.runs[i].Load()
		}
		return now > before+uint64(2*len(tr.runs))
	})
}

// check holds each object's data against the runs that there were.
func (tr *traffic) check(t *testing.T, id shared.HelperID) {
	t.Helper()
	if v := tr.bad.Load(); v != nil {
		t.Errorf("a run was rejected: %+v", *v)
	}
	for i, o := range tr.objects {
		count := binary.LittleEndian.Uint64(o.Slot(id).Bytes())
		if want := tr.runs[i].Load(); count != want {
			t.Errorf("object %d: %d runs committed, %d made", i, count, want)
		}
	}
}

func swapSpec(program string) shared.HelperSpec {
	return shared.HelperSpec{Name: "swap", Command: hosttest.Command(program), OnFailure: shared.Closed}
}

func statOf(t *testing.T, h *host.Host, name string) host.HelperStat {
	t.Helper()
	st, err := h.Stat(context.Background(), name)
	if err != nil {
		t.Fatal(err)
	}
	return st.Helpers[0]
}

// A changed helper starts beside the old one and takes over object by object: with a filter that is closed nobody is rejected, no call is
// lost and none is made twice.
func TestReplaceUnderTraffic(t *testing.T) {
	h := hosttest.New(t, host.Config{})
	ctx := context.Background()
	specs := []shared.HelperSpec{swapSpec("swap1")}
	if err := h.Configure(ctx, specs); err != nil {
		t.Fatal(err)
	}
	if failed := h.LoadAll(ctx, specs); len(failed) > 0 {
		t.Fatal(failed[0])
	}
	use := head(t, h, "thing.use", hhook.Options{Kind: hhook.Filter})
	head(t, h, "thing.more", hhook.Options{})
	head(t, h, "thing.old", hhook.Options{})
	var objects []*osd.Object
	for range 8 {
		objects = append(objects, object(t, h, "thing"))
	}
	before := statOf(t, h, "swap")
	tr := startTraffic(t, use, objects)
	for i, program := range []string{"swap2", "swap1", "swap2"} {
		tr.flow(t)
		changes, err := h.Reconfigure(ctx, []shared.HelperSpec{swapSpec(program)})
		if err != nil || len(changes) != 1 || changes[0].Action != host.ChangeRestart || changes[0].Err != nil {
			t.Fatalf("Reconfigure = %+v, %v", changes, err)
		}
		after := statOf(t, h, "swap")
		if after.ID != before.ID || after.Incarnation != uint32(i+2) || after.PID == before.PID || after.Refs != 8 || after.Restarts != uint64(i+1) {
			t.Errorf("after the takeover: %+v, before: %+v", after, before)
		}
	}
	tr.flow(t)
	if err := h.Restart(ctx, "swap"); err != nil {
		t.Fatal(err)
	}
	tr.flow(t)
	tr.end()
	tr.check(t, before.ID)
	// The hooks are those of the second program.
	st := statOf(t, h, "swap")
	slices.Sort(st.Hooks)
	if got := fmt.Sprint(st.Hooks); got != "[thing.more thing.use]" || st.Version != "2.0.0" {
		t.Errorf("hooks %s of version %s", got, st.Version)
	}
	var sum uint64
	for i := range tr.runs {
		sum += tr.runs[i].Load()
	}
	if st.Committed != sum || len(st.Missed) > 0 {
		t.Errorf("committed %d, missed %v, of %d runs", st.Committed, st.Missed, sum)
	}
	for _, o := range objects {
		destroy(t, o)
	}
}

func TestReplaceRefusals(t *testing.T) {
	h := hosttest.New(t, host.Config{})
	ctx := context.Background()
	specs := []shared.HelperSpec{swapSpec("swap1")}
	if err := h.Configure(ctx, specs); err != nil {
		t.Fatal(err)
	}
	if failed := h.LoadAll(ctx, specs); len(failed) > 0 {
		t.Fatal(failed[0])
	}
	use := head(t, h, "thing.use", hhook.Options{})
	o := object(t, h, "thing")
	before := statOf(t, h, "swap")
	wantErr(t, h.Restart(ctx, "swop"), shared.ErrNotExist, `did you mean "swap"?`)
	for _, test := range []struct {
		program string
		want    error
		says    string
	}{
		{"swap-data", shared.ErrIncompatible, "1 object holds data of version 0 of swap, and 3.0.0 has version 3"},
		{"bench", shared.ErrInvalid, `"bench"`},
		{"no-such-program", shared.ErrHelperGone, "before its handshake"},
	} {
		changes, err := h.Reconfigure(ctx, []shared.HelperSpec{swapSpec(test.program)})
		if err != nil || len(changes) != 1 {
			t.Fatalf("Reconfigure = %+v, %v", changes, err)
		}
		wantErr(t, changes[0].Err, test.want, test.says)
		if after := statOf(t, h, "swap"); after.PID != before.PID || after.State != shared.StateActive || after.Incarnation != 1 {
			t.Errorf("%s: the old process did not stay: %+v", test.program, after)
		}
		// What was not done is planned again, and what the old one was is what is configured.
		if spec, _ := h.Configured("swap"); spec.Command[1] != hosttest.Command("swap1")[1] {
			t.Errorf("%s: configured is %v", test.program, spec.Command)
		}
	}
	if v, err := use.Run(ctx, o, nil); err != nil || v.Rejected {
		t.Errorf("Run = %+v, %v", v, err)
	}
	destroy(t, o)
}

// A helper that has died comes back with its id, its hooks and what its objects held.
func TestRestartOfTheDead(t *testing.T) {
	f := newFixture(t, host.Config{})
	ctx := context.Background()
	hosttest.Put(f.path, helper.Helper[swapState]{
		Name: "swap", Version: "1.0.0", Classes: helper.Classes{"thing"}, Hooks: helper.Hooks[swapState]{"thing.use": countSwap},
	})
	if err := f.load("swap"); err != nil {
		t.Fatal(err)
	}
	use := head(t, f.Host, "thing.use", hhook.Options{})
	o := object(t, f.Host, "thing")
	run := func() {
		t.Helper()
		if _, err := use.Run(ctx, o, nil); err != nil {
			t.Error(err)
		}
	}
	run()
	id := statOf(t, f.Host, "swap").ID
	f.path.Crash("swap")
	hosttest.Until(t, "the crash", func() bool { return statOf(t, f.Host, "swap").State == shared.StateFailed })
	run() // missed
	if err := f.Restart(ctx, "swap"); err != nil {
		t.Fatal(err)
	}
	run()
	st := statOf(t, f.Host, "swap")
	if st.State != shared.StateActive || st.ID != id || st.Incarnation != 2 || st.LastError != "" || st.Committed != 2 || st.Missed[shared.CauseCrash] != 1 {
		t.Errorf("after the restart: %+v", st)
	}
	if got := binary.LittleEndian.Uint64(o.Slot(id).Bytes()); got != 2 {
		t.Errorf("the object's data is %d, want 2", got)
	}
	destroy(t, o)
}
