package tcp_test

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/khelp/khelp/host/tcp"
	"github.com/khelp/khelp/shared/points/tcpv1"
)

// bareProxy is what the proxy is measured against: accept, dial, io.Copy both ways, which splices where it can.
func bareProxy(b *testing.B, upstream *net.TCPAddr) net.Addr {
	ln := listen(b)
	var wg sync.WaitGroup
	relay := func(c *net.TCPConn) {
		defer c.Close()
		u, err := net.DialTCP("tcp", nil, upstream)
		if err != nil {
			return
		}
		defer u.Close()
		var out sync.WaitGroup
		out.Go(func() {
			_, _ = io.Copy(c, u)
			_ = c.CloseWrite()
		})
		_, _ = io.Copy(u, c)
		_ = u.CloseWrite()
		out.Wait()
	}
	wg.Go(func() {
		for {
			c, err := ln.AcceptTCP()
			if err != nil {
				return
			}
			wg.Go(func() { relay(c) })
		}
	})
	b.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
	return ln.Addr()
}

// proxies runs a benchmark against the bare proxy and ours, without hooks and with one on every point.
func proxies(b *testing.B, handle func(*net.TCPConn), run func(b *testing.B, addr net.Addr)) {
	b.Run("bare", func(b *testing.B) {
		f := &fixture{testHost: &testHost{t: b}, upstream: listen(b)}
		f.serveUpstream(handle)
		run(b, bareProxy(b, resolve(b, f.upstream.Addr())))
	})
	for _, kind := range []string{"khelp", "khelp-hooked"} {
		b.Run(kind, func(b *testing.B) {
			f := newFixture(b, false, tcp.Options{}, handle)
			if kind == "khelp-hooked" {
				for _, p := range tcpv1.Points {
					f.attach(p, nil)
				}
			}
			run(b, f.proxy.Addr())
		})
	}
}

func connect(b *testing.B, addr net.Addr) *net.TCPConn {
	c, err := net.DialTCP("tcp", nil, resolve(b, addr))
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// Bulk: one connection, as many bytes as go through.
func BenchmarkBulk(b *testing.B) {
	const chunk = 256 << 10
	proxies(b, func(c *net.TCPConn) {
		_, _ = io.CopyBuffer(io.Discard, struct{ io.Reader }{c}, make([]byte, chunk))
		_, _ = c.Write([]byte{1})
	}, func(b *testing.B, addr net.Addr) {
		c := connect(b, addr)
		defer c.Close()
		buf := make([]byte, chunk)
		b.SetBytes(chunk)
		for b.Loop() {
			if _, err := c.Write(buf); err != nil {
				b.Fatal(err)
			}
		}
		_ = c.CloseWrite()
		if _, err := io.ReadFull(c, buf[:1]); err != nil {
			b.Fatal(err)
		}
	})
}

func reply(c *net.TCPConn) {
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
	}
}

// Request and response of 100 bytes, one after another on one connection.
func BenchmarkRequest(b *testing.B) {
	proxies(b, reply, func(b *testing.B, addr net.Addr) {
		c := connect(b, addr)
		defer c.Close()
		buf := make([]byte, 100)
		for b.Loop() {
			exchange(b, c, buf)
		}
	})
}

// The same on 64 connections at once.
func BenchmarkRequest64(b *testing.B) {
	proxies(b, reply, func(b *testing.B, addr net.Addr) {
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			c := connect(b, addr)
			defer c.Close()
			buf := make([]byte, 100)
			for pb.Next() {
				exchange(b, c, buf)
			}
		})
	})
}

// A connection made, used once and closed.
func BenchmarkConnect(b *testing.B) {
	proxies(b, reply, func(b *testing.B, addr net.Addr) {
		buf := make([]byte, 100)
		for b.Loop() {
			c := connect(b, addr)
			exchange(b, c, buf)
			c.Close()
		}
	})
}

func exchange(b *testing.B, c net.Conn, buf []byte) {
	if _, err := c.Write(buf); err != nil {
		b.Fatal(err)
	}
	if _, err := io.ReadFull(c, buf); err != nil {
		b.Fatal(err)
	}
}
