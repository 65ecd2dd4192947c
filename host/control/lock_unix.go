//go:build unix && !solaris && !illumos && !aix

package control

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/khelp/khelp/shared"
)

// errRefused is what connecting to a socket that nobody listens on ends with.
const errRefused = unix.ECONNREFUSED

// lockWait bounds the wait for another daemon that is just starting.
const lockWait = 5 * time.Second

// lockDir takes an exclusive lock on a directory. It ends with the process at the latest.
func lockDir(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, pathError("directory of the control socket", err)
	}
	for deadline := time.Now().Add(lockWait); ; {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return func() { _ = f.Close() }, nil
		case errors.Is(err, unix.EINTR):
		case !errors.Is(err, unix.EWOULDBLOCK):
			_ = f.Close()
			return nil, pathError("lock on "+dir, err)
		case time.Now().After(deadline):
			_ = f.Close()
			return nil, shared.ErrBusy.Errorf("control socket: another process has held the lock on %s for %v", dir, lockWait)
		default:
			time.Sleep(10 * time.Millisecond)
		}
	}
}
