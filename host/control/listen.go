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

// maxTries bounds the tries to use a directory that others remove as they end.
const maxTries = 100

// Listen listens on a Unix socket at path, mode 0600. A socket there that nobody listens on any more is replaced. One that is alive is
// ErrBusy and the message names it; anything else there is ErrExist and is left alone. Two daemons that start at once cannot both get
// the path.
//
// If the directory is missing it is made (0755); that its parent is missing too is ErrNotExist and the message names what there is.
//
// The caller owns the listener; closing it removes the socket, and the directory if Listen made it and nothing else is in it.
func Listen(path string) (net.Listener, error) { return ListenMode(path, Private) }

// The modes of a control socket.
const (
	Private fs.FileMode = 0o600 // for root and the user that the daemon runs as
	Public  fs.FileMode = 0o666 // for all; who may do what is for an Authorizer such as Allow's
)

// ListenMode is Listen with the mode of the socket. On a system whose sockets do not say who calls, any but Private is ErrUnsupported:
// nothing else protects the daemon there.
func ListenMode(path string, mode fs.FileMode) (net.Listener, error) {
	if err := checkMode(mode); err != nil {
		return nil, err
	}
	if path == "" {
		return nil, shared.ErrInvalid.Errorf("the control socket has no path")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	dir := filepath.Dir(path)
	for try := 1; ; try++ {
		made, err := makeDir(dir)
		if err != nil {
			return nil, err
		}
		lis, err := bind(path, dir, mode)
		if err == nil {
			lis.made = made
			return lis, nil
		}
		removeDir(dir, made)
		// Another daemon that ended may have removed its directory just before we used it.
		if !errors.Is(err, fs.ErrNotExist) || try == maxTries {
			return nil, err
		}
	}
}

func checkMode(mode fs.FileMode) error {
	if mode != Private && !systemHasPeers {
		return shared.ErrUnsupported.Errorf("a control socket with mode %#o: on this system sockets do not say who calls", mode)
	}
	return nil
}

// SetMode changes the mode of a socket that Listen or ListenMode has made, while it is served. One whose path another has taken is
// ErrNotExist and is left alone.
func SetMode(lis net.Listener, mode fs.FileMode) error {
	own, ok := lis.(*listener)
	if !ok {
		return shared.ErrInvalid.Errorf("the mode of %v cannot be changed: it is not Listen's", lis.Addr())
	}
	if err := checkMode(mode); err != nil {
		return err
	}
	if info, err := os.Lstat(own.path); err != nil || !os.SameFile(info, own.file) {
		return shared.ErrNotExist.Errorf("the control socket is no longer at %s", own.path)
	}
	if err := os.Chmod(own.path, mode); err != nil {
		return pathError("control socket", err)
	}
	return nil
}

// makeDir makes the last directory of a path if it is missing. It returns the directory if it made it, and else nil.
func makeDir(dir string) (os.FileInfo, error) {
	const what = "directory of the control socket"
	err := os.Mkdir(dir, 0o755)
	switch {
	case err == nil:
		made, err := os.Lstat(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // gone already: another took it for its own
			return nil, pathError(what, err)
		}
		return made, nil
	case errors.Is(err, fs.ErrNotExist):
		there := filepath.Dir(dir)
		for !exists(there) && filepath.Dir(there) != there {
			there = filepath.Dir(there)
		}
		return nil, shared.ErrNotExist.Errorf("%s: %s cannot be made: of its parents only %s exists", what, dir, there)
	case errors.Is(err, fs.ErrExist), exists(dir):
		return nil, nil
	default:
		return nil, pathError(what, err)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// removeDir removes a directory that makeDir made, unless there is something in it or another in its place.
func removeDir(dir string, made os.FileInfo) {
	if made == nil {
		return
	}
	if now, err := os.Lstat(dir); err == nil && os.SameFile(now, made) {
		_ = os.Remove(dir)
	}
}

// bind makes the socket in a directory that exists.
func bind(path, dir string, mode fs.FileMode) (*listener, error) {
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
	if err := os.Chmod(path, mode); err != nil {
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

// listener removes its socket when it is closed, unless another has taken the path since, and the directory if that was made for it.
type listener struct {
	*net.UnixListener
	path string
	file os.FileInfo
	made os.FileInfo // the directory; nil: it was there
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
		removeDir(filepath.Dir(l.path), l.made)
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
