// Package tcpv1 is what helpers and hosts share about the TCP subsystem: the names of its hook points and classes, and Segment, the
// context that every one of its points carries. It is published: fields and points are added, never changed.
//
// The points, in the order in which a connection meets them:
//
//	point           kind     async  when
//	socket.newconn  filter   no     accepted, upstream not dialled yet; a reject resets the connection
//	tcp.est_in      observe  yes    after each successful read from the client
//	socket.rcv      filter   no     after tcp.est_in, before the bytes go to the upstream; a reject resets the connection
//	socket.snd      filter   no     bytes came from the upstream, before they are written to the client; a reject resets the connection
//	tcp.est_out     observe  yes    after each successful write to the client
//	socket.close    observe  yes    the end, once for each connection that met socket.newconn, refused ones too
//
// They answer to FreeBSD's HHOOK_TCP_EST_IN and HHOOK_TCP_EST_OUT and to HHOOK_SOCKET_NEWCONN, _RCV, _SND and _CLOSE. A connection is
// one object of the classes tcp and socket.
//
// A helper in Go reads its context so, with no allocation once the addresses are known:
//
//	var seg tcpv1.Segment // kept between calls of one goroutine
//	if err := seg.Decode(call.Context); err != nil {
//		return err
//	}
//	if info := seg.TcpInfo; info != nil {
//		observe(time.Duration(info.RttUs) * time.Microsecond)
//	}
//
// In other languages generate code from tcpv1.proto. Contexts are short: a few dozen bytes without TCP_INFO and addresses, seldom more
// than 200 with them.
package tcpv1

import "github.com/khelp/khelp/shared"

// The points of the subsystem.
const (
	NewConn shared.HookPoint = "socket.newconn"
	EstIn   shared.HookPoint = "tcp.est_in"
	Rcv     shared.HookPoint = "socket.rcv"
	Snd     shared.HookPoint = "socket.snd"
	EstOut  shared.HookPoint = "tcp.est_out"
	Close   shared.HookPoint = "socket.close"
)

// Points lists every point, in the order in which a connection meets them. Callers must not change it.
var Points = []shared.HookPoint{NewConn, EstIn, Rcv, Snd, EstOut, Close}

// The classes of a connection's object: khelp(9)'s HELPER_CLASS_TCP and HELPER_CLASS_SOCKET.
const (
	ClassTCP    shared.Class = "tcp"
	ClassSocket shared.Class = "socket"
)

// Message is the full name of the protobuf message that every point carries: Segment.
const Message = "khelp.tcp.v1.Segment"
