package tcp_test

import (
	"context"
	"fmt"
	"io"
	"net"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/tcp"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/points/tcpv1"
)

var (
	_ tcp.Registrar = (*host.Host)(nil)
	_ tcp.Registrar = (*host.Vnet)(nil)
)

// A proxy in front of an echo server, with a helper that is part of the program.
func Example() {
	ctx := context.Background()
	h, err := host.New(host.Config{})
	must(err)
	defer h.Close()
	sub, err := tcp.New(h, tcp.Options{})
	must(err)
	closed := make(chan string, 1)
	err = h.AddBuiltin(host.Builtin{
		Name: "greeter", Version: "1.0.0", Classes: []shared.Class{tcpv1.ClassTCP},
		Hooks: map[shared.HookPoint]host.BuiltinHook{
			tcpv1.Close: func(_ context.Context, c *host.BuiltinCall) error {
				var seg tcpv1.Segment
				if err := seg.Decode(c.Context); err != nil {
					return err
				}
				closed <- fmt.Sprint(seg.BytesIn, " bytes in and ", seg.BytesOut, " out")
				return nil
			},
		},
	})
	must(err)

	server := echoServer()
	defer server.Close()
	proxy, err := sub.Listen(ctx, tcp.ProxyOptions{Name: "web", Listen: "127.0.0.1:0", Upstream: server.Addr().String()})
	must(err)
	served := make(chan error)
	go func() { served <- proxy.Serve(ctx) }()

	client, err := net.DialTCP("tcp", nil, proxy.Addr().(*net.TCPAddr))
	must(err)
	fmt.Fprint(client, "hello")
	_ = client.CloseWrite()
	answer, err := io.ReadAll(client)
	must(err)
	client.Close()
	fmt.Printf("answered %q, closed after %s\n", answer, <-closed)

	// Shutdown waits for the connection to run out; then the points may go.
	fmt.Println(proxy.Shutdown(ctx), <-served, sub.Close(ctx))
	// Output:
	// answered "hello", closed after 5 bytes in and 5 out
	// <nil> <nil> <nil>
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func echoServer() net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.Copy(struct{ io.Writer }{c}, c)
	}()
	return ln
}
