package filesum

import (
	"os"
	"syscall"
	"time"
)

// identity tells a file, as it is, from all others and from itself after a change. Its owner can set the time of modification, but not
// that of the inode's change.
type identity struct {
	dev, ino     uint64
	size         int64
	mtime, ctime syscall.Timespec
}

// identify returns the identity of a file that has been as it is for long enough.
func identify(file *os.File) (id identity, ok bool) {
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return identity{}, false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return identity{}, false
	}
	for _, changed := range []syscall.Timespec{st.Ctim, st.Mtim} {
		if since := time.Since(time.Unix(changed.Unix())); since < settled {
			return identity{}, false
		}
	}
	dev := uint64(st.Dev) //nolint:unconvert // a uint32 on mips
	return identity{dev: dev, ino: st.Ino, size: st.Size, mtime: st.Mtim, ctime: st.Ctim}, true
}
