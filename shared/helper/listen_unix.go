//go:build unix

package helper

import (
	"fmt"
	"net"
	"os"
	"syscall"

	"github.com/khelp/khelp/shared/wire"
)

// listen makes the helper's socket in the directory the host names, open to its own user only.
func listen() (net.Listener, error) {
	placeholder, err := os.CreateTemp(os.Getenv(wire.EnvSocketDir), "khelp-")
	if err != nil {
		return nil, fmt.Errorf("no place for a socket: %w", err)
	}
	path := placeholder.Name()
	placeholder.Close()
	if err := os.Remove(path); err != nil {
		return nil, err
	}
	// The mask is the process's, and nothing else runs in it yet that makes files.
	old := syscall.Umask(0o177)
	defer syscall.Umask(old)
	return net.Listen("unix", path)
}
