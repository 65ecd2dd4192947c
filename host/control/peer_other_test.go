//go:build !linux

package control

import (
	"os"

	"github.com/khelp/khelp/host/hosttest/testkit"
)

// programs are what other users run in the tests of other systems.
var programs testkit.Programs

// self is who this process is, as far as the system says.
func self() Peer {
	return Peer{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()), Known: systemHasPeers}
}
