// Package tcp is a subsystem with hook points: a TCP proxy with real sockets. It exports the points of shared/points/tcpv1, so that
// helpers follow, measure and filter connections.
//
//	sub, err := tcp.New(h, tcp.Options{Logger: log})       // h is a *host.Host
//	p, err := sub.Listen(ctx, tcp.ProxyOptions{Name: "web", Listen: "127.0.0.1:8080", Upstream: "127.0.0.1:9000"})
//	go p.Serve(ctx)
//	…
//	err = p.Shutdown(drain) // no new connections, the present ones run out
//	err = sub.Close(ctx)    // the points go
//
// # The way of a connection
//
//	accept
//	  │      make the object, classes tcp and socket; without it the connection is reset and nothing below happens
//	  ▼
//	socket.newconn ──────────── reject: reset ────────────────┐
//	  │      dial the upstream; fails: reset ─────────────────┤
//	  ▼                                                       │
//	client: read ─► tcp.est_in ─► socket.rcv ─► upstream: write
//	                                 │ reject: reset ─────────┤
//	upstream: read ─► socket.snd ─► client: write ─► tcp.est_out
//	                     │ reject: reset ─────────────────────┤
//	  │      both directions have ended                       │
//	  ▼                                                       ▼
//	close the sockets ─► socket.close ─► destroy the object
//
// Socket.newconn is the first point that an object meets and socket.close the last, once each, for refused connections too. The two
// directions run side by side: the order of tcp.est_in and tcp.est_out is that of the bytes within each of them only, and on
// synchronous points their hooks take turns, as the hooks of one object always do.
//
// In the kernel tcp.est_in runs in tcp_input before the bytes reach the socket buffer and socket.rcv in soreceive; socket.snd runs in
// sosend and tcp.est_out in tcp_output. The order here is the same.
//
// # Segments
//
// A segment is one successful read from, or write to, the client's socket. A write that the kernel takes in parts is one segment. It is
// not a packet: the kernel joins and splits those as it likes.
//
// The subsystem counts by itself, per connection and in all, how often it passed each point, whether or not there are hooks on it. It
// counts exactly once for each event, before it runs the hooks, and runs them exactly once for each count. So for a hook that was there
// throughout what was forwarded equals what it committed, missed and skipped; a hook that is added while a segment passes may or may not
// meet that one, and meets every later one. A point is passed only if its event happens: bytes that socket.snd rejects are no tcp.est_out.
//
// # Endings
//
// An end of stream is passed on as a half-close, and the other direction goes on. A reset of one side resets the other, as does a
// reject. If a side dies while it is being written to, what it had sent before is still handed on, for a second at most, and then the
// other side is reset. While one direction has ended its socket is still watched for a reset (on Linux). As ever in TCP, a reset
// overtakes what the receiver has not been sent yet.
//
// # Urgent data
//
// On Linux an urgent byte (MSG_OOB) is handed on as what it is, at once and in its place: the receiver finds it out of line, or in line
// with SO_OOBINLINE, as if there were no proxy. It counts like any other byte and is a segment of its own. TCP has one mark at a time:
// an urgent byte whose mark is replaced before it is read becomes an ordinary one, here as in any receiver. Where bytes are not taken
// from a *net.TCPConn to another, and on other systems, urgent bytes are dropped, uncounted, as net.Conn drops them; no other byte is
// lost or held up by them.
//
// # Cost
//
// On Linux bytes go from socket to socket with splice(2), through a pipe that a connection holds only while bytes are in it; they do not
// enter the process, with hooks or without, since a context speaks about bytes and does not carry them. Elsewhere, and where splice or a
// pipe is not to be had, they go through a pooled buffer, as urgent bytes do. A point without hooks costs two counters and one atomic
// load. With hooks, a context is built in memory that the connection keeps, and TCP_INFO is asked for; nothing is allocated for each
// segment.
//
// Helpers cost a connection time only within the budget of the head (Options.Budget), and nothing but time.
package tcp
