package tcp_test

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/hosttest/testkit"
	"github.com/khelp/khelp/host/tcp"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/points/tcpv1"
)

func TestRefuseNewConnection(t *testing.T) {
	bothWays(t, func(t *testing.T, wrap bool) {
		var dialled atomic.Bool
		f := newFixture(t, wrap, tcp.Options{}, func(*net.TCPConn) { dialled.Store(true) })
		f.attach(tcpv1.NewConn, reject("not from here"))
		words := lastWords(f)
		f.dialRefused()
		wantError(t, words, "socket.newconn: rejected by probe1: not from here")
		f.idle()
		if s := f.proxy.Stats(); s.Refused != 1 || s.Reset != 1 || s.Rejected != 0 {
			t.Errorf("the proxy counted %+v", s)
		}
		if dialled.Load() {
			t.Error("the upstream was dialled for a refused connection")
		}
	})
}

func TestRejectSegment(t *testing.T) {
	for _, point := range []shared.HookPoint{tcpv1.Rcv, tcpv1.Snd} {
		t.Run(string(point), func(t *testing.T) {
			bothWays(t, func(t *testing.T, wrap bool) {
				var got atomic.Int64
				f := newFixture(t, wrap, tcp.Options{}, func(c *net.TCPConn) {
					buf := make([]byte, 100)
					for {
						n, err := c.Read(buf)
						if err != nil {
							return
						}
						got.Add(int64(n))
						_, _ = c.Write(buf[:n])
					}
				})
				words := lastWords(f)
				c := f.dial()
				ask(t, c, "hello")
				f.attach(point, reject("no more"))
				send(t, c, "again")
				if n, err := io.ReadFull(c, make([]byte, 1)); n != 0 || !isReset(err) {
					t.Errorf("read %d bytes and %v after the reject", n, err)
				}
				seg := wantError(t, words, string(point)+": rejected by probe2: no more")
				f.idle()
				if seg.BytesIn != 10 || seg.BytesOut != 5 || seg.SegmentsIn != 2 || seg.SegmentsOut != 1 {
					t.Errorf("socket.close says %v", seg)
				}
				want := map[shared.HookPoint]int64{tcpv1.Rcv: 5, tcpv1.Snd: 10}[point]
				if got.Load() != want {
					t.Errorf("the upstream got %d bytes, want %d", got.Load(), want)
				}
				if s := f.proxy.Stats(); s.Rejected != 1 {
					t.Errorf("the proxy counted %+v", s)
				}
			})
		})
	}
}

// A connection meets the points in their documented order, with contexts that say what happened.
func TestOrderAndContexts(t *testing.T) {
	sync1 := false
	f := newFixture(t, false, tcp.Options{Async: &sync1}, echo)
	var mu sync.Mutex // protects met
	var met []*tcpv1.Segment
	var order []shared.HookPoint
	for _, p := range tcpv1.Points {
		f.attach(p, func(inv hhook.Invocation) hhook.Outcome {
			mu.Lock()
			defer mu.Unlock()
			met, order = append(met, decode(t, inv.Context)), append(order, p)
			if inv.Object.ID() != met[len(met)-1].Connection {
				t.Errorf("object %d in the context is %d", inv.Object.ID(), met[len(met)-1].Connection)
			}
			return hhook.Outcome{}
		})
	}
	c := f.dial()
	ask(t, c, "hello")
	if o := f.objects.All(); len(o) != 1 || o[0].Name() != c.LocalAddr().String()+"->"+f.proxy.Addr().String() ||
		!slices.Equal(o[0].Classes(), []shared.Class{tcpv1.ClassTCP, tcpv1.ClassSocket}) {
		t.Errorf("the objects are %v", o)
	}
	testkit.Until(t, "the first answer to be counted", func() bool { return f.sub.Forwarded()[tcpv1.EstOut] == 1 })
	ask(t, c, "you")
	c.Close()
	f.idle()
	round := []shared.HookPoint{tcpv1.EstIn, tcpv1.Rcv, tcpv1.Snd, tcpv1.EstOut}
	want := slices.Concat([]shared.HookPoint{tcpv1.NewConn}, round, round, []shared.HookPoint{tcpv1.Close})
	if !slices.Equal(order, want) {
		t.Fatalf("met %v,\nwant %v", order, want)
	}
	for i, seg := range met {
		if seg.Client != c.LocalAddr().String() || seg.Local != f.proxy.Addr().String() || seg.Proxy != "web" {
			t.Errorf("%s: addresses are wrong: %v", order[i], seg)
		}
		if wantUp := f.upstream.Addr().String(); i > 0 && seg.Upstream != wantUp || i == 0 && seg.Upstream != "" {
			t.Errorf("%s: upstream is %q", order[i], seg.Upstream)
		}
		if seg.OpenedNs == 0 || seg.TimeNs < seg.OpenedNs || i > 0 && seg.TimeNs < met[i-1].TimeNs {
			t.Errorf("%s: the clock went back: %v", order[i], seg)
		}
	}
	type facts struct {
		dir    tcpv1.Direction
		length uint32
		offset uint64
	}
	in, out := tcpv1.Direction_DIRECTION_IN, tcpv1.Direction_DIRECTION_OUT
	for i, want := range []facts{{}, {in, 5, 0}, {in, 5, 0}, {out, 5, 0}, {out, 5, 0}, {in, 3, 5}, {in, 3, 5}, {out, 3, 5}, {out, 3, 5}, {}} {
		if got := (facts{met[i].Direction, met[i].Len, met[i].Offset}); got != want {
			t.Errorf("%s says %v, want %v", order[i], got, want)
		}
	}
	if last := met[len(met)-1]; last.BytesIn != 8 || last.BytesOut != 8 || last.SegmentsIn != 2 || last.SegmentsOut != 2 || last.Error != "" {
		t.Errorf("socket.close says %v", last)
	}
}

func TestH1_OneSubsystemPerVnet(t *testing.T) {
	f := newFixture(t, false, tcp.Options{}, echo)
	if _, err := tcp.New(f, tcp.Options{}); !errors.Is(err, shared.ErrExist) {
		t.Errorf("a second subsystem: %v, want ErrExist", err)
	}
	ask(t, f.dial(), "the first one works on")
}

func TestNewLeavesNothingBehind(t *testing.T) {
	h := &testHost{t: t, heads: map[shared.HookPoint]*hhook.Head{}}
	taken, err := h.RegisterHead(tcpv1.EstOut, hhook.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = tcp.New(h, tcp.Options{})
	if !errors.Is(err, shared.ErrExist) || !strings.Contains(err.Error(), "tcp.est_out") {
		t.Errorf("New: %v", err)
	}
	if len(h.heads) != 1 || h.heads[tcpv1.EstOut] != taken {
		t.Errorf("New left %v behind", h.heads)
	}
}

func TestHeadsAreWhatTheyShouldBe(t *testing.T) {
	for _, async := range []bool{true, false} {
		h := &testHost{t: t, heads: map[shared.HookPoint]*hhook.Head{}}
		sub, err := tcp.New(h, tcp.Options{Async: &async})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range tcpv1.Points {
			o := h.heads[p].Options()
			filter := p == tcpv1.NewConn || p == tcpv1.Rcv || p == tcpv1.Snd
			if (o.Kind == hhook.Filter) != filter || o.Async != (async && !filter) || o.Context != tcpv1.Message || o.Mutable {
				t.Errorf("async=%v: %s has options %+v", async, p, o)
			}
		}
		if err := h.heads[tcpv1.EstIn].Ref(); err != nil {
			t.Fatal(err)
		}
		held := h.heads[tcpv1.EstIn]
		if err := sub.Close(context.Background()); !errors.Is(err, shared.ErrBusy) || len(h.heads) != 1 {
			t.Errorf("Close with a held head: %v, %d heads left", err, len(h.heads))
		}
		held.Release()
		if err := sub.Close(context.Background()); err != nil || len(h.heads) != 0 {
			t.Errorf("Close again: %v, %d heads left", err, len(h.heads))
		}
	}
}

func TestProxiesOfAVnetShareAsync(t *testing.T) {
	h := &testHost{t: t, heads: map[shared.HookPoint]*hhook.Head{}}
	sub, err := tcp.New(h, tcp.Options{Vnet: "edge"})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close(context.Background())
	yes, no := true, false
	opts := tcp.ProxyOptions{Name: "web", Listen: "127.0.0.1:0", Upstream: "127.0.0.1:1"}
	opts.Async = &no
	_, err = sub.Listen(t.Context(), opts)
	if !errors.Is(err, shared.ErrInvalid) || !strings.Contains(err.Error(), `tcp "web": async = false, but the points of vnet "edge"`) {
		t.Errorf("Listen: %v", err)
	}
	opts.Async = &yes
	first, err := sub.Listen(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	opts.Async, opts.Name, opts.Listen = nil, "two", first.Addr().String()
	_, err = sub.Listen(t.Context(), opts)
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), `tcp "two": `) || !strings.Contains(err.Error(), opts.Listen) {
		t.Errorf("a busy port: %v", err)
	}
	opts.Upstream = ""
	if _, err = sub.Listen(t.Context(), opts); !errors.Is(err, shared.ErrInvalid) {
		t.Errorf("no upstream: %v", err)
	}
}
