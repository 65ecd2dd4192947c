package hhook

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/khelp/khelp/shared"
)

func TestH2_CloseIsBusyWhileHeld(t *testing.T) {
	closed := 0
	var h *Head
	h, err := NewHead("test.point", "edge", Options{}, func(got *Head) {
		if closed++; got != h {
			t.Error("another head")
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	add(t, h, newHook(1, "a", pass))
	if err := h.Ref(); err != nil || h.Refs() != 2 {
		t.Fatalf("%v, %d references", err, h.Refs())
	}
	if err := h.Close(t.Context()); !errors.Is(err, shared.ErrBusy) || closed != 0 || !h.Enabled() {
		t.Errorf("%v, closed %d times", err, closed)
	}
	run(t, h, nil)
	h.Release()
	h.Release() // the registrant's own is not given back so
	if h.Refs() != 1 {
		t.Errorf("%d references", h.Refs())
	}
	for range 2 {
		if err := h.Close(t.Context()); err != nil || closed != 1 {
			t.Errorf("%v, closed %d times", err, closed)
		}
	}
	if _, err := h.Run(t.Context(), nil, nil); !errors.Is(err, shared.ErrClosed) {
		t.Errorf("Run: %v", err)
	}
	if err := h.Ref(); !errors.Is(err, shared.ErrClosed) {
		t.Errorf("Ref: %v", err)
	}
	if err := h.Add(newHook(2, "b", pass)); !errors.Is(err, shared.ErrClosed) || h.Enabled() {
		t.Errorf("Add: %v", err)
	}
}

func TestH2_CloseDrainsThenUnbinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		unbound := false
		h, err := NewHead("test.point", "", Options{}, func(*Head) { unbound = true })
		if err != nil {
			t.Fatal(err)
		}
		release := make(chan struct{})
		add(t, h, newHook(1, "a", func(context.Context, *Invocation) Outcome { <-release; return Outcome{} }))
		ran := make(chan struct{})
		go func() {
			run(t, h, nil)
			close(ran)
		}()
		synctest.Wait()
		done := make(chan error, 1)
		go func() { done <- h.Close(t.Context()) }()
		synctest.Wait()
		if unbound {
			t.Error("unbound with a run under way")
		}
		if _, err := h.Run(t.Context(), nil, nil); !errors.Is(err, shared.ErrClosed) {
			t.Errorf("a new run: %v", err)
		}
		close(release)
		<-ran
		if err := <-done; err != nil || !unbound {
			t.Errorf("%v, unbound %v", err, unbound)
		}
	})
}

func TestH2_CloseGivesUpDrainingButCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		unbound := false
		h, err := NewHead("test.point", "", Options{}, func(*Head) { unbound = true })
		if err != nil {
			t.Fatal(err)
		}
		release := make(chan struct{})
		add(t, h, newHook(1, "a", func(context.Context, *Invocation) Outcome { <-release; return Outcome{} }))
		go run(t, h, nil)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := h.Close(ctx); !errors.Is(err, shared.ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) || !unbound {
			t.Errorf("%v, unbound %v", err, unbound)
		}
		close(release)
	})
}

func TestDestroyDoesNotMindReferences(t *testing.T) {
	h := newHead(t, Options{})
	if err := h.Ref(); err != nil {
		t.Fatal(err)
	}
	if err := h.Destroy(t.Context()); err != nil {
		t.Error(err)
	}
	if err := h.Ref(); !errors.Is(err, shared.ErrClosed) {
		t.Errorf("%v", err)
	}
}

func TestNewHead(t *testing.T) {
	for name, opts := range map[string]Options{
		"H10 async filter": {Async: true, Kind: Filter}, "H10 async mutable": {Async: true, Mutable: true}, "budget": {Budget: -1},
	} {
		if _, err := NewHead("test.point", "", opts, nil); !errors.Is(err, shared.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewHead("point", "", Options{}, nil); !errors.Is(err, shared.ErrInvalid) {
		t.Errorf("a bad point: %v", err)
	}
	h, err := NewHead("test.point", "edge", Options{Kind: Filter, Mutable: true, Context: "khelp.test.v1.Message"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if o := h.Options(); h.Point() != "test.point" || h.Vnet() != "edge" || o.Budget != shared.DefaultBudget || o.Context != "khelp.test.v1.Message" {
		t.Errorf("%s %s %+v", h.Point(), h.Vnet(), o)
	}
	if Observe.String() != "observe" || Filter.String() != "filter" {
		t.Error("kinds have other names")
	}
}

func TestH6_TheSameHookTwiceIsEEXIST(t *testing.T) {
	h := newHead(t, Options{})
	hook := func(id shared.HelperID, index uint32, udata string) *Hook {
		return NewHook(HookConfig{Helper: "a", ID: id, Index: index, UData: []byte(udata), InProc: true, Target: target(pass)})
	}
	add(t, h, hook(1, 0, ""))
	if err := h.Add(hook(1, 0, "")); !errors.Is(err, shared.ErrExist) {
		t.Errorf("%v", err)
	}
	add(t, h, hook(1, 0, "x"), hook(1, 1, ""), hook(2, 0, ""))
	if n := len(h.Hooks()); n != 4 {
		t.Errorf("%d hooks", n)
	}
}

func TestK2_AddBindsAllOrNone(t *testing.T) {
	h := newHead(t, Options{})
	first := newHook(1, "a", pass)
	add(t, h, first)
	before := newHook(4, "d", pass)
	before.Order = shared.Order{Place: shared.Before, Helper: "d"}
	for name, hooks := range map[string][]*Hook{
		"one is there":    {newHook(2, "b", pass), newHook(1, "a", pass)},
		"twice in itself": {newHook(3, "c", pass), newHook(3, "c", pass)},
		"contradiction":   {newHook(2, "b", pass), before},
	} {
		if err := h.Add(hooks...); err == nil {
			t.Errorf("%s: no error", name)
		}
		if got := h.Hooks(); len(got) != 1 || got[0] != first {
			t.Errorf("%s: %d hooks are left", name, len(got))
		}
	}
	add(t, h)
	h.Remove(newHook(9, "x", pass)) // one that is not there
	if len(h.Hooks()) != 1 {
		t.Error("a hook went with another")
	}
}

func TestH7_HooksRunInOrderAndReturnToTheirPlaces(t *testing.T) {
	h := newHead(t, Options{})
	var tr trace
	hooks := map[string]*Hook{}
	for i, name := range []string{"a", "b", "c", "d"} {
		hooks[name] = newHook(shared.HelperID(i+1), name, tr.hook)
	}
	hooks["d"].Order = shared.Order{Place: shared.First}
	hooks["b"].Requires = []string{"c"}
	second := NewHook(HookConfig{Helper: "a2", ID: 1, Index: 1, InProc: true, Target: target(tr.hook)})
	for _, name := range []string{"d", "c", "b", "a"} {
		add(t, h, hooks[name])
	}
	add(t, h, second)
	hooks["a2"] = second
	want := []string{"d", "a", "a2", "c", "b"}
	for _, name := range want {
		run(t, h, nil)
		if got := tr.take(); !slices.Equal(got, want) {
			t.Fatalf("ran as %v, want %v", got, want)
		}
		h.Remove(hooks[name])
		run(t, h, nil)
		if got := tr.take(); slices.Contains(got, name) || len(got) != len(want)-1 {
			t.Fatalf("%v ran without %s", got, name)
		}
		add(t, h, hooks[name])
	}
	run(t, h, nil)
	if got := tr.take(); !slices.Equal(got, want) {
		t.Errorf("back as %v, want %v", got, want)
	}
}

func TestH4_HooksMayChangeHeadsAndRunOthers(t *testing.T) {
	h, other := newHead(t, Options{}), newHead(t, Options{})
	var tr trace
	add(t, other, newHook(5, "other", tr.hook))
	late := newHook(3, "late", tr.hook)
	obj := object(1)
	var first *Hook
	first = newHook(1, "first", func(ctx context.Context, inv *Invocation) Outcome {
		tr.hook(ctx, inv)
		add(t, h, late)
		h.Remove(first)
		if err := h.Ref(); err != nil {
			t.Error(err)
		}
		h.Release()
		if _, err := other.Run(ctx, nil, nil); err != nil {
			t.Error(err)
		}
		if obj.TryLock() {
			t.Error("the object's turn is not held")
		}
		return Outcome{}
	})
	add(t, h, first, newHook(2, "second", tr.hook))
	run(t, h, obj)
	if got := tr.take(); !slices.Equal(got, []string{"first", "other", "second"}) {
		t.Errorf("the run under way went as %v", got)
	}
	run(t, h, obj)
	if got := tr.take(); !slices.Equal(got, []string{"second", "late"}) {
		t.Errorf("the next went as %v", got)
	}
}

func TestH5_Enabled(t *testing.T) {
	h := newHead(t, Options{})
	if h.Enabled() || h.Hooks() != nil {
		t.Error("enabled without a hook")
	}
	if v := run(t, h, object(1)); v.Rejected || v.Err() != nil {
		t.Errorf("%+v", v)
	}
	hook := newHook(1, "a", pass)
	add(t, h, hook)
	if !h.Enabled() || hook.Point() != "test.point" {
		t.Error("not enabled with a hook")
	}
	h.Remove(hook)
	if h.Enabled() {
		t.Error("enabled after the last hook left")
	}
	if n := testing.AllocsPerRun(100, func() { h.Enabled() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkEnabled(b *testing.B) {
	h := newHead(b, Options{})
	b.ReportAllocs()
	for b.Loop() {
		if h.Enabled() {
			b.Fatal("enabled")
		}
	}
}

func BenchmarkRun(b *testing.B) {
	h := newHead(b, Options{})
	add(b, h, newHook(1, "a", pass))
	obj := object(1, 1)
	msg := make([]byte, 64)
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.Run(ctx, obj, msg); err != nil {
			b.Fatal(err)
		}
	}
}

// Every cell: kind, what is said in general, what is said for the cause, and the cause.
func TestDecideTable(t *testing.T) {
	actions := []shared.Action{shared.ActionDefault, shared.Open, shared.Closed}
	for _, kind := range []Kind{Observe, Filter} {
		byKind := map[Kind]shared.Action{Observe: shared.Open, Filter: shared.Closed}[kind]
		for _, general := range actions {
			for _, special := range actions {
				for _, named := range shared.Causes {
					for _, cause := range shared.Causes {
						want := byKind
						if general != shared.ActionDefault {
							want = general
						}
						if named == cause && special != shared.ActionDefault {
							want = special
						}
						p := Policy{OnFailure: general, OnCause: map[shared.Cause]shared.Action{named: special}}
						if got := Decide(kind, p, cause); got != want {
							t.Errorf("%v, on_failure %q, on_cause %s = %q: %s is %s, want %s", kind, general, named, special, cause, got, want)
						}
					}
				}
			}
		}
	}
	if Decide(Filter, Policy{}, shared.CauseCrash) != shared.Closed || Decide(Observe, Policy{}, shared.CauseCrash) != shared.Open {
		t.Error("the defaults are not those of the design")
	}
}

func TestEveryCauseHasACounter(t *testing.T) {
	if numCauses != len(shared.Causes) {
		t.Fatalf("%d counters for %d causes", numCauses, len(shared.Causes))
	}
	var s Stats
	for i, c := range shared.Causes {
		for range i + 1 {
			s.end(c, 0)
		}
	}
	got := s.Read()
	for i, c := range shared.Causes {
		if got.Missed[c] != uint64(i+1) {
			t.Errorf("%s was counted %d times, want %d", c, got.Missed[c], i+1)
		}
	}
	if got.Calls != uint64(numCauses*(numCauses+1)/2) || got.P50 != 0 || got.P99 != 0 {
		t.Errorf("%+v", got)
	}
}

func TestHistogramBuckets(t *testing.T) {
	const buckets = 33 * subBuckets
	for i := range buckets - 1 {
		if got := bucketOf(bucketTop(i)); got != i {
			t.Fatalf("the top of bucket %d, %d ns, is in bucket %d", i, bucketTop(i), got)
		}
		if got := bucketOf(bucketTop(i) + 1); got != i+1 {
			t.Fatalf("above bucket %d comes %d", i, got)
		}
	}
	if top := bucketTop(buckets - 1); top != 1<<35-1 || bucketOf(top) != buckets-1 || bucketOf(1<<63) != buckets-1 {
		t.Errorf("the last bucket ends at %d", top)
	}
	rapid.Check(t, func(t *rapid.T) {
		ns := rapid.Uint64Range(0, 1<<35-1).Draw(t, "ns")
		if top := bucketTop(bucketOf(ns)); top < ns || top-ns > ns/8 {
			t.Fatalf("%d ns is shown as %d", ns, top)
		}
	})
}

func TestHistogramQuantiles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s Stats
		list := rapid.SliceOfN(rapid.Int64Range(1, int64(20*time.Second)), 1, 200).Draw(t, "durations")
		for _, d := range list {
			s.end(shared.CauseNone, time.Duration(d))
		}
		slices.Sort(list)
		c := s.Read()
		for q, got := range map[float64]time.Duration{0.50: c.P50, 0.99: c.P99} {
			want := time.Duration(list[int(q*float64(len(list)))])
			if got < want || got > want+want/8 {
				t.Fatalf("p%v is %v, want %v and an eighth at most", q*100, got, want)
			}
		}
	})
}
