package launch

import (
	"context"
	"errors"
	"os/exec"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// newCommand builds the one place where a helper is executed: what is put in front of it later (a PID namespace, a sandbox) or
// replaces the path (a sealed copy) goes here.
//
// A session of its own keeps the terminal's signals away and makes a group that can be ended as a whole. The parent-death signal ends
// the helper with its host, also after kill -9; the kernel drops it for setuid programs and programs with file capabilities.
func newCommand(command, env []string) *exec.Cmd {
	return &exec.Cmd{
		Path:        command[0],
		Args:        command,
		Env:         env,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
	}
}

// launcher hands starts to the launcher thread. The parent-death signal is sent when the parent *thread* ends, and Go ends threads when
// it likes; so the parent is one thread that never ends.
var launcher struct {
	once sync.Once
	jobs chan *launchJob
}

type launchJob struct {
	ctx  context.Context
	cmd  *exec.Cmd
	done chan launchResult // unbuffered: a result that is not taken is discarded by the launcher
}

type launchResult struct {
	spawned *spawned
	err     error
}

// launcherLoop is the launcher thread. It is started by the first launch and never ends.
func launcherLoop() {
	runtime.LockOSThread()
	for job := range launcher.jobs {
		if job.ctx.Err() != nil {
			continue
		}
		var result launchResult
		result.spawned, result.err = spawnNow(job.cmd)
		select {
		case job.done <- result:
		case <-job.ctx.Done():
			if result.err == nil {
				result.spawned.discard()
			}
		}
	}
}

// discard ends a process that nobody waits for any more.
func (s *spawned) discard() {
	_ = signalGroup(s.cmd.Process, syscall.SIGKILL)
	_ = s.cmd.Wait()
	_ = s.stdout.Close()
	_ = s.stderr.Close()
}

// spawn starts cmd from the launcher thread. When it returns because ctx is done, the launcher ends what was started.
func spawn(ctx context.Context, cmd *exec.Cmd) (*spawned, error) {
	launcher.once.Do(func() {
		launcher.jobs = make(chan *launchJob)
		go launcherLoop()
	})
	job := &launchJob{ctx: ctx, cmd: cmd, done: make(chan launchResult)}
	select {
	case launcher.jobs <- job:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case result := <-job.done:
		return result.spawned, result.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// reapLeader waits until the process has exited, ends what is left of its group, and reaps it, in that order: until it is reaped its
// number names this group and nothing else.
func (c *child) reapLeader() {
	for errors.Is(unix.Waitid(unix.P_PID, c.pid, nil, unix.WEXITED|unix.WNOWAIT, nil), unix.EINTR) {
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = signalGroup(c.cmd.Process, syscall.SIGKILL)
	_ = c.cmd.Wait()
	c.reaped, c.state = true, c.cmd.ProcessState
}
