package launch

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"

	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// maxNoise is how many lines a helper may print before its handshake: banners of interpreters and libraries.
const maxNoise = 16

// handshakeDirPrefix begins the name of the directory that go-plugin makes, empty, inside ours.
const handshakeDirPrefix = "plugin-dir"

// handshake starts the process and lets go-plugin read its handshake. It returns the address and the TLS configuration that trusts this
// one helper.
func (a *attempt) handshake(ctx context.Context) (net.Addr, *tls.Config, error) {
	tlsConfig, certPEM, err := newIdentity()
	if err != nil {
		return nil, nil, fail(ReasonExec, err)
	}
	r := &runnerAdapter{ctx: ctx, attempt: a, certPEM: certPEM, released: make(chan struct{})}
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  wire.Handshake,
		VersionedPlugins: map[int]plugin.PluginSet{wire.ProtocolVersion: {}},
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		RunnerFunc:       r.init,
		TLSConfig:        tlsConfig,
		SkipHostEnv:      true,
		UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: a.dir.path},
		StartTimeout:     a.cfg.StartTimeout + closedWait, // a backstop: ctx ends first
		Logger:           hclog.NewNullLogger(),
		// Kill is how one waits for a client's goroutines, but it dials first. These options cannot dial.
		GRPCDialOptions: []grpc.DialOption{grpc.WithTransportCredentials(nil)},
	})
	addr, err := client.Start()
	close(r.released)
	client.Kill()
	if err != nil {
		return nil, nil, r.explain(err)
	}
	if tlsConfig.RootCAs == nil {
		return nil, nil, a.fail(ReasonNoTLS, shared.ErrIncompatible.Errorf(
			"%s answered without a server certificate: khelp talks to helpers over mutual TLS only (go-plugin's AutoMTLS)", a.img.path))
	}
	return addr, tlsConfig, nil
}

// fail makes an error that carries the output of the helper so far.
func (a *attempt) fail(reason Reason, err error) *Error {
	e := fail(reason, err)
	if a.child != nil {
		e.Tail = a.child.tail.lines()
	}
	return e
}

// runnerAdapter is the go-plugin Runner through which a handshake is read. It lives until the handshake is over; the process outlives it.
type runnerAdapter struct {
	ctx      context.Context // that of Start: go-plugin's own cannot be canceled
	attempt  *attempt
	certPEM  string
	env      []string
	released chan struct{} // closed when go-plugin is done
	line     string        // what was handed to go-plugin
	cause    error         // why there was nothing to hand over
}

var _ runner.Runner = (*runnerAdapter)(nil)

func (r *runnerAdapter) init(_ hclog.Logger, spec *exec.Cmd, _ string) (runner.Runner, error) {
	r.env = append(Environment(r.attempt.cfg.Env), spec.Env...) // the last of two wins
	r.env = append(r.env, wire.EnvClientCert+"="+r.certPEM, wire.EnvSocketDir+"="+r.attempt.dir.path)
	return r, nil
}

// Start runs the process.
func (r *runnerAdapter) Start(context.Context) error {
	a := r.attempt
	c, err := startChild(r.ctx, a.cfg.Command, r.env, a.log)
	if err != nil {
		if r.ctx.Err() != nil {
			r.cause = interrupted(r.ctx, a.cfg.StartTimeout, "running "+a.img.path, err)
		} else {
			r.cause = diagnose(a.img.path, err)
		}
		return r.cause
	}
	a.child = c
	return nil
}

// Stdout is the handshake line and nothing else, once it has come.
func (r *runnerAdapter) Stdout() io.ReadCloser { return io.NopCloser(&handshakeReader{wait: r.await}) }

// Stderr is empty: the child reads it.
func (r *runnerAdapter) Stderr() io.ReadCloser { return io.NopCloser(strings.NewReader("")) }

// await returns the handshake line, or "" with r.cause set.
func (r *runnerAdapter) await() string {
	a := r.attempt
	select {
	case r.line = <-a.child.handshake:
	case <-a.child.noHandshake:
		r.cause = r.explainSilence()
	case <-r.ctx.Done():
		r.cause = r.interrupted("waiting for the handshake of " + a.img.path)
	}
	return r.line
}

func (r *runnerAdapter) interrupted(doing string) error {
	e := interrupted(r.ctx, r.attempt.cfg.StartTimeout, doing, r.ctx.Err())
	return r.attempt.fail(e.Reason, e.err)
}

// explainSilence says why the end of stdout, or too much on it, came before a handshake.
func (r *runnerAdapter) explainSilence() error {
	a := r.attempt
	if a.child.noise() > maxNoise {
		return a.fail(ReasonNotHelper, shared.ErrNoExec.Errorf("%s is not a helper: it printed more than %d lines and no go-plugin handshake",
			a.img.path, maxNoise))
	}
	timer := time.NewTimer(closedWait)
	defer timer.Stop()
	select {
	case <-a.child.drained: // with its last words on stderr
	case <-timer.C:
		return a.fail(ReasonNotHelper, shared.ErrNoExec.Errorf("%s is not a helper: it closed its standard output without a go-plugin handshake",
			a.img.path))
	case <-r.ctx.Done():
		return r.interrupted("waiting for the end of " + a.img.path)
	}
	return a.exited("before its handshake")
}

// exited explains an exit that came too early. The child is drained.
func (a *attempt) exited(when string) *Error {
	exit := a.child.exitError()
	if exit.Code == 0 {
		return a.fail(ReasonNotHelper, shared.ErrNoExec.Errorf("%s is not a helper: it %w %s", a.img.path, exit, when))
	}
	return a.fail(ReasonExited, shared.ErrHelperGone.Errorf("%s %w %s", a.img.path, exit, when))
}

// explain turns go-plugin's refusal, which is text, into an error with a reason.
func (r *runnerAdapter) explain(err error) error {
	if r.cause != nil {
		return r.cause
	}
	a := r.attempt
	fields := strings.Split(strings.TrimSpace(r.line), "|")
	if len(fields) < 4 {
		return a.fail(ReasonExec, wrapErrno(err, "handshake with %s", a.img.path))
	}
	switch {
	case fields[0] != strconv.Itoa(plugin.CoreProtocolVersion):
		return a.fail(ReasonProtocol, shared.ErrIncompatible.Errorf("%s speaks go-plugin core protocol %q, this host speaks %d",
			a.img.path, fields[0], plugin.CoreProtocolVersion))
	case fields[1] != strconv.Itoa(wire.ProtocolVersion):
		return a.fail(ReasonProtocol, shared.ErrIncompatible.Errorf("%s speaks khelp protocol version %q, this host speaks %d",
			a.img.path, fields[1], wire.ProtocolVersion))
	case len(fields) < 5 || fields[4] != string(plugin.ProtocolGRPC):
		transport := string(plugin.ProtocolNetRPC)
		if len(fields) >= 5 {
			transport = fields[4]
		}
		return a.fail(ReasonProtocol, shared.ErrIncompatible.Errorf("%s offers the transport %q, this host speaks grpc only", a.img.path, transport))
	}
	return a.fail(ReasonNotHelper, shared.ErrNoExec.Errorf("%s gave a bad handshake: %w", a.img.path, err))
}

// Wait ends with the handshake: what go-plugin believes of the process afterwards is of no interest.
func (r *runnerAdapter) Wait(context.Context) error {
	<-r.released
	return nil
}

// Kill is called by go-plugin for a refused handshake and by handshake itself to wait for go-plugin's goroutines; whether the process
// ends is for Start to decide.
func (r *runnerAdapter) Kill(context.Context) error { return nil }

func (r *runnerAdapter) Diagnose(context.Context) string { return "" }
func (r *runnerAdapter) Name() string                    { return r.attempt.cfg.Name }

func (r *runnerAdapter) ID() string {
	if r.attempt.child == nil {
		return ""
	}
	return strconv.Itoa(r.attempt.child.pid)
}

// PluginToHost refuses addresses on other machines: a helper is a process of this one.
func (r *runnerAdapter) PluginToHost(network, address string) (string, string, error) {
	if network == "tcp" {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return "", "", err
		}
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return "", "", errors.New("address " + address + " is not on this machine")
		}
	}
	return network, address, nil
}

// HostToPlugin is not used: there is no broker.
func (r *runnerAdapter) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}

// looksLikeHandshake tells a handshake line, valid or not, from other output: four fields or more, the first a number.
func looksLikeHandshake(line string) bool {
	first, rest, _ := strings.Cut(strings.TrimSpace(line), "|")
	if _, err := strconv.Atoi(first); err != nil {
		return false
	}
	return strings.Count(rest, "|") >= 2
}

// handshakeReader is a reader of one line that is waited for at the first Read.
type handshakeReader struct {
	wait func() string
	rest *strings.Reader
}

func (h *handshakeReader) Read(p []byte) (int, error) {
	if h.rest == nil {
		line := h.wait()
		if line != "" {
			line += "\n"
		}
		h.rest = strings.NewReader(line)
	}
	return h.rest.Read(p)
}
