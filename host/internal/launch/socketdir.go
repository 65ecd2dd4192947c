package launch

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/khelp/khelp/shared"
)

const (
	dirPrefix = "khelp-sock-"
	// maxSocketPath is what fits into sockaddr_un everywhere (104 bytes on the BSDs and darwin, with the NUL).
	maxSocketPath = 103
	// maxSocketName is the longest name that go-plugin's servers give their socket: "plugin" and ten digits.
	maxSocketName = len("/plugin") + 10
	// sweepAge protects a directory between its creation and its lock.
	sweepAge = time.Minute
)

// socketDir is the private directory in which one helper makes its socket. While the host lives it holds a lock on the directory, so
// that Sweep can tell what a killed host left behind.
type socketDir struct {
	path string
	lock *os.File // nil where directories cannot be locked
}

func newSocketDir(base string) (*socketDir, error) {
	path, err := os.MkdirTemp(base, dirPrefix) // 0700
	if err != nil {
		return nil, fail(ReasonConfig, wrapErrno(err, "cannot make the socket directory"))
	}
	if n := len(path) + maxSocketName; n > maxSocketPath {
		_ = os.Remove(path)
		return nil, failf(ReasonConfig, shared.ErrInvalid,
			"the runtime directory %s is too long by %d bytes for a Unix socket", filepath.Dir(path), n-maxSocketPath)
	}
	lock, err := lockDir(path)
	if err != nil {
		_ = os.Remove(path)
		return nil, fail(ReasonConfig, wrapErrno(err, "cannot lock the socket directory"))
	}
	return &socketDir{path: path, lock: lock}, nil
}

// remove deletes the directory with everything in it and gives up the lock.
func (d *socketDir) remove() {
	_ = os.RemoveAll(d.path)
	if d.lock != nil {
		_ = d.lock.Close()
	}
}

// Sweep removes the socket directories that hosts which were killed left in dir ("" is the system's directory for temporary files) and
// returns how many. Directories of living hosts are locked and stay. A host calls it once when it starts.
func Sweep(dir string) (int, error) {
	if dir == "" {
		dir = os.TempDir()
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, wrapErrno(err, "cannot sweep")
	}
	swept := 0
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil || !entry.IsDir() || !strings.HasPrefix(entry.Name(), dirPrefix) || time.Since(info.ModTime()) < sweepAge {
			continue
		}
		path := filepath.Join(dir, entry.Name())
		if !isSocketDir(path) {
			continue
		}
		lock, err := lockDir(path)
		if err != nil || lock == nil {
			continue
		}
		if os.RemoveAll(path) == nil {
			swept++
		}
		_ = lock.Close()
	}
	return swept, nil
}

// isSocketDir reports whether path is private and holds sockets only, so that a sweep cannot take somebody's files for its own.
func isSocketDir(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Perm() != 0o700 {
		return false
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return false
	}
	for _, entry := range entries {
		handshakeDir := entry.IsDir() && strings.HasPrefix(entry.Name(), handshakeDirPrefix)
		if entry.Type()&os.ModeSocket == 0 && !handshakeDir {
			return false
		}
	}
	return true
}
