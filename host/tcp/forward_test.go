package tcp_test

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/hosttest/testkit"
	"github.com/khelp/khelp/host/tcp"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/points/tcpv1"
)

func echo(c *net.TCPConn) {
	_, _ = io.Copy(c, c)
	_ = c.CloseWrite()
}

// stream writes n pseudo-random bytes and returns their sum.
func stream(w io.Writer, n int64, seed byte) hash.Hash {
	sum := sha256.New()
	source := io.LimitReader(rand.NewChaCha8([32]byte{seed}), n)
	_, _ = io.CopyBuffer(io.MultiWriter(w, sum), struct{ io.Reader }{source}, make([]byte, 100_000)) // the reader's sum tells of errors
	return sum
}

func TestBigTransferIsExact(t *testing.T) {
	const size = 32 << 20
	for _, hooked := range []bool{false, true} {
		bothWays(t, func(t *testing.T, wrap bool) {
			upstreamGot := make(chan hash.Hash, 1)
			f := newFixture(t, wrap, tcp.Options{}, func(c *net.TCPConn) {
				var wg sync.WaitGroup
				wg.Go(func() {
					stream(c, size, 2)
					_ = c.CloseWrite()
				})
				sum := sha256.New()
				_, _ = io.Copy(sum, c)
				upstreamGot <- sum
				wg.Wait()
			})
			var in, out atomic.Uint64
			if hooked {
				for _, p := range tcpv1.Points {
					f.attach(p, func(inv hhook.Invocation) hhook.Outcome {
						switch seg := decode(t, inv.Context); p {
						case tcpv1.EstIn:
							if at := in.Add(uint64(seg.Len)) - uint64(seg.Len); at != seg.Offset {
								t.Errorf("segment at %d says %d", at, seg.Offset)
							}
						case tcpv1.EstOut:
							out.Add(uint64(seg.Len))
						case tcpv1.Close:
							if seg.BytesIn != size || seg.BytesOut != size || seg.Error != "" {
								t.Errorf("socket.close says %v", seg)
							}
						}
						return hhook.Outcome{}
					})
				}
			}
			c := f.dial()
			var wg sync.WaitGroup
			var sent hash.Hash
			wg.Go(func() {
				sent = stream(c, size, 1)
				_ = c.CloseWrite()
			})
			got := sha256.New()
			if n, err := io.Copy(got, c); n != size || err != nil {
				t.Errorf("received %d bytes, %v", n, err)
			}
			wg.Wait()
			if string((<-upstreamGot).Sum(nil)) != string(sent.Sum(nil)) {
				t.Error("the upstream received other bytes than were sent")
			}
			if string(got.Sum(nil)) != string(stream(io.Discard, size, 2).Sum(nil)) {
				t.Error("the client received other bytes than were sent")
			}
			f.idle()
			if s := f.proxy.Stats(); s.BytesIn != size || s.BytesOut != size || s.Reset != 0 {
				t.Errorf("the proxy counted %+v", s)
			}
			if hooked && (in.Load() != size || out.Load() != size) {
				t.Errorf("the hooks saw %d bytes in and %d out", in.Load(), out.Load())
			}
		})
	}
}

// What the subsystem says it forwarded is what each hook handled, for every connection and in all.
func TestO10_ForwardedIsHandled(t *testing.T) {
	const conns, rounds = 200, 20
	bothWays(t, func(t *testing.T, wrap bool) {
		f := newFixture(t, wrap, tcp.Options{}, echo)
		var mu sync.Mutex                                  // protects called
		called := map[uint64]map[shared.HookPoint]uint64{} // by connection
		for _, p := range tcpv1.Points {
			f.attach(p, func(inv hhook.Invocation) hhook.Outcome {
				mu.Lock()
				defer mu.Unlock()
				seg := decode(t, inv.Context)
				if called[seg.Connection] == nil {
					called[seg.Connection] = map[shared.HookPoint]uint64{}
				}
				called[seg.Connection][p]++
				if p == tcpv1.Close {
					forwarded := inv.Object.Forwarded()
					if !maps.Equal(forwarded, called[seg.Connection]) {
						t.Errorf("connection %d: forwarded %v, called %v", seg.Connection, forwarded, called[seg.Connection])
					}
					if forwarded[tcpv1.EstIn] != seg.SegmentsIn || forwarded[tcpv1.EstOut] != seg.SegmentsOut {
						t.Errorf("connection %d: forwarded %v, socket.close says %v", seg.Connection, forwarded, seg)
					}
				}
				return hhook.Outcome{}
			})
		}
		var wg sync.WaitGroup
		for i := range conns {
			c := f.dial()
			wg.Go(func() {
				defer c.Close()
				for round := range rounds {
					text := fmt.Sprintf("connection %d round %d", i, round)
					if _, err := c.Write([]byte(text)); err != nil {
						t.Error(err)
						return
					}
					buf := make([]byte, len(text))
					if _, err := io.ReadFull(c, buf); err != nil || string(buf) != text {
						t.Errorf("got %q, %v; want %q", buf, err, text)
						return
					}
				}
			})
		}
		wg.Wait()
		f.idle()
		if n := len(called); n != conns {
			t.Errorf("hooks met %d connections, want %d", n, conns)
		}
		if got := f.sub.Forwarded()[tcpv1.EstIn]; got < conns*rounds {
			t.Errorf("forwarded %d segments, want %d at least", got, conns*rounds)
		}
	})
}

// A hook that comes while a connection is open meets every segment from then on, also the one that the proxy was waiting for.
func TestLateHookMeetsEverySegment(t *testing.T) {
	bothWays(t, func(t *testing.T, wrap bool) {
		f := newFixture(t, wrap, tcp.Options{}, echo)
		c := f.dial()
		for range 10 {
			ask(t, c, "before")
		}
		testkit.Until(t, "ten segments out", func() bool { return f.sub.Forwarded()[tcpv1.EstOut] == 10 })
		in, out := f.attach(tcpv1.EstIn, nil), f.attach(tcpv1.EstOut, nil)
		rcv, snd := f.attach(tcpv1.Rcv, nil), f.attach(tcpv1.Snd, nil)
		for range 7 {
			ask(t, c, "after")
		}
		c.Close()
		f.idle()
		for _, p := range []*probe{in, out, rcv, snd} {
			if n := p.calls.Load(); n != 7 {
				t.Errorf("%s was called %d times, want 7", p.point, n)
			}
		}
		if got := f.sub.Forwarded()[tcpv1.EstIn]; got != 17 {
			t.Errorf("forwarded %d, want 17", got)
		}
	})
}

// Hooks that come and go under load cost neither bytes nor counts; the one that stays meets everything.
func TestO10_HooksComeAndGo(t *testing.T) {
	const conns, rounds = 8, 300
	f := newFixture(t, false, tcp.Options{}, echo)
	stay := f.attach(tcpv1.EstIn, nil)
	var wg sync.WaitGroup
	for i := range conns {
		c := f.dial()
		id := shared.HelperID(1000 + i)
		wg.Go(func() {
			defer c.Close()
			for round := range rounds {
				head := f.head(tcpv1.Points[(i+round)%len(tcpv1.Points)])
				hook := hhook.NewHook(hhook.HookConfig{Helper: "flip", ID: id, InProc: true, Target: &probe{}})
				if err := head.Add(hook); err != nil {
					t.Error(err)
					return
				}
				_, werr := c.Write([]byte("hello")) // on its way while the hook leaves
				head.Remove(hook)
				buf := make([]byte, 5)
				if _, err := io.ReadFull(c, buf); err != nil || werr != nil || string(buf) != "hello" {
					t.Errorf("got %q, %v, %v", buf, werr, err)
					return
				}
			}
		})
	}
	wg.Wait()
	f.idle()
	if stay.calls.Load() < conns*rounds {
		t.Errorf("the hook that stayed was called %d times", stay.calls.Load())
	}
}

func TestNothingIsAllocatedPerSegment(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes sync.Pool forget at random, and so allocate")
	}
	for _, hooked := range []bool{false, true} {
		t.Run(fmt.Sprintf("hooked=%v", hooked), func(t *testing.T) {
			f := newFixture(t, false, tcp.Options{}, func(c *net.TCPConn) {
				buf := make([]byte, 512)
				for {
					n, err := c.Read(buf)
					if err != nil {
						return
					}
					if _, err := c.Write(buf[:n]); err != nil {
						return
					}
				}
			})
			if hooked {
				for _, p := range tcpv1.Points {
					f.attach(p, nil)
				}
			}
			c, buf := f.dial(), make([]byte, 100)
			if n := testing.AllocsPerRun(500, func() {
				if _, err := c.Write(buf); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(c, buf); err != nil {
					t.Fatal(err)
				}
			}); n != 0 {
				t.Errorf("a segment each way allocates %v times", n)
			}
		})
	}
}
