package main

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	sdnotify "github.com/coreos/go-systemd/v22/daemon"
	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/khelp/khelp/config"
	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/control"
	"github.com/khelp/khelp/shared"
)

// How long an orderly end may take, part by part; then what is left is cut.
const (
	drainLimit   = 5 * time.Second  // connections
	controlLimit = 2 * time.Second  // calls on the control socket
	hostLimit    = 30 * time.Second // helpers, over the limits the host has for each
)

func (a *app) runCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "run -c PATH",
		Short: "Run the daemon",
		Long: `Run the daemon in the foreground, with its log on stderr.

SIGTERM and SIGINT end it: it stops accepting, lets connections come to their end for 5s and helpers finish; another one cuts everything
at once. SIGHUP has it read its configuration again, as khelpd reload does, unless it was started to ignore that, as by nohup. It goes on
without a log when nobody reads that any more.

It tells a service manager when it is ready and when it reloads (NOTIFY_SOCKET), and takes listening sockets from it (LISTEN_FDS), by the
name of the tcp block or by the address.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if path == "" {
				return missingConfig(cmd)
			}
			outlivePipes()
			if err := keepDescriptors(); err != nil {
				return failed("run", err)
			}
			cfg, diags := config.Load(path)
			_ = a.diagnose(cfg.Files, diags) // if nobody reads that, the exit code still tells
			if diags.HasErrors() {
				return failed("run", badConfig(diags))
			}
			d := newServer(a, path, cfg)
			if err := d.run(cmd.Context()); err != nil {
				return failed("run", err)
			}
			return nil
		},
	}
	configFlag(cmd, &path)
	return cmd
}

func (a *app) logger(k config.Khelpd) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{
		Name:       "khelpd",
		Level:      hclog.LevelFromString(k.LogLevel),
		JSONFormat: k.LogFormat == "json",
		Output:     a.stderr,
	})
}

// server is one running daemon. Its fields are set while it starts, by one goroutine, and not changed after that.
type server struct {
	app   *app
	path  string         // of the configuration
	began *config.Config // what it was when the daemon started
	log   hclog.Logger
	life  context.Context // ends when the daemon is asked to

	cfg     atomic.Pointer[config.Config]      // what was read last
	inForce atomic.Pointer[map[string]string]  // settings by name, without those that could not be brought in line with cfg
	access  atomic.Pointer[control.Authorizer] // of cfg

	lis     net.Listener // of the control socket; owned by control once that is there
	host    *host.Host
	control *control.Server
	proxies *proxies

	serving sync.WaitGroup // the goroutine that serves control
	fatal   chan error     // what a part that ought to serve ended with
	booted  atomic.Bool    // the helpers of the configuration are there
	turn    chan struct{}  // held by whoever reloads
}

func newServer(a *app, path string, cfg *config.Config) *server {
	d := &server{
		app: a, path: path, began: cfg, log: a.logger(cfg.Khelpd), fatal: make(chan error, 1), turn: make(chan struct{}, 1),
	}
	d.cfg.Store(cfg)
	inForce := settingsOf(cfg)
	d.inForce.Store(&inForce)
	return d
}

// run starts everything, waits for a signal or the end of ctx, and ends everything. It returns nil for an orderly end, also when the
// signal came while it was starting.
func (d *server) run(ctx context.Context) error {
	sig := watchSignals(ctx)
	defer sig.done()
	d.life = sig.drain
	err := d.start(sig.drain)
	if err == nil {
		d.log.Info("ready", "control_socket", d.lis.Addr().String(), "helpers", d.loaded(ctx), "tcp", len(d.began.TCP))
		notifyReady(d.log)
		err = d.serve(sig)
		notify(d.log, sdnotify.SdNotifyStopping)
	} else if sig.drain.Err() != nil {
		// Asked to end while it was starting: what broke off for that is no failure.
		d.log.Info("stopped while starting", "error", err)
		err = nil
	}
	d.stop(sig.cut)
	return err
}

// serve waits for the end, and reloads when it is asked to by a signal.
func (d *server) serve(sig stopping) error {
	for {
		select {
		case <-sig.drain.Done():
			d.log.Info("stopping")
			return nil
		case err := <-d.fatal:
			d.log.Error("stopping after an error", "error", err)
			return err
		case <-sig.reload:
			_, _ = d.reload(sig.drain) // it has logged what was done, and what was not
		}
	}
}

// loaded counts the helpers that are there.
func (d *server) loaded(ctx context.Context) int {
	st, err := d.host.Stat(ctx, "")
	if err != nil { // it fails for one helper only
		return 0
	}
	n := 0
	for i := range st.Helpers {
		if st.Helpers[i].State == shared.StateActive {
			n++
		}
	}
	return n
}

// start brings the parts up in an order in which each failure leaves nothing behind that others have seen: the control socket, which
// only one daemon can have; the listening ports; the helpers. Connections are served last.
func (d *server) start(ctx context.Context) error {
	authorize, mode := accessOf(d.began)
	d.access.Store(&authorize)
	var err error
	if d.lis, err = control.ListenMode(d.socketPath(), mode); err != nil {
		if errors.Is(err, shared.ErrNotExist) || errors.Is(err, shared.ErrInvalid) || errors.Is(err, shared.ErrUnsupported) {
			return &configError{err} // a path that cannot be, or access where nobody is known
		}
		return err
	}
	if d.host, err = newHost(d.began, d.log); err != nil {
		return err
	}
	if diags := check(d.began, d.host); len(diags) > 0 {
		_ = d.app.diagnose(d.began.Files, diags) // if nobody reads that, the exit code still tells
		if diags.HasErrors() {
			return badConfig(diags)
		}
	}
	if d.proxies, err = listenProxies(ctx, d.host, d.began.TCP, d.log, d.failed); err != nil {
		return err
	}
	d.control = control.NewServer(d.host, control.Options{
		Logger: d.log.Named("control"), Spec: d.spec, Configured: d.configured, Authorize: d.authorize, Plan: d.plan, Reload: d.reload,
	})
	d.serving.Go(func() { d.failed(d.control.Serve(d.lis)) }) // ends with control.Shutdown
	if err := d.boot(ctx, d.began); err != nil {
		return err
	}
	d.booted.Store(true)
	d.proxies.serve()
	return nil
}

// accessOf returns who may do what by a configuration, and the mode of the control socket that goes with it.
func accessOf(cfg *config.Config) (control.Authorizer, fs.FileMode) {
	if cfg.Access == nil {
		return control.OwnerOnly, control.Private
	}
	return control.Allow(cfg.Access.Rules), control.Public
}

// whileStarting are the privileges that wait for nothing.
var whileStarting = []shared.Privilege{shared.PrivilegeStat, shared.PrivilegeEvents, shared.PrivilegeLogs}

// authorize lets in whom the configuration lets in, but lets nobody change anything while the configured helpers are being loaded.
func (d *server) authorize(ctx context.Context, p control.Peer, privilege shared.Privilege) error {
	if err := (*d.access.Load())(ctx, p, privilege); err != nil {
		return err
	}
	if !d.booted.Load() && !slices.Contains(whileStarting, privilege) {
		return shared.ErrBusy.Errorf("the daemon is still starting")
	}
	return nil
}

// failed takes what a part ended with; the first error ends the daemon.
func (d *server) failed(err error) {
	if err == nil {
		return
	}
	select {
	case d.fatal <- err:
	default:
	}
}

// socketPath returns the control socket to listen on: of --socket, else of the configuration, and where that says nothing, of the
// environment, so that the other commands find it.
func (d *server) socketPath() string {
	if d.app.socket != "" {
		return d.app.socket
	}
	if d.began.Khelpd.ControlSocket == config.DefaultControlSocket {
		return cmp.Or(os.Getenv(socketEnv), config.DefaultControlSocket)
	}
	return d.began.Khelpd.ControlSocket
}

// spec finds what the configuration says of a helper.
func (d *server) spec(name string) (shared.HelperSpec, bool) {
	if h := d.cfg.Load().Helper(name); h != nil {
		return h.Spec, true
	}
	return shared.HelperSpec{}, false
}

// configured lists the names that spec finds, and the builtins, which can be loaded too.
func (d *server) configured() []string {
	var names []string
	for _, spec := range specsOf(d.cfg.Load()) {
		names = append(names, spec.Name)
	}
	for _, name := range builtinNames {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// stop ends whatever start brought up. When cut ends it stops waiting and cuts. An end that has to be forced is an end all the same;
// the log says what did not go in order.
func (d *server) stop(cut context.Context) {
	var errs []error
	if d.proxies != nil {
		errs = append(errs, within(cut, drainLimit, d.proxies.drain))
	}
	// Nobody loads anything from here on, so the host ends with the helpers it has.
	switch {
	case d.control != nil:
		if err := within(cut, controlLimit, d.control.Shutdown); err != nil {
			d.log.Warn("calls on the control socket were cut", "error", err)
		}
		d.serving.Wait()
	case d.lis != nil:
		errs = append(errs, d.lis.Close())
	}
	if d.proxies != nil {
		errs = append(errs, within(cut, drainLimit, d.proxies.close))
	}
	if d.host != nil {
		errs = append(errs, within(cut, hostLimit, d.host.Shutdown))
	}
	if err := errors.Join(errs...); err != nil {
		d.log.Warn("the end was not in order", "error", err)
	}
}

// within calls f with a context that ends after limit or with cut.
func within(cut context.Context, limit time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(cut, limit)
	defer cancel()
	return f(ctx)
}
