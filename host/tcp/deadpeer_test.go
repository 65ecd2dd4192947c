package tcp_test

import (
	"io"
	"net"
	"sync/atomic"
	"testing"

	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/hosttest/testkit"
	"github.com/khelp/khelp/host/tcp"
	"github.com/khelp/khelp/shared/points/tcpv1"
)

// A reset whose error a write has met looks like an orderly end to whoever reads next. It must not be passed on as one: the upstream
// would take half a request for a whole one.
func TestResetMetByAWriteIsNoEndOfStream(t *testing.T) {
	bothWays(t, func(t *testing.T, wrap bool) {
		answer, ended := make(chan struct{}), make(chan error, 1)
		f := newFixture(t, wrap, tcp.Options{}, func(c *net.TCPConn) {
			_, _ = io.ReadFull(c, make([]byte, 5))
			<-answer
			_, _ = c.Write([]byte("too late"))
			_, err := io.Copy(io.Discard, struct{ io.Reader }{c})
			ended <- err
		})
		entered, release := make(chan struct{}), make(chan struct{})
		var segments atomic.Int64
		f.attach(tcpv1.Rcv, func(hhook.Invocation) hhook.Outcome {
			if segments.Add(1) == 2 { // the flow from the client is held here
				close(entered)
				<-release
			}
			return hhook.Outcome{}
		})
		c := f.dial()
		send(t, c, "hello")
		testkit.Until(t, "the first segment", func() bool { return segments.Load() == 1 })
		send(t, c, "half a request")
		<-entered
		reset(t, c)
		close(answer)
		testkit.Until(t, "the write to the client", func() bool { return f.sub.Forwarded()[tcpv1.Snd] == 1 })
		close(release)
		if err := <-ended; !isReset(err) {
			t.Errorf("the upstream's connection ended with %v, want a reset", err)
		}
	})
}

// A client that does not read cannot keep a connection whose upstream is dead.
func TestDeadUpstreamAndAClientThatDoesNotRead(t *testing.T) {
	bothWays(t, func(t *testing.T, wrap bool) {
		die := make(chan struct{})
		f := newFixture(t, wrap, tcp.Options{}, func(c *net.TCPConn) {
			go func() {
				<-die
				reset(t, c)
			}()
			_, _ = io.CopyN(c, zeros{}, 1<<30) // more than all buffers hold: ends with the reset
		})
		c := f.dial()
		last, same := uint64(0), 0
		testkit.Until(t, "the buffers to fill", func() bool {
			now := f.proxy.Stats().BytesOut
			if now == 0 || now != last {
				last, same = now, 0
			}
			same++
			return same > 50
		})
		close(die)
		testkit.Until(t, "the connection to end", func() bool {
			_, _ = c.Write([]byte("anybody there?")) // until it is reset
			return f.proxy.Stats().Active == 0
		})
		if s := f.proxy.Stats(); s.Reset != 1 {
			t.Errorf("the proxy counted %+v", s)
		}
	})
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
