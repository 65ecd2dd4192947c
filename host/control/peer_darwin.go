package control

import (
	"slices"

	"golang.org/x/sys/unix"
)

const systemHasPeers = true

// socketPeer reads LOCAL_PEERCRED, which names no process.
func socketPeer(fd int) (Peer, error) {
	cred, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	if err != nil {
		return Peer{}, err
	}
	p := Peer{UID: cred.Uid, Known: true}
	if n := min(int(cred.Ngroups), len(cred.Groups)); n > 0 {
		p.GID, p.Groups = cred.Groups[0], slices.Clone(cred.Groups[1:n])
	}
	return p, nil
}
