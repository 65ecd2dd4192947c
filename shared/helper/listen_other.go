//go:build !unix

package helper

import (
	"cmp"
	"net"
	"os"
	"strconv"

	"github.com/khelp/khelp/shared"
)

// listen takes a port of the range the host names, on the loopback address.
func listen() (net.Listener, error) {
	low, err := strconv.Atoi(cmp.Or(os.Getenv("PLUGIN_MIN_PORT"), "0"))
	if err != nil {
		return nil, shared.ErrInvalid.Errorf("PLUGIN_MIN_PORT: %w", err)
	}
	high, err := strconv.Atoi(cmp.Or(os.Getenv("PLUGIN_MAX_PORT"), strconv.Itoa(low)))
	if err != nil {
		return nil, shared.ErrInvalid.Errorf("PLUGIN_MAX_PORT: %w", err)
	}
	for port := low; port <= high; port++ {
		lis, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return lis, nil
		}
	}
	return nil, shared.ErrBusy.Errorf("no port from %d to %d is free", low, high)
}
