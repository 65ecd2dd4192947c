package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// checkListen checks an address to listen on. The host may be left out for all addresses; port 0 is any free one.
func checkListen(addr string) error {
	_, _, err := splitAddress(addr)
	return err
}

// checkUpstream checks an address to connect to.
func checkUpstream(addr string) error {
	host, port, err := splitAddress(addr)
	switch {
	case err != nil:
		return err
	case host == "":
		return fmt.Errorf("%q has no host; did you mean \"127.0.0.1%s\"?", addr, addr)
	case port == 0:
		return fmt.Errorf("%q has port 0, to which nothing can connect", addr)
	}
	return nil
}

// splitAddress takes "host:port" apart and checks both. Ports are numbers, so that they mean the same on every machine.
func splitAddress(addr string) (host string, port int, err error) {
	const form = "an address is written \"host:port\", such as \"127.0.0.1:8080\" or \"[::1]:8080\""
	if ip, err := netip.ParseAddr(addr); err == nil {
		return "", 0, fmt.Errorf("%q has no port; did you mean %q?", addr, withPort(ip))
	}
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		if ae := (*net.AddrError)(nil); errors.As(err, &ae) {
			return "", 0, fmt.Errorf("%q: %s; %s", addr, ae.Err, form)
		}
		return "", 0, fmt.Errorf("%q: %w; %s", addr, err, form)
	}
	n, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("%q: the port must be a number from 0 to 65535, not %q", addr, service)
	}
	return host, int(n), checkHost(addr, host)
}

// withPort proposes a host:port for an IP address alone; "::1:8080" is one, but was not meant as one.
func withPort(ip netip.Addr) string {
	text := ip.String()
	if i := strings.LastIndexByte(text, ':'); i > 0 {
		port, err := strconv.ParseUint(text[i+1:], 10, 16)
		if host, errHost := netip.ParseAddr(text[:i]); err == nil && errHost == nil && port > 0 {
			return netip.AddrPortFrom(host, uint16(port)).String()
		}
	}
	return net.JoinHostPort(text, "8080")
}

// checkHost checks an IP address or a host name. The resolver has the last word on names, so only what cannot be one is refused.
func checkHost(addr, host string) error {
	if host == "" {
		return nil
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	if strings.Trim(host, "0123456789.") == "" {
		return fmt.Errorf("%q: %q is no IPv4 address, which has four numbers from 0 to 255", addr, host)
	}
	for _, c := range []byte(host) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && c != '-' && c != '.' && c != '_' {
			return fmt.Errorf("%q: %q is neither an IP address nor a host name", addr, host)
		}
	}
	return nil
}

// sameListener is equal for two addresses that cannot be listened on both: spellings of one address. Port 0 equals nothing.
func sameListener(addr string) (key string, comparable bool) {
	host, port, err := splitAddress(addr)
	if err != nil || port == 0 {
		return "", false
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		host = ip.Unmap().String()
		if ip.IsUnspecified() {
			host = ""
		}
	}
	return net.JoinHostPort(strings.ToLower(host), strconv.Itoa(port)), true
}
