package tcp

import (
	"strings"

	"github.com/khelp/khelp/shared/points/tcpv1"
)

// maxErrorText bounds the error of a context, in bytes: a helper's reason may be of any length.
const maxErrorText = 1024

// message builds contexts, for one flow, in memory that it keeps: nothing is allocated once it has grown.
type message struct {
	seg     tcpv1.Segment
	info    tcpv1.TcpInfo
	socket  infoReader // of the client
	buf     []byte
	current bool // buf holds seg
}

// segment sets what happened: n bytes in a direction, after offset others.
func (m *message) segment(dir tcpv1.Direction, n int, offset uint64) {
	m.seg.Direction, m.seg.Len, m.seg.Offset = dir, uint32(n), offset
	m.current = false
}

// closing sets the end of a connection.
func (m *message) closing(c *conn, cause error) {
	m.segment(tcpv1.Direction_DIRECTION_UNSPECIFIED, 0, 0)
	m.seg.BytesIn, m.seg.BytesOut = c.in.bytes, c.out.bytes
	m.seg.SegmentsIn, m.seg.SegmentsOut = c.in.segments, c.out.segments
	if cause != nil {
		text := cause.Error()
		m.seg.Error = strings.ToValidUTF8(text[:min(len(text), maxErrorText)], "\uFFFD")
	}
}

// encode makes buf the context of what happened, unless it is already: tcp.est_in and socket.rcv speak of the same segment.
func (m *message) encode(c *conn) {
	if m.current {
		return
	}
	m.seg.Connection, m.seg.Proxy, m.seg.OpenedNs = c.obj.ID(), c.p.opts.Name, c.opened
	m.seg.Client, m.seg.Local, m.seg.Upstream = c.addr.client, c.addr.local, c.addr.upstream
	m.seg.TimeNs = monotonic()
	m.seg.TcpInfo = nil
	if !m.socket.opened() {
		m.socket.open(c.client)
	}
	if m.socket.read(&m.info) {
		m.seg.TcpInfo = &m.info
	}
	m.buf = m.seg.AppendTo(m.buf[:0])
	m.current = true
}
