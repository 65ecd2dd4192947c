// Package launch starts one helper process and gives its owner a connection to it.
//
// HashiCorp go-plugin parses the handshake, negotiates the version and pins the helper's certificate, so that a stock go-plugin helper
// in any language works. Everything about the process is done here, through a go-plugin Runner of ours: both pipes are read to their
// end, the exit is taken from the process and not from its pipes, the socket directory is made and removed, the environment is a short
// list, standard input is empty, and a helper has its own session, so that signals reach all of its processes. The go-plugin client
// ends with the handshake: no broker, no second health stream, no goroutine that nobody waits for.
//
// # Goroutines
//
//	launcherLoop   one for the program's life, Linux only: its locked thread is the parent that a parent-death signal watches
//	child.reap     one per helper, from exec until the exit and the last line of output
//	readLines      two per helper, until the end of its pipe or shortly after the exit; a third waits for them
//	Process.finish one per helper, until Done is closed
//	Process.stdio  one per helper, output that go-plugin's own servers redirect into a stream
//	image.hash     one per start without a demanded sum, until Start returns
package launch

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"

	"github.com/khelp/khelp/shared"
)

// DefaultStartTimeout bounds a start, from the call of Start to the open connection, when Config.StartTimeout is zero.
const DefaultStartTimeout = 10 * time.Second

const (
	killWait   = 5 * time.Second        // how long a process may take to vanish after SIGKILL
	drainWait  = 200 * time.Millisecond // how long output is read after an exit while somebody else still holds the pipe
	settleWait = 100 * time.Millisecond // how long a lost connection may wait for the news that the process has exited
	closedWait = time.Second            // how long a helper may run on after closing its stdout without a handshake
)

// Config says what to start and how. Name and Command are required; everything else has a working zero value.
type Config struct {
	Name         string            // the helper's name, for the log
	Command      []string          // Command[0] is the executable, absolute or relative to the working directory; PATH is not searched
	SHA256       string            // hex sum that Command[0] must have when it is started; "" for any
	Env          map[string]string // added to the short list of Environment
	Logger       hclog.Logger      // takes the helper's output, under its name and at its own level; nil discards it
	RuntimeDir   string            // where the private socket directory is made; "" is the system's directory for temporary files
	StartTimeout time.Duration     // bounds Start; 0 is DefaultStartTimeout
	DialOptions  []grpc.DialOption // added to what the connection needs
}

var errStartTimeout = errors.New("start timeout")

// Start runs the helper, waits for its handshake and connects to it. The caller owns the Process and ends it with Stop or Kill.
//
// On failure nothing is left behind, the processes of the helper included, and the error is an *Error that says why and wraps a
// sentinel of package shared. Canceling ctx aborts the start; afterwards ctx has no influence on the process. The counterpart is the
// file half of module_do_load in NetBSD's kern_module.c (kobj_load_vfs up to the entry point). Start is safe for concurrent use.
func Start(ctx context.Context, cfg Config) (*Process, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	start, cancel := context.WithTimeoutCause(ctx, cfg.StartTimeout, errStartTimeout)
	defer cancel()

	img, err := openImage(start, cfg.Command[0], cfg.SHA256)
	if err != nil {
		return nil, interrupted(start, cfg.StartTimeout, "reading "+cfg.Command[0], err)
	}
	defer img.close()
	dir, err := newSocketDir(cfg.RuntimeDir)
	if err != nil {
		return nil, err
	}
	a := &attempt{cfg: cfg, img: img, dir: dir, log: cfg.Logger.Named(cfg.Name)}
	p, err := a.run(start)
	if err != nil {
		a.abort()
		return nil, err
	}
	return p, nil
}

// attempt is one try to start a helper. It belongs to the goroutine that called Start.
type attempt struct {
	cfg   Config
	img   *image
	dir   *socketDir
	log   hclog.Logger
	child *child // nil until the process runs
}

func (a *attempt) run(ctx context.Context) (*Process, error) {
	addr, tlsConfig, err := a.handshake(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := a.connect(ctx, addr, tlsConfig)
	if err != nil {
		return nil, err
	}
	sum, err := a.img.sum(ctx)
	if err != nil {
		_ = conn.Close()
		return nil, interrupted(ctx, a.cfg.StartTimeout, "reading "+a.img.path, err)
	}
	a.log.Debug("helper started", "pid", a.child.pid, "path", a.img.path, "sha256", sum)
	return newProcess(a.child, conn, a.dir, sum, a.log), nil
}

// abort ends what was started and removes what was made.
func (a *attempt) abort() {
	if a.child != nil {
		a.child.kill()
		if !a.child.waitDrained(killWait) {
			a.log.Error("helper does not end after SIGKILL", "pid", a.child.pid)
		}
	}
	a.dir.remove()
}

func (c *Config) complete() error {
	switch {
	case c.Name == "":
		return failf(ReasonConfig, shared.ErrInvalid, "a helper needs a name")
	case len(c.Command) == 0 || c.Command[0] == "":
		return failf(ReasonConfig, shared.ErrInvalid, "helper %s has no command", c.Name)
	case c.StartTimeout < 0:
		return failf(ReasonConfig, shared.ErrInvalid, "start timeout %v is negative", c.StartTimeout)
	}
	for _, arg := range c.Command {
		if strings.ContainsRune(arg, 0) {
			return failf(ReasonConfig, shared.ErrInvalid, "command word %q contains a NUL byte", arg)
		}
	}
	if c.SHA256 != "" {
		if b, err := hex.DecodeString(c.SHA256); err != nil || len(b) != 32 {
			return failf(ReasonConfig, shared.ErrInvalid, "sha256 %q is not a sum of 64 hexadecimal digits", c.SHA256)
		}
		c.SHA256 = strings.ToLower(c.SHA256)
	}
	if err := checkEnv(c.Env); err != nil {
		return err
	}
	abs, err := filepath.Abs(c.Command[0])
	if err != nil {
		return fail(ReasonConfig, fmt.Errorf("working directory of %s: %w", c.Command[0], err))
	}
	c.Command = append([]string{abs}, c.Command[1:]...)
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	if c.StartTimeout == 0 {
		c.StartTimeout = DefaultStartTimeout
	}
	return nil
}
