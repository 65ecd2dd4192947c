package control

import "golang.org/x/sys/unix"

const systemHasPeers = true

// socketPeer reads SO_PEERCRED: the peer as it was when it connected.
func socketPeer(fd int) (Peer, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return Peer{}, err
	}
	return Peer{UID: cred.Uid, GID: cred.Gid, PID: cred.Pid, Known: true}, nil
}
