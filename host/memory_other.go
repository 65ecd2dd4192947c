//go:build !linux

package host

import (
	"runtime"

	"github.com/khelp/khelp/shared"
)

// systemMemory cannot tell how much memory is left on this system: ErrUnsupported.
func systemMemory() (Memory, error) {
	return Memory{}, shared.ErrUnsupported.Errorf("how much memory is left cannot be told on %s", runtime.GOOS)
}
