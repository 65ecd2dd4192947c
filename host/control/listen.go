package control

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/khelp/khelp/shared"
)

// probeTimeout bounds the question whether somebody listens on a socket that is already there.
const probeTimeout = 2 * time.Second

// Listen listens on a Unix socket at path, mode 0600, and makes the directory (0755) if it is missing. A socket there that nobody
// listens on any more is replaced. One that is alive is ErrBusy and the message names it; anything else there is ErrExist and is left
// alone. Two daemons that start at once cannot both get the path.
//
// The caller owns the listener; closing it removes the socket.
func Listen(path string) (net.Listener, error) {
	if path == "" {
		return nil, shared.ErrInvalid.Errorf("the control socket has no path")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, pathError("directory of the control socket", err)
	}
	// The lock orders daemons that look for a live socket, remove a dead one and bind; it is not needed after that.
	unlock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := removeStale(path); err != nil {
		return nil, err
	}
	lis, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, pathError("control socket "+path, err)
	}
	lis.SetUnlinkOnClose(false)
	own := &listener{UnixListener: lis, path: path}
	// Whoever connected before the mode was set is still judged by its credentials.
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(pathError("control socket", err), own.Close())
	}
	if own.file, err = os.Lstat(path); err != nil {
		return nil, errors.Join(pathError("control socket", err), lis.Close())
	}
	return own, nil
}

// removeStale removes a socket at path that nobody listens on.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return pathError("control socket", err)
	case info.Mode().Type() != fs.ModeSocket:
		return shared.ErrExist.Errorf("control socket %s: there is something else at that path (%s)", path, info.Mode())
	}
	conn, err := net.DialTimeout("unix", path, probeTimeout)
	if err == nil {
		_ = conn.Close()
	}
	// Only a refusal shows that nobody listens: a full backlog, say, is somebody busy.
	if !refused(err) {
		return shared.ErrBusy.Errorf("control socket %s: another daemon listens there", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return pathError("stale control socket", err)
	}
	return nil
}

func refused(err error) bool { return err != nil && errors.Is(err, errRefused) }

// listener removes its socket when it is closed, unless another has taken the path since.
type listener struct {
	*net.UnixListener
	path string
	file os.FileInfo
	once sync.Once
	err  error
}

// Close stops listening and removes the socket. It is idempotent.
func (l *listener) Close() error {
	l.once.Do(func() {
		if info, err := os.Lstat(l.path); err == nil && (l.file == nil || os.SameFile(info, l.file)) {
			if err := os.Remove(l.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				l.err = err
			}
		}
		l.err = errors.Join(l.UnixListener.Close(), l.err)
	})
	return l.err
}

// pathError gives an error of the file system the sentinel that it stands for.
func pathError(what string, err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return shared.ErrPermission.Errorf("%s: %w", what, err)
	case errors.Is(err, fs.ErrNotExist):
		return shared.ErrNotExist.Errorf("%s: %w", what, err)
	case errors.Is(err, syscall.EINVAL):
		// What bind(2) says of a path that does not fit into sun_path.
		return shared.ErrInvalid.Errorf("%s: %w (is the path too long?)", what, err)
	default:
		return fmt.Errorf("%s: %w", what, err)
	}
}
