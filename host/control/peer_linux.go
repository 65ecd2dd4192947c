package control

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

const systemHasPeers = true

// socketPeer reads SO_PEERCRED and SO_PEERGROUPS: the peer as it was when it connected.
func socketPeer(fd int) (Peer, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return Peer{}, err
	}
	p := Peer{UID: cred.Uid, GID: cred.Gid, PID: cred.Pid, Known: true}
	p.Groups, err = socketGroups(fd)
	if errors.Is(err, unix.ENOPROTOOPT) { // a kernel before 4.13: the primary group is all it tells
		err = nil
	}
	return p, err
}

// fewGroups is what most users have no more of.
const fewGroups = 32

// socketGroups reads SO_PEERGROUPS, however many groups there are.
func socketGroups(fd int) ([]uint32, error) {
	groups := make([]uint32, fewGroups)
	for {
		size := uint32(len(groups)) * 4
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(unsafe.SliceData(groups))), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case errno == 0:
			return groups[:size/4], nil
		case errno != unix.ERANGE || size <= uint32(len(groups))*4: // the kernel has not said how many there are
			return nil, fmt.Errorf("SO_PEERGROUPS: %w", errno)
		}
		groups = make([]uint32, size/4)
	}
}
