//go:build !linux

package launch

import (
	"context"
	"os/exec"
	"syscall"
)

// newCommand builds the one place where a helper is executed. There is no parent-death signal here: a helper ends with its control
// stream.
func newCommand(command, env []string) *exec.Cmd {
	return &exec.Cmd{Path: command[0], Args: command, Env: env, SysProcAttr: ownGroup()}
}

func spawn(ctx context.Context, cmd *exec.Cmd) (*spawned, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return spawnNow(cmd)
}

// reapLeader waits for the exit, reaps the process and ends what is left of its group: as long as a group has members its number is not
// given to another process.
func (c *child) reapLeader() {
	_ = c.cmd.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reaped, c.state = true, c.cmd.ProcessState
	_ = signalGroup(c.cmd.Process, syscall.SIGKILL)
}
