package tcp_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/hosttest/testkit"
	"github.com/khelp/khelp/host/tcp"
	"github.com/khelp/khelp/shared/points/tcpv1"
)

// Streams are written as text in which [x] is an urgent x.
var urgentParts = regexp.MustCompile(`\[.\]|[^\[]+`)

// ordinary returns what a receiver gets of a stream that leaves urgent bytes out of line, as sockets do unless told otherwise.
func ordinary(stream string) string { return regexp.MustCompile(`\[.\]`).ReplaceAllString(stream, "") }

// raw makes a call on the socket, and again whenever it is ready, until it does not say EAGAIN.
func raw(c *net.TCPConn, write bool, call func(fd int) error) error {
	rc, err := c.SyscallConn()
	if err != nil {
		return err
	}
	wait := rc.Read
	if write {
		wait = rc.Write
	}
	var failed error
	err = wait(func(fd uintptr) bool {
		failed = call(int(fd))
		return !errors.Is(failed, unix.EAGAIN)
	})
	return errors.Join(err, failed)
}

func sendUrgent(c *net.TCPConn, b byte) error {
	return raw(c, true, func(fd int) error { return unix.Send(fd, []byte{b}, unix.MSG_OOB|unix.MSG_NOSIGNAL) })
}

// sendStream sends a stream, part by part; after each it calls sent.
func sendStream(c *net.TCPConn, stream string, sent func(part string)) error {
	for _, part := range urgentParts.FindAllString(stream, -1) {
		var err error
		if part[0] == '[' {
			err = sendUrgent(c, part[1])
		} else {
			_, err = c.Write([]byte(part))
		}
		if err != nil {
			return err
		}
		sent(part)
	}
	return nil
}

// inline lets a receiver find urgent bytes in the stream.
func inline(t *testing.T, c *net.TCPConn) {
	t.Helper()
	if err := raw(c, false, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_OOBINLINE, 1) }); err != nil {
		t.Fatal(err)
	}
}

// readMarked reads what comes next on an inline socket, urgent bytes marked; at the end it returns "".
func readMarked(c *net.TCPConn) (string, error) {
	var text string
	err := raw(c, false, func(fd int) error {
		buf := make([]byte, 4096)
		if n, _, err := unix.Recvfrom(fd, buf[:1], unix.MSG_PEEK); n <= 0 || err != nil {
			return err
		}
		mark, err := unix.IoctlGetUint32(fd, unix.SIOCATMARK) // before the read, which ends before the next mark
		if err != nil {
			return err
		}
		if mark == 1 {
			buf = buf[:1]
		}
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if text = string(buf[:max(n, 0)]); mark == 1 {
			text = "[" + text + "]"
		}
		return err
	})
	return text, err
}

// urgentCase is a way for a stream to go.
type urgentCase struct{ in, wrap, hooked, noPipes bool }

func (u urgentCase) String() string {
	words := []string{"out"}
	if u.in {
		words[0] = "in"
	}
	for word, on := range map[string]bool{"buffered": u.wrap, "hooked": u.hooked, "no_pipes": u.noPipes} {
		if on {
			words = append(words, word)
		}
	}
	return strings.Join(words, ",")
}

// urgentPair is a connection through a proxy, seen as one stream.
type urgentPair struct {
	*fixture
	urgentCase
	sender, receiver *net.TCPConn
	seen             atomic.Uint64 // bytes that hooks were told of
	restoreFiles     func()        // with noPipes
}

// newUrgentPair makes a connection. Where there are to be no pipes it tries again if a descriptor that was closed just then has made room
// for one, which the upstream then lacks.
func newUrgentPair(t *testing.T, u urgentCase) *urgentPair {
	for {
		if p := tryUrgentPair(t, u); p != nil {
			return p
		}
	}
}

func tryUrgentPair(t *testing.T, u urgentCase) *urgentPair {
	upstreams, done := make(chan *net.TCPConn), make(chan struct{})
	p := &urgentPair{urgentCase: u}
	p.fixture = newFixture(t, u.wrap, tcp.Options{}, func(c *net.TCPConn) {
		upstreams <- c
		<-done
	})
	t.Cleanup(func() { close(done) })
	if u.hooked {
		count := func(inv hhook.Invocation) hhook.Outcome {
			p.seen.Add(uint64(decode(t, inv.Context).Len))
			return hhook.Outcome{}
		}
		for _, point := range tcpv1.Points {
			switch point {
			case tcpv1.EstIn, tcpv1.EstOut:
				p.attach(point, count)
			default:
				p.attach(point, nil)
			}
		}
	}
	limited := make(chan func(), 1)
	if u.noPipes {
		p.attach(tcpv1.NewConn, func(hhook.Invocation) hhook.Outcome {
			limited <- limitFiles(t, 2) // both ends of the connection to the upstream
			return hhook.Outcome{}
		})
	}
	client := p.dial()
	if u.noPipes {
		p.restoreFiles = <-limited
		t.Cleanup(p.restoreFiles)
	}
	var upstream *net.TCPConn
	select {
	case upstream = <-upstreams:
	case <-p.starved:
		p.restoreFiles()
		(<-upstreams).Close()
		client.Close()
		p.idle()
		return nil
	}
	if u.in {
		p.sender, p.receiver = client, upstream
	} else {
		p.sender, p.receiver = upstream, client
	}
	return p
}

// finish ends the connection in good order and wants the bytes that the proxy counted and hooks were told of to be n.
func (p *urgentPair) finish(n int) {
	p.t.Helper()
	p.sender.Close()
	p.receiver.Close()
	p.idle()
	if p.noPipes {
		p.restoreFiles()
	}
	s := p.proxy.Stats()
	if s.BytesIn+s.BytesOut != uint64(n) || s.Reset != 0 {
		p.t.Errorf("the proxy counted %+v, want %d bytes", s, n)
	}
	if p.hooked && p.seen.Load() != uint64(n) {
		p.t.Errorf("the hooks saw %d bytes, want %d", p.seen.Load(), n)
	}
}

// urgentCases runs a test for both directions, with hooks and without.
func urgentCases(t *testing.T, test func(t *testing.T, u urgentCase)) {
	for _, in := range []bool{true, false} {
		for _, hooked := range []bool{false, true} {
			u := urgentCase{in: in, hooked: hooked}
			t.Run(u.String(), func(t *testing.T) { test(t, u) })
		}
	}
}

// An urgent byte costs none of those around it, whoever forwards them.
func TestUrgentByteLosesNothing(t *testing.T) {
	urgentCases(t, func(t *testing.T, u urgentCase) {
		bothWays(t, func(t *testing.T, wrap bool) {
			u.wrap = wrap
			for _, stream := range []string{"hi[u]abcdef", "[u]abcdef", "abcdef[u]", "[u]"} {
				p := newUrgentPair(t, u)
				if err := sendStream(p.sender, stream, func(string) {}); err != nil {
					t.Fatal(err)
				}
				if err := p.sender.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(p.receiver)
				if want := ordinary(stream); string(got) != want || err != nil {
					t.Errorf("%s arrived as %q, %v; want %q", stream, got, err, want)
				}
				n := len(ordinary(stream))
				if !wrap {
					n++
				}
				p.finish(n)
			}
		})
	})
}

// Urgent bytes are handed on at once, and as such: what a receiver makes of them is the same as without the proxy.
func TestUrgentBytesStayUrgent(t *testing.T) {
	streams := []string{"hi[u]abcdef", "[u]abc", "abc[u]", "[u]", "[a][b]", "a[b]c[d][e]f[g]"}
	urgentCases(t, func(t *testing.T, u urgentCase) {
		for _, noPipes := range []bool{false, true} {
			u.noPipes = noPipes
			t.Run(fmt.Sprintf("noPipes=%v", noPipes), func(t *testing.T) {
				for _, stream := range streams {
					p := newUrgentPair(t, u)
					inline(t, p.receiver)
					length := 0
					// A mark replaces the one before, so each part waits until the one before has arrived.
					if err := sendStream(p.sender, stream, func(part string) {
						length += len(ordinary(part)) + strings.Count(part, "[")
						for got := ""; got != part; {
							more, err := readMarked(p.receiver)
							if got += more; err != nil || more == "" || !strings.HasPrefix(part, got) {
								t.Fatalf("%s of %s arrived as %q, %v", part, stream, got, err)
							}
						}
					}); err != nil {
						t.Fatal(err)
					}
					if err := p.sender.CloseWrite(); err != nil {
						t.Fatal(err)
					}
					if got, err := readMarked(p.receiver); got != "" || err != nil {
						t.Errorf("after %s came %q, %v; want the end", stream, got, err)
					}
					p.finish(length)
				}
			})
		}
	})
}

// An urgent byte waits for nothing to follow it.
func TestUrgentByteOutOfLine(t *testing.T) {
	urgentCases(t, func(t *testing.T, u urgentCase) {
		p := newUrgentPair(t, u)
		buf := make([]byte, 1)
		for i := range 3 {
			b := byte('a' + i)
			if err := sendUrgent(p.sender, b); err != nil {
				t.Fatal(err)
			}
			testkit.Until(t, "the urgent byte", func() bool {
				err := raw(p.receiver, false, func(fd int) error {
					n, _, err := unix.Recvfrom(fd, buf, unix.MSG_OOB)
					if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINVAL) { // announced, or not even that
						n, err = 0, nil
					}
					buf = buf[:n]
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
				defer func() { buf = buf[:1] }()
				return len(buf) == 1
			})
			if buf[0] != b {
				t.Fatalf("the urgent byte is %q, want %q", buf[0], b)
			}
			send(t, p.sender, "then")
			expect(t, p.receiver, "then")
		}
		p.finish(3 * 5)
	})
}

// Marks that come faster than they are read are lost, as in any TCP, but no byte is, and none moves.
func TestUrgentBytesUnderLoad(t *testing.T) {
	const parts = 3000
	urgentCases(t, func(t *testing.T, u urgentCase) {
		p := newUrgentPair(t, u)
		inline(t, p.receiver)
		send(t, p.sender, "start")
		expect(t, p.receiver, "start")
		source := rand.New(rand.NewPCG(1, 2))
		sent, failed := new(bytes.Buffer), make(chan error, 1)
		go func() {
			defer func() { _ = p.sender.CloseWrite() }() // without it the receiver waits in vain, and says so
			for range parts {
				part := bytes.Repeat([]byte{byte(source.IntN(256))}, source.IntN(2000)+1)
				urgent := byte(source.IntN(256))
				sent.Write(append(part, urgent))
				if _, err := p.sender.Write(part); err != nil {
					failed <- err
					return
				}
				if err := sendUrgent(p.sender, urgent); err != nil {
					failed <- err
					return
				}
			}
			failed <- nil
		}()
		got, err := io.ReadAll(p.receiver)
		if err := errors.Join(err, <-failed); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, sent.Bytes()) {
			at := 0
			for at < min(len(got), sent.Len()) && got[at] == sent.Bytes()[at] {
				at++
			}
			t.Errorf("%d bytes were sent and %d arrived; they differ from byte %d on", sent.Len(), len(got), at)
		}
		p.finish(len("start") + sent.Len())
	})
}
