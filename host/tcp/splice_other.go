//go:build !linux

package tcp

import "net"

// chunkPool keeps pipes where there is splice(2).
type chunkPool struct{}

func (*chunkPool) close() {}

func newMover(dst, src net.Conn, _ *chunkPool) mover { return newBufferMover(dst, src) }
