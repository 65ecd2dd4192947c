package filesum

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
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
	wait := settled
	if st.Ctim.Nsec != 0 && keepsNanoseconds(file) { // ext4 of old keeps seconds
		wait = settledFinely
	}
	for _, changed := range []syscall.Timespec{st.Ctim, st.Mtim} {
		if since := time.Since(time.Unix(changed.Unix())); since < wait {
			return identity{}, false
		}
	}
	dev := uint64(st.Dev) //nolint:unconvert // a uint32 on mips
	return identity{dev: dev, ino: st.Ino, size: st.Size, mtime: st.Mtim, ctime: st.Ctim}, true
}

// keepsNanoseconds reports whether a file is on a local file system whose times are those of this kernel's clock, in full.
func keepsNanoseconds(file *os.File) bool {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(file.Fd()), &fs); err != nil {
		return false
	}
	switch int64(fs.Type) { //nolint:unconvert // an int32 on some systems
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC, unix.TMPFS_MAGIC:
		return true
	}
	return false
}
