package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/hashicorp/go-hclog"
)

// inherited holds the listening sockets that the service manager passed in (LISTEN_FDS). It owns those that nobody took.
type inherited struct {
	sockets []inheritedSocket
}

type inheritedSocket struct {
	name string // FileDescriptorName= of the unit
	lis  net.Listener
}

// inheritedListeners takes over what LISTEN_FDS names. A descriptor that is no listening stream socket is an error.
func inheritedListeners() (*inherited, error) {
	in := &inherited{}
	var errs []error
	for _, f := range activation.Files(true) {
		lis, err := net.FileListener(f) // a copy
		if err != nil {
			errs = append(errs, fmt.Errorf("LISTEN_FDS: descriptor %d, %q: %w", f.Fd(), f.Name(), err))
		} else {
			in.sockets = append(in.sockets, inheritedSocket{f.Name(), lis})
		}
		errs = append(errs, f.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return nil, errors.Join(err, in.close(nil))
	}
	return in, nil
}

// take returns the socket meant for a tcp block, by its name or else by its address, or nil. The caller owns it.
func (in *inherited) take(name, address string) net.Listener {
	for _, match := range []func(inheritedSocket) bool{
		func(s inheritedSocket) bool { return s.name == name },
		func(s inheritedSocket) bool { return sameAddress(s.lis.Addr(), address) },
	} {
		for i, s := range in.sockets {
			if s.lis != nil && s.lis.Addr().Network() == "tcp" && match(s) {
				in.sockets[i].lis = nil
				return s.lis
			}
		}
	}
	return nil
}

// close closes what was not taken and says so.
func (in *inherited) close(log hclog.Logger) error {
	var errs []error
	for i, s := range in.sockets {
		if s.lis == nil {
			continue
		}
		if log != nil {
			log.Warn("socket passed in by the service manager fits no tcp block", "name", s.name, "address", s.lis.Addr().String())
		}
		errs = append(errs, s.lis.Close())
		in.sockets[i].lis = nil
	}
	return errors.Join(errs...)
}

// sameAddress compares without looking up names: ":80", "0.0.0.0:80" and "[::]:80" are the same.
func sameAddress(addr net.Addr, text string) bool {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return false
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return false
	}
	number, err := net.LookupPort("tcp", port)
	if err != nil || number != tcp.Port {
		return false
	}
	if host == "" {
		return len(tcp.IP) == 0 || tcp.IP.IsUnspecified()
	}
	want, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	have := tcp.AddrPort().Addr().Unmap()
	return have == want.Unmap() || have.IsUnspecified() && want.IsUnspecified()
}

// notifyLimit bounds the wait for a service manager that does not read what it is told.
const notifyLimit = time.Second

// notify tells the service manager, if it asked to be told (NOTIFY_SOCKET).
func notify(log hclog.Logger, state string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	if err := tell(path, state, notifyLimit); err != nil {
		log.Warn("service manager could not be told", "state", state, "error", err)
	}
}

// tell is sd_notify(3), but does not wait for ever.
func tell(path, state string, limit time.Duration) error {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	_, err = conn.Write([]byte(state))
	return err
}

// notifyReloading tells the service manager that the configuration is being read again (Type=notify-reload).
func notifyReloading(log hclog.Logger) {
	notify(log, daemon.SdNotifyReloading+"\nMONOTONIC_USEC="+strconv.FormatInt(monotonicMicros(), 10))
}

// notifyReady tells the service manager that the daemon serves, for the first time or again.
func notifyReady(log hclog.Logger) { notify(log, daemon.SdNotifyReady) }
