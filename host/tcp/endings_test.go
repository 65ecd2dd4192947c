package tcp_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/hosttest/testkit"
	"github.com/khelp/khelp/host/tcp"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/points/tcpv1"
)

// lastWords attaches a hook to socket.close and returns where its contexts arrive.
func lastWords(f *fixture) <-chan *tcpv1.Segment {
	ch := make(chan *tcpv1.Segment, 16)
	f.attach(tcpv1.Close, func(inv hhook.Invocation) hhook.Outcome {
		ch <- decode(f.t, inv.Context)
		return hhook.Outcome{}
	})
	return ch
}

func wantError(t *testing.T, words <-chan *tcpv1.Segment, parts ...string) *tcpv1.Segment {
	t.Helper()
	select {
	case seg := <-words:
		for _, part := range parts {
			if !strings.Contains(seg.Error, part) {
				t.Errorf("socket.close says %q, want it to contain %q", seg.Error, part)
			}
		}
		if len(parts) == 0 && seg.Error != "" {
			t.Errorf("socket.close says %q, want an orderly end", seg.Error)
		}
		return seg
	case <-time.After(testkit.Patience):
		t.Fatal("socket.close was not passed")
		return nil
	}
}

func TestHalfClosePassesThrough(t *testing.T) {
	bothWays(t, func(t *testing.T, wrap bool) {
		t.Run("client first", func(t *testing.T) {
			f := newFixture(t, wrap, tcp.Options{}, func(c *net.TCPConn) {
				all, err := io.ReadAll(c)
				if err != nil {
					t.Error(err)
				}
				_, _ = c.Write(append([]byte("got "), all...))
			})
			words := lastWords(f)
			c := f.dial()
			send(t, c, "question")
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if all, err := io.ReadAll(c); err != nil || string(all) != "got question" {
				t.Errorf("got %q, %v", all, err)
			}
			wantError(t, words)
		})
		t.Run("upstream first", func(t *testing.T) {
			last := make(chan string, 1)
			f := newFixture(t, wrap, tcp.Options{}, func(c *net.TCPConn) {
				_, _ = c.Write([]byte("banner"))
				_ = c.CloseWrite()
				all, err := io.ReadAll(c)
				if err != nil {
					t.Error(err)
				}
				last <- string(all)
			})
			words := lastWords(f)
			c := f.dial()
			if all, err := io.ReadAll(c); err != nil || string(all) != "banner" {
				t.Errorf("got %q, %v", all, err)
			}
			send(t, c, "still here")
			c.Close()
			if got := <-last; got != "still here" {
				t.Errorf("the upstream got %q", got)
			}
			wantError(t, words)
		})
	})
}

func TestResetPassesThrough(t *testing.T) {
	bothWays(t, func(t *testing.T, wrap bool) {
		t.Run("by the client", func(t *testing.T) {
			ended := make(chan error, 1)
			f := newFixture(t, wrap, tcp.Options{}, func(c *net.TCPConn) {
				for buf := make([]byte, 10); ; {
					n, err := c.Read(buf)
					if err != nil {
						ended <- err
						return
					}
					_, _ = c.Write(buf[:n])
				}
			})
			words := lastWords(f)
			c := f.dial()
			ask(t, c, "hello")
			reset(t, c)
			if err := <-ended; !isReset(err) {
				t.Errorf("the upstream's connection ended with %v, want a reset", err)
			}
			wantError(t, words, "client: ", "reset by peer")
		})
		t.Run("by the upstream", func(t *testing.T) {
			f := newFixture(t, wrap, tcp.Options{}, func(c *net.TCPConn) {
				buf := make([]byte, 5)
				_, _ = io.ReadFull(c, buf)
				_, _ = c.Write(buf)
				_, _ = io.ReadFull(c, buf)
				reset(t, c)
			})
			words := lastWords(f)
			c := f.dial()
			ask(t, c, "hello")
			send(t, c, "enough")
			expectReset(t, c)
			wantError(t, words, "upstream: ", "reset by peer")
			f.idle()
			if s := f.proxy.Stats(); s.Reset != 1 {
				t.Errorf("the proxy counted %+v", s)
			}
		})
	})
}

func reset(t testing.TB, c *net.TCPConn) {
	if err := c.SetLinger(0); err != nil {
		t.Error(err)
	}
	c.Close()
}

// A server that answers before it has read the request, and closes, resets the connection; its answer arrives all the same.
func TestAnswerBeforeAResetArrives(t *testing.T) {
	bothWays(t, func(t *testing.T, wrap bool) {
		answered, gone := make(chan struct{}), make(chan struct{})
		f := newFixture(t, wrap, tcp.Options{}, func(c *net.TCPConn) {
			_, _ = io.ReadFull(c, make([]byte, 1))
			_, _ = c.Write([]byte("too large"))
			close(answered)
			<-gone
		})
		c := f.dial()
		send(t, c, "x")
		<-answered
		close(gone)
		send(t, c, strings.Repeat("y", 1000))
		expect(t, c, "too large")
	})
}

func TestUpstreamDown(t *testing.T) {
	f := newFixture(t, false, tcp.Options{}, nil)
	words := lastWords(f)
	f.dialRefused()
	seg := wantError(t, words, "upstream: ", "refused")
	if seg.Upstream != "" || seg.Client == "" {
		t.Errorf("socket.close says %v", seg)
	}
	f.idle()
	if s := f.proxy.Stats(); s.DialFailed != 1 || s.Refused != 0 || s.Accepted != 1 {
		t.Errorf("the proxy counted %+v", s)
	}
}

func TestObjectCannotBeMade(t *testing.T) {
	f := newFixture(t, false, tcp.Options{}, echo)
	f.mu.Lock()
	f.refuse = errors.New("a helper is down")
	f.mu.Unlock()
	f.dialRefused()
	f.idle()
	if s := f.proxy.Stats(); s.Refused != 1 || s.DialFailed != 0 {
		t.Errorf("the proxy counted %+v", s)
	}
	for point, n := range f.sub.Forwarded() {
		if n != 0 {
			t.Errorf("%s was passed without an object", point)
		}
	}
}

func TestShutdownDrains(t *testing.T) {
	f := newFixture(t, false, tcp.Options{}, echo)
	c := f.dial()
	ask(t, c, "hello")
	down := make(chan error, 1)
	go func() { down <- f.proxy.Shutdown(context.Background()) }()
	testkit.Until(t, "the listener to close", func() bool {
		extra, err := net.Dial("tcp", f.proxy.Addr().String())
		if err == nil {
			extra.Close()
		}
		return err != nil
	})
	ask(t, c, "still served")
	select {
	case err := <-down:
		t.Fatalf("Shutdown returned %v with a connection open", err)
	default:
	}
	c.Close()
	if err := <-down; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

func TestShutdownCuts(t *testing.T) {
	f := newFixture(t, false, tcp.Options{}, echo)
	words := lastWords(f)
	c := f.dial()
	ask(t, c, "hello")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err := f.proxy.Shutdown(ctx)
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), `tcp "web": 1 connections cut`) {
		t.Errorf("Shutdown: %v", err)
	}
	expectReset(t, c)
	wantError(t, words, "cut by the proxy")
}

func TestEndOfContextCloses(t *testing.T) {
	f := newFixture(t, false, tcp.Options{}, echo)
	p, err := f.sub.Listen(t.Context(), tcp.ProxyOptions{Name: "two", Listen: "127.0.0.1:0", Upstream: f.upstream.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	f.others = append(f.others, p)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- p.Serve(ctx) }()
	c, err := net.Dial("tcp", p.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	deadline(c)
	ask(t, c, "hello")
	if err := p.Serve(ctx); !errors.Is(err, shared.ErrBusy) {
		t.Errorf("serving twice: %v, want ErrBusy", err)
	}
	cancel()
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	expectReset(t, c)
}

// A hook that hangs holds up its own connection, until its head gives up on it, and no other.
func TestHungHookStallsItsConnectionOnly(t *testing.T) {
	f := newFixture(t, false, tcp.Options{}, echo)
	words := lastWords(f)
	entered, timeout := make(chan struct{}), make(chan struct{})
	f.attach(tcpv1.Rcv, func(inv hhook.Invocation) hhook.Outcome {
		if inv.Object.ID() != 1 {
			return hhook.Outcome{}
		}
		close(entered)
		<-timeout
		return hhook.Failed(shared.CauseTimeout, shared.ErrTimeout.Errorf("no reply"))
	})
	stalled := f.dial()
	testkit.Until(t, "the first connection", func() bool { return f.sub.Forwarded()[tcpv1.NewConn] == 1 })
	send(t, stalled, "hello")
	<-entered
	other := f.dial()
	for range 10 {
		ask(t, other, "not held up")
	}
	close(timeout)
	expectReset(t, stalled)
	wantError(t, words, "socket.rcv: rejected because probe2 failed (timeout): no reply")
	ask(t, other, "still there")
}

// Close waits for the hooks under way, and for nothing else.
func TestCloseWaitsForHooks(t *testing.T) {
	f := newFixture(t, false, tcp.Options{}, echo)
	entered, release := make(chan struct{}), make(chan struct{})
	f.attach(tcpv1.NewConn, func(hhook.Invocation) hhook.Outcome {
		close(entered)
		<-release
		return hhook.Outcome{}
	})
	words := lastWords(f)
	c := f.dial()
	<-entered
	closed := make(chan error, 1)
	go func() { closed <- f.proxy.Close() }()
	expectReset(t, c) // at once, though the hook still hangs
	select {
	case err := <-closed:
		t.Fatalf("Close returned %v with a hook under way", err)
	default:
	}
	close(release)
	if err := <-closed; err != nil {
		t.Error(err)
	}
	wantError(t, words, "cut by the proxy")
}
