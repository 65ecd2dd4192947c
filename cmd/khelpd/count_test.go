package main

import (
	"testing"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/points/tcpv1"
)

func TestCount(t *testing.T) {
	b := newCount()
	segment := tcpv1.Segment{Connection: 7, Client: "127.0.0.1:5", Direction: tcpv1.Direction_DIRECTION_IN, Len: 300, Offset: 12, TimeNs: 1, Proxy: "web"}
	call := &host.BuiltinCall{Context: segment.AppendTo(nil)}
	closing := &host.BuiltinCall{Context: (&tcpv1.Segment{Connection: 7, BytesIn: 99}).AppendTo(nil)}
	hook := b.Hooks[tcpv1.EstIn]
	if n := testing.AllocsPerRun(100, func() { _ = hook(t.Context(), call) }); n > 0 {
		t.Errorf("a call allocates %v times", n)
	}
	if err := b.Hooks[tcpv1.Close](t.Context(), closing); err != nil {
		t.Error(err)
	}
	if len(b.Hooks) != len(tcpv1.Points) {
		t.Errorf("it hooks %d points of %d", len(b.Hooks), len(tcpv1.Points))
	}
	for name, want := range map[string]float64{
		"tcp.est_in.calls": 101, "tcp.est_in.bytes": 101 * 300, "socket.close.calls": 1, "socket.close.bytes": 0, "tcp.est_out.calls": 0,
	} {
		if got, ok := b.Stat()[name]; !ok || got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	for _, context := range []string{"\x30", "\x0a\x05x", "\xff", "\x30\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"} {
		if err := hook(t.Context(), &host.BuiltinCall{Context: []byte(context)}); shared.CodeOf(err) != shared.CodeInvalid {
			t.Errorf("context %q: %v", context, err)
		}
	}
}

// Whatever the subsystem may write, count reads the same length as everybody.
func FuzzSegmentLen(f *testing.F) {
	f.Add(uint64(1), "a", uint32(5), uint64(9), true)
	f.Fuzz(func(t *testing.T, connection uint64, text string, n uint32, offset uint64, info bool) {
		s := tcpv1.Segment{Connection: connection, Client: text, Upstream: text, Len: n, Offset: offset, Error: text}
		if info {
			s.TcpInfo = &tcpv1.TcpInfo{BytesAcked: offset}
		}
		if got, err := segmentLen(s.AppendTo(nil)); err != nil || got != uint64(n) {
			t.Errorf("got %d, %v, want %d", got, err, n)
		}
	})
}
