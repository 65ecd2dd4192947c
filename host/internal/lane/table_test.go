package lane

import (
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// enter adds a chain of calls with the given timeouts.
func enter(t testing.TB, tab *table, timeouts ...time.Duration) (*recorder, uint64) {
	t.Helper()
	r := newRecorder(t, len(timeouts))
	c := Chain{Handler: r}
	for _, d := range timeouts {
		c.Calls = append(c.Calls, Call{Timeout: d})
	}
	first, cause, err := tab.add(&c, time.Now())
	if cause != shared.CauseNone {
		t.Fatal(err)
	}
	return r, first
}

func TestDeadlinesAreExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tab table
		start := time.Now()
		slow, _ := enter(t, &tab, 300*time.Millisecond)
		fast, _ := enter(t, &tab, 5*time.Millisecond)
		middle, seq := enter(t, &tab, 200*time.Millisecond)
		if !tab.abandon(seq) {
			t.Error("not abandoned")
		}
		again, _ := enter(t, &tab, 100*time.Millisecond)
		for _, want := range []struct {
			r     *recorder
			after time.Duration
		}{{fast, 5 * time.Millisecond}, {again, 100 * time.Millisecond}, {slow, 300 * time.Millisecond}} {
			<-want.r.done
			if got := time.Since(start); got != want.after {
				t.Errorf("a limit of %v ended after %v", want.after, got)
			}
		}
		if len(middle.ends) != 0 {
			t.Errorf("an abandoned chain ended as %v", middle.ends)
		}
		synctest.Wait()
	})
}

func TestDeadlineOfEachChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tab table
		for _, d := range []time.Duration{time.Second, time.Millisecond, 50 * time.Millisecond, time.Millisecond, 0} {
			start := time.Now()
			r, _ := enter(t, &tab, d)
			<-r.done
			if got := time.Since(start); got != d {
				t.Errorf("a limit of %v ended after %v", d, got)
			}
		}
	})
}

// In a chain each call's time begins with the reply before it.
func TestDeadlinesWithinAChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tab table
		r, first := enter(t, &tab, 10*time.Millisecond, 70*time.Millisecond, 10*time.Millisecond)
		<-time.After(9 * time.Millisecond)
		handler, call, last, wrong := tab.claim(first)
		if handler != Handler(r) || call != 0 || last || wrong != nil {
			t.Fatalf("%v %d %v %v", handler, call, last, wrong)
		}
		// The receiver is in Reply: nobody else may end the chain, however long it takes.
		<-time.After(40 * time.Millisecond)
		if tab.abandon(first) {
			t.Error("abandoned within Reply")
		}
		r.Reply(0, &wire.ReplyView{})
		start := time.Now()
		tab.settle(first, start)
		<-r.done
		if got := time.Since(start); got != 70*time.Millisecond {
			t.Errorf("the second call's time ended after %v", got)
		}
		r.want("=", "timeout", "timeout")
		if !strings.Contains(r.errs[1].Error(), "70ms") {
			t.Errorf("%v does not say the limit of the call that missed it", r.errs[1])
		}
		synctest.Wait()
	})
}

// slowHandler stays in Fail until it is let go.
type slowHandler struct {
	in, out chan struct{}
}

func (h *slowHandler) Reply(int, *wire.ReplyView) {}

func (h *slowHandler) Fail(int, shared.Cause, error) {
	close(h.in)
	<-h.out
}

func TestCloseWaitsForHandlersThatAreBeingTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tab table
		h := &slowHandler{in: make(chan struct{}), out: make(chan struct{})}
		if _, cause, err := tab.add(&Chain{Handler: h, Calls: []Call{{Timeout: time.Millisecond}}}, time.Now()); cause != shared.CauseNone {
			t.Fatal(err)
		}
		<-h.in
		closed := make(chan struct{})
		go func() {
			tab.close(shared.CauseCrash, shared.ErrHelperGone)
			close(closed)
		}()
		synctest.Wait()
		select {
		case <-closed:
			t.Error("closed while a handler was being told")
		default:
		}
		close(h.out)
		<-closed
	})
}

func TestGenerationsWrapAround(t *testing.T) {
	tab := table{entries: []entry{{gen: math.MaxUint32}}, free: []uint32{0}}
	defer tab.close(shared.CauseCrash, shared.ErrHelperGone)
	for range 3 {
		r, first := enter(t, &tab, time.Hour)
		if first == 0 {
			t.Fatal("0 was given out")
		}
		handler, _, last, _ := tab.claim(first)
		if handler != Handler(r) || !last {
			t.Fatalf("the reply to %x found nothing: %+v", first, tab.counts)
		}
	}
}

func TestTableIsFull(t *testing.T) {
	tab := table{entries: make([]entry, maxChains)}
	_, cause, err := tab.add(&Chain{Handler: newRecorder(t, 1), Calls: make([]Call, 1)}, time.Now())
	if cause != shared.CauseOverload || shared.CodeOf(err) != shared.CodeOverload {
		t.Errorf("%s, %v", cause, err)
	}
}

func TestSequenceNumbersHoldThreeThings(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		gen, index := rapid.Uint32().Draw(t, "gen"), rapid.Uint32Range(0, maxChains-1).Draw(t, "index")
		call := rapid.IntRange(0, MaxChain-1).Draw(t, "call")
		if g, i, c := split(seq(gen, index, call)); g != gen || i != index || c != call {
			t.Fatalf("%d %d %d came back as %d %d %d", gen, index, call, g, i, c)
		}
	})
}

// The model keeps a plain list of chains. Invariants: a reply finds the chain whose next call it is for and nothing else; replies that
// fit nothing are late or stray; what is free and what is taken adds up.
func TestTableModel(t *testing.T) {
	type chain struct {
		r     *recorder
		first uint64
		calls int
		next  int
	}
	rapid.Check(t, func(t *rapid.T) {
		var tab table
		defer tab.close(shared.CauseCrash, shared.ErrHelperGone)
		var live, dead []*chain
		var counts Counts
		drop := func(i int) {
			dead = append(dead, live[i])
			live = append(live[:i:i], live[i+1:]...)
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(rt *rapid.T) {
				n := rapid.IntRange(1, 4).Draw(rt, "calls")
				c := &chain{calls: n, r: newRecorder(discard{}, n)}
				first, cause, _ := tab.add(&Chain{Handler: c.r, Calls: make([]Call, n)}, time.Now().Add(time.Hour))
				if cause != shared.CauseNone {
					rt.Fatal(cause)
				}
				c.first = first
				live = append(live, c)
			},
			"reply": func(rt *rapid.T) {
				if len(live) == 0 {
					rt.Skip()
				}
				i := rapid.IntRange(0, len(live)-1).Draw(rt, "chain")
				c := live[i]
				call := rapid.IntRange(0, c.calls-1).Draw(rt, "call")
				handler, at, last, wrong := tab.claim(c.first + uint64(call))
				switch {
				case call < c.next:
					counts.Late++
					if handler != nil || wrong != nil {
						rt.Fatal("a late reply found something")
					}
				case call > c.next:
					if wrong != Handler(c.r) || handler != nil || at != c.next {
						rt.Fatalf("out of order: %v %v %d", handler, wrong, at)
					}
					drop(i)
				default:
					if handler != Handler(c.r) || wrong != nil || at != call || last != (call == c.calls-1) {
						rt.Fatalf("in order: %v %v %d %v", handler, wrong, at, last)
					}
					if c.next++; last {
						drop(i)
						return
					}
					if tab.abandon(c.first) {
						rt.Fatal("abandoned within Reply")
					}
					tab.settle(c.first+uint64(call), time.Now().Add(time.Hour))
				}
			},
			"late reply": func(rt *rapid.T) {
				if len(dead) == 0 {
					rt.Skip()
				}
				c := rapid.SampledFrom(dead).Draw(rt, "chain")
				if handler, _, _, wrong := tab.claim(c.first); handler != nil || wrong != nil || tab.abandon(c.first) {
					rt.Fatal("a chain that has ended was found")
				}
				counts.Late++
			},
			"abandon": func(rt *rapid.T) {
				if len(live) == 0 {
					rt.Skip()
				}
				i := rapid.IntRange(0, len(live)-1).Draw(rt, "chain")
				if !tab.abandon(live[i].first) {
					rt.Fatal("a live chain was not abandoned")
				}
				drop(i)
			},
			"": func(rt *rapid.T) {
				if tab.counts != counts {
					rt.Fatalf("%+v, want %+v", tab.counts, counts)
				}
				if got := len(tab.entries) - len(tab.free); got != len(live) {
					rt.Fatalf("%d places are taken, want %d", got, len(live))
				}
			},
		})
	})
}

// discard is a testing.TB for recorders whose end does not matter.
type discard struct{ testing.TB }

func (discard) Errorf(string, ...any) {}
func (discard) Helper()               {}
