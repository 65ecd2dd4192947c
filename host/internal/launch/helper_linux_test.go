package launch

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/khelp/khelp/shared/wire"
)

// helperMain is the helper side of the tests.
func helperMain(mode string, args []string) {
	switch mode {
	case "stock":
		serveStock(wire.Handshake)
	case "noisy": // lines before the handshake
		for i := range 16 {
			fmt.Printf("banner %d|of|the|interpreter\n", i)
		}
		serveStock(wire.Handshake)
	case "other-cookie":
		serveStock(plugin.HandshakeConfig{ProtocolVersion: 1, MagicCookieKey: "OTHER_PLUGIN", MagicCookieValue: "x"})
	case "version-9":
		serveStock(plugin.HandshakeConfig{
			ProtocolVersion: 9, MagicCookieKey: wire.Handshake.MagicCookieKey, MagicCookieValue: wire.Handshake.MagicCookieValue,
		})
	case "print": // print the arguments, one a line, and stay
		for _, line := range args {
			fmt.Println(line)
		}
		block()
	case "chatter": // too much that is no handshake
		for i := range 17 {
			fmt.Println("line", i)
		}
		block()
	case "close-stdout":
		_ = os.Stdout.Close()
		block()
	case "exit":
		fmt.Fprintln(os.Stderr, "cannot open /etc/nothing")
		fmt.Fprintln(os.Stderr, "giving up")
		os.Exit(3)
	case "abort":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		block()
	case "no-tls", "deaf", "dies", "not-tls":
		serveBadly(mode)
	case "foreign":
		serveForeign()
	case "hold":
		block()
	case "host":
		hostMain(args[0])
	}
}

func block() {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGUSR2)
	<-ch
}

// doPlugin adds one method that makes the helper do things.
type doPlugin struct{ plugin.NetRPCUnsupportedPlugin }

func (doPlugin) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("not used")
}

func (doPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: "launchtest.Do",
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Do", Handler: func(
			_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor,
		) (any, error) {
			var in wrapperspb.StringValue
			if err := decode(&in); err != nil {
				return nil, err
			}
			return wrapperspb.String(do(in.Value)), nil
		}}},
	}, struct{}{})
	return nil
}

// The pipes themselves: plugin.Serve points os.Stdout and os.Stderr elsewhere.
var realStdout, realStderr = os.Stdout, os.Stderr

func do(what string) string {
	verb, arg, _ := strings.Cut(what, " ")
	switch verb {
	case "env":
		return strings.Join(os.Environ(), "\x00")
	case "stdin":
		b, err := io.ReadAll(os.Stdin)
		target, _ := os.Readlink("/proc/self/fd/0")
		return fmt.Sprintf("%d bytes, %v, %s", len(b), err, target)
	case "stdout":
		fmt.Fprintln(realStdout, arg)
	case "stderr":
		fmt.Fprintln(realStderr, arg)
	case "println": // goes into go-plugin's stream
		fmt.Println(arg)
	case "flood":
		for i := range 4000 {
			fmt.Println(strings.Repeat("x", 100), i)
		}
	case "long":
		fmt.Fprintln(realStderr, strings.Repeat("a", 70_000))
	case "hclog":
		hclog.New(&hclog.LoggerOptions{Name: "inner", JSONFormat: true, Output: realStderr, Level: hclog.Trace}).
			Warn("disk is full", "free", 7, "path", "/var")
	case "panic":
		go panic("boom: " + arg)
		block()
	case "ignore-term":
		signal.Ignore(syscall.SIGTERM)
	case "grandchild", "grandchild-away":
		argv := helperCommand("hold")
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Stdout, cmd.Stderr = realStdout, realStderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: verb == "grandchild-away"}
		if err := cmd.Start(); err != nil {
			return err.Error()
		}
		return fmt.Sprint(cmd.Process.Pid)
	}
	return "done"
}

func serveStock(handshake plugin.HandshakeConfig) {
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: handshake,
		Plugins:         plugin.PluginSet{"do": doPlugin{}},
		GRPCServer:      plugin.DefaultGRPCServer,
	})
}

// serveForeign is a helper without go-plugin: a gRPC server that knows the handshake and nothing else.
func serveForeign() {
	config, _, err := newIdentity()
	if err != nil {
		panic(err)
	}
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM([]byte(os.Getenv(wire.EnvClientCert))) {
		panic("no client certificate")
	}
	config.ClientCAs, config.ClientAuth, config.MinVersion = clients, tls.RequireAndVerifyClientCert, tls.VersionTLS13
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(config)))
	status := health.NewServer()
	status.SetServingStatus(wire.ServiceName, grpc_health_v1.HealthCheckResponse_SERVING)
	grpc_health_v1.RegisterHealthServer(server, status)
	cert := base64.RawStdEncoding.EncodeToString(config.Certificates[0].Certificate[0])
	fmt.Printf("1|1|tcp|%s|grpc|%s\n", listener.Addr(), cert)
	_ = server.Serve(listener)
}

// serveBadly gives a good handshake and then is no good.
func serveBadly(mode string) {
	path := filepath.Join(os.Getenv(wire.EnvSocketDir), "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		panic(err)
	}
	config, _, err := newIdentity()
	if err != nil {
		panic(err)
	}
	cert := base64.RawStdEncoding.EncodeToString(config.Certificates[0].Certificate[0])
	if mode == "no-tls" {
		cert = ""
	}
	fmt.Printf("1|1|unix|%s|grpc|%s\n", path, cert)
	switch mode {
	case "dies":
		fmt.Fprintln(os.Stderr, "out of cheese")
		os.Exit(4)
	case "not-tls": // promised, and answers in another protocol
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = io.WriteString(conn, "220 this is mail\r\n")
			_ = conn.Close()
		}
	}
	block()
}

// hostMain is a host that starts one helper, with its socket below dir, says which, and waits to be killed.
func hostMain(dir string) {
	p, err := Start(context.Background(), Config{Name: "h", Command: helperCommand("stock"), RuntimeDir: dir})
	if err != nil {
		fmt.Println("error:", err)
		return
	}
	fmt.Println(p.PID())
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	block()
}
