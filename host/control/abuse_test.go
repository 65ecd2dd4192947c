package control

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/control/controlv1"
	"github.com/khelp/khelp/host/hosttest/testkit"
)

// impatient are the usual bounds, but for those on time.
func impatient() bounds {
	b := usual
	b.handshake, b.idle, b.silent, b.sending, b.reading = moment, moment, time.Second, moment, moment
	return b
}

// moment is what an impatient server waits.
const moment = 50 * time.Millisecond

// The parts of HTTP/2 that it takes to misbehave.
const (
	preface       = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	frameData     = 0
	frameHeaders  = 1
	frameSettings = 4
	endStream     = 1
	endHeaders    = 4
)

func frame(kind, flags byte, stream uint32, payload string) string {
	b := []byte{byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload)), kind, flags}
	return string(binary.BigEndian.AppendUint32(b, stream)) + payload
}

// call1 begins a call on a stream: its headers, as HPACK's literals.
func call1(stream uint32, method string) string {
	var b strings.Builder
	for _, h := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", method}, {":authority", "khelp"}, {"content-type", "application/grpc"}, {"te", "trailers"},
	} {
		b.WriteString("\x00" + string(rune(len(h[0]))) + h[0] + string(rune(len(h[1]))) + h[1])
	}
	return frame(frameHeaders, endHeaders, stream, b.String())
}

// rawClient connects and sends some bytes.
func rawClient(t *testing.T, path, text string) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, text); err != nil {
		t.Logf("write: %v", err) // the server may have hung up already
	}
	return conn
}

// wantHungUp waits until the server closes a connection, and reads nothing before.
func wantHungUp(t *testing.T, what string, conn net.Conn) {
	t.Helper()
	testkit.Until(t, what+" to be hung up on", func() bool {
		_, err := io.WriteString(conn, frame(9, 0, 99, "")) // CONTINUATION of nothing: would be an error of its own
		return err != nil
	})
}

// wantClosed reads until the server closes a connection.
func wantClosed(t *testing.T, what string, conn net.Conn) {
	t.Helper()
	if err := conn.SetDeadline(time.Now().Add(testkit.Patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%s: the connection is still open", what)
	}
}

const hello = preface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00"

// A client that sends garbage, nothing, or half of something is hung up on, and hurts nobody else.
func TestClientsThatMisbehave(t *testing.T) {
	path, _ := serveWithin(t, &fakeHost{}, Options{}, impatient())
	stat := controlv1.Control_Stat_FullMethodName
	conns := map[string]net.Conn{}
	for what, text := range map[string]string{
		"nothing":              "",
		"another protocol":     "GET / HTTP/1.1\r\n\r\n",
		"noise":                strings.Repeat("\xff", 4096),
		"half a preface":       preface[:10],
		"half a frame":         preface + "\x00\x00",
		"no call":              hello,
		"half a call":          hello + call1(1, stat)[:20],
		"a call and no body":   hello + call1(1, stat),
		"half a body":          hello + call1(1, stat) + frame(frameData, 0, 1, "\x00\x00\x00\x10\x00half"),
		"a huge body":          hello + call1(1, stat) + frame(frameData, 0, 1, "\x00\x7f\xff\xff\xff"),
		"a body that is none":  hello + call1(1, stat) + frame(frameData, endStream, 1, "\x00\x00\x00\x00\x04\xff\xff\xff\xff"),
		"an unknown method":    hello + call1(1, "/no/such"),
		"many calls, no body":  hello + call1(1, stat) + call1(3, stat) + call1(5, stat),
		"a stream that is old": hello + call1(3, stat) + call1(1, stat),
	} {
		conns[what] = rawClient(t, path, text)
	}
	for what, conn := range conns {
		wantClosed(t, what, conn)
	}
	if _, err := dial(t, path).Stat(t.Context(), ""); err != nil {
		t.Errorf("Stat beside clients that misbehave: %v", err)
	}
}

// Calls beyond the limit of a connection wait or are refused; they do not add up.
func TestFloodOfCalls(t *testing.T) {
	entered := make(chan struct{}, 1000)
	path, _ := serveWithin(t, &fakeHost{change: func(ctx context.Context) error {
		entered <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}}, Options{}, impatient())
	var calls strings.Builder
	calls.WriteString(hello)
	for i := range uint32(500) {
		calls.WriteString(call1(2*i+1, controlv1.Control_Restart_FullMethodName) + frame(frameData, endStream, 2*i+1, "\x00\x00\x00\x00\x00"))
	}
	conn := rawClient(t, path, calls.String())
	for range usual.streams {
		testkit.Await(t, "a call", entered)
	}
	if _, err := dial(t, path).Stat(t.Context(), ""); err != nil {
		t.Errorf("Stat beside a flood: %v", err)
	}
	if n := len(entered); n > 0 {
		t.Errorf("%d calls beyond the limit are under way", n)
	}
	_ = conn.Close()
}

// Who follows events and does not read them is hung up on, and nothing of the call is left.
func TestStreamThatIsNotRead(t *testing.T) {
	h := &fakeHost{events: &fakeFollower[host.Event]{what: make(chan host.Event)}}
	path, _ := serveWithin(t, h, Options{}, impatient())
	request := frame(frameData, endStream, 1, "\x00\x00\x00\x00\x02\x08\x01") // follow: true
	rawClient(t, path, hello+call1(1, controlv1.Control_Events_FullMethodName)+request)
	event := host.Event{Type: host.EventLost, Message: strings.Repeat("x", 10000)}
	testkit.Until(t, "the subscription to be given back", func() bool {
		select {
		case h.events.what <- event:
		default:
		}
		return h.events.closed.Load() == 1
	})
	if _, err := dial(t, path).Stat(t.Context(), ""); err != nil {
		t.Errorf("Stat beside a client that does not read: %v", err)
	}
}

// So is who asks for a great deal at once and does not read it.
func TestAnswerThatIsNotRead(t *testing.T) {
	h := &fakeHost{hooks: make([]host.HeadStat, 1000), objects: func(host.ObjectFilter) ([]host.ObjectStat, error) {
		return make([]host.ObjectStat, 100*objectBatch), nil
	}}
	for i := range h.hooks {
		h.hooks[i].Context = strings.Repeat("x", 1000)
	}
	path, _ := serveWithin(t, h, Options{}, impatient())
	for _, method := range []string{controlv1.Control_Hooks_FullMethodName, controlv1.Control_Objects_FullMethodName} {
		conn := rawClient(t, path, hello+call1(1, method)+frame(frameData, endStream, 1, "\x00\x00\x00\x00\x00"))
		wantHungUp(t, method, conn)
	}
	if _, err := dial(t, path).Stat(t.Context(), ""); err != nil {
		t.Errorf("Stat beside clients that do not read: %v", err)
	}
}

// As many connections as there may be do not keep others out for long: those that do nothing are closed.
func TestFloodOfConnections(t *testing.T) {
	b := impatient()
	b.connections = 4
	path, _ := serveWithin(t, &fakeHost{}, Options{}, b)
	for range 3 * b.connections {
		rawClient(t, path, "")
	}
	if _, err := dial(t, path).Stat(t.Context(), ""); err != nil {
		t.Errorf("Stat beside a flood: %v", err)
	}
}
