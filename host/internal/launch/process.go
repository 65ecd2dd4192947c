package launch

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"

	"github.com/khelp/khelp/shared"
)

// Process is a running helper. Its methods are safe for concurrent use by multiple goroutines. Its owner ends it with Stop or Kill; a
// process that ends by itself cleans up after itself too.
type Process struct {
	child *child
	conn  *grpc.ClientConn
	dir   *socketDir
	sum   string
	log   hclog.Logger
	asked sync.Once     // SIGTERM was sent
	done  chan struct{} // closed by finish
}

func newProcess(c *child, conn *grpc.ClientConn, dir *socketDir, sum string, log hclog.Logger) *Process {
	p := &Process{child: c, conn: conn, dir: dir, sum: sum, log: log, done: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	stdio := make(chan struct{})
	go p.stdio(ctx, stdio)
	go p.finish(stdio, cancel)
	return p
}

// Conn returns the connection to the helper. It belongs to the Process, which closes it when the helper has exited; calls then fail
// with the code Canceled or Unavailable.
func (p *Process) Conn() *grpc.ClientConn { return p.conn }

// PID returns the process id. After Done it may belong to another process.
func (p *Process) PID() int { return p.child.pid }

// SHA256 returns the hex sum of the file that was run.
func (p *Process) SHA256() string { return p.sum }

// Done is closed when the process has exited, its output was read, its connection closed and its socket directory removed. Processes
// that left the helper's group and still hold its output do not delay it by more than a fraction of a second.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err returns nil while the helper runs, and an *ExitError after Done is closed, whatever the status.
func (p *Process) Err() error {
	select {
	case <-p.done:
		return p.child.exitError()
	default:
		return nil
	}
}

// Tail returns the last lines of the helper's output, oldest first, 200 at most. The caller owns the slice.
func (p *Process) Tail() []string { return p.child.tail.lines() }

// Stop ends the helper: SIGTERM to its whole group (and SIGCONT, so that a stopped helper sees it), and SIGKILL if it still runs after
// grace or when ctx is done. It returns when Done is closed, or an error that wraps shared.ErrTimeout if the kernel does not let go of
// the process within five seconds of the SIGKILL. Stop may be called at any time and any number of times. Windows has no SIGTERM:
// there grace is the time a helper has to end by itself.
func (p *Process) Stop(ctx context.Context, grace time.Duration) error {
	p.asked.Do(p.child.terminate)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
		// Without a grace there was no time to end in, and nothing to blame the helper for.
		if grace > 0 {
			p.log.Warn("helper did not end in time and is killed", "pid", p.child.pid, "grace", grace)
		}
	case <-ctx.Done():
	}
	p.Kill()
	last := time.NewTimer(killWait)
	defer last.Stop()
	select {
	case <-p.done:
		return nil
	case <-last.C:
		return shared.ErrTimeout.Errorf("process %d has not ended %v after SIGKILL", p.child.pid, killWait)
	}
}

// Kill sends SIGKILL to the helper's whole group and does not wait; Done tells when it is over.
func (p *Process) Kill() { p.child.kill() }

// stdio reads what go-plugin's servers redirect into the connection.
func (p *Process) stdio(ctx context.Context, ended chan<- struct{}) {
	defer close(ended)
	copyStdio(ctx, p.conn, newLogLines(p.log, p.child.tail).stdout, newLogLines(p.log, p.child.tail).stderr)
}

// finish waits for the end of the process and cleans up.
func (p *Process) finish(stdio <-chan struct{}, cancel context.CancelFunc) {
	<-p.child.drained
	timer := time.AfterFunc(drainWait, cancel) // the stream ends with the process, unless a child of it holds the socket
	select {
	case <-stdio:
	case <-time.After(2 * drainWait): // a logger that blocks must not hide an exit
	}
	timer.Stop()
	cancel()
	_ = p.conn.Close()
	p.dir.remove()
	p.log.Debug("helper ended", "pid", p.child.pid, "exit", p.child.exitError())
	close(p.done)
}
