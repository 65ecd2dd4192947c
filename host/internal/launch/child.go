package launch

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
)

// child is one operating system process and the processes it starts. It outlives the attempt that started it: Process owns it then.
type child struct {
	pid  int
	cmd  *exec.Cmd
	tail *tail

	handshake   chan string   // takes the handshake line, once
	noHandshake chan struct{} // closed when no handshake can come any more
	noiseLines  atomic.Int32  // lines of stdout that came before the handshake

	alive   context.Context // done when the process has exited
	drained chan struct{}   // closed when it has exited and its output was read, or that was given up

	mu     sync.Mutex // mu protects the following fields
	reaped bool       // the pid is free: somebody else may have it
	state  *os.ProcessState
}

// spawned is a process that has just been started, with our ends of its pipes.
type spawned struct {
	cmd            *exec.Cmd
	stdout, stderr *os.File
}

// startChild runs command with env as its whole environment. When ctx ends first, nothing is left running.
func startChild(ctx context.Context, command, env []string, log hclog.Logger) (*child, error) {
	s, err := spawnRetry(ctx, command, env)
	if err != nil {
		return nil, err
	}
	alive, exited := context.WithCancel(context.Background())
	c := &child{
		pid:         s.cmd.Process.Pid,
		cmd:         s.cmd,
		tail:        &tail{},
		handshake:   make(chan string, 1),
		noHandshake: make(chan struct{}),
		alive:       alive,
		drained:     make(chan struct{}),
	}
	var readers sync.WaitGroup
	readers.Go(func() { c.readStdout(s.stdout, newLogLines(log, c.tail)) })
	readers.Go(func() { readLines(s.stderr, newLogLines(log, c.tail).stderr) })
	go c.reap(s, &readers, exited)
	return c, nil
}

// spawnRetry repeats a start that fails because the file is still open for writing somewhere, as it is for a moment when another thread
// forks while a new binary is being written.
func spawnRetry(ctx context.Context, command, env []string) (*spawned, error) {
	for delay := 5 * time.Millisecond; ; delay *= 2 {
		s, err := spawn(ctx, newCommand(command, env))
		if !errors.Is(err, syscall.ETXTBSY) || delay > 100*time.Millisecond {
			return s, err
		}
		timer := time.NewTimer(delay)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, err
		}
	}
}

// spawnNow starts cmd in the calling thread.
func spawnNow(cmd *exec.Cmd) (*spawned, error) {
	outR, outW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	errR, errW, err := os.Pipe()
	if err != nil {
		_ = outR.Close()
		_ = outW.Close()
		return nil, err
	}
	// Files, not writers: with files exec copies nothing, and Wait does not wait for whoever else holds them.
	cmd.Stdout, cmd.Stderr = outW, errW
	err = cmd.Start()
	_ = outW.Close()
	_ = errW.Close()
	if err != nil {
		_ = outR.Close()
		_ = errR.Close()
		return nil, err
	}
	return &spawned{cmd: cmd, stdout: outR, stderr: errR}, nil
}

// reap waits for the exit, ends what is left of the group, reads the rest of the output and then reports.
func (c *child) reap(s *spawned, readers *sync.WaitGroup, exited context.CancelFunc) {
	c.reapLeader()
	exited()

	// A process that left the group may hold the pipes for as long as it likes. What is in them by now is still read.
	deadline := time.Now().Add(drainWait)
	_ = s.stdout.SetReadDeadline(deadline) // an error means a system without; then the timer below is the bound
	_ = s.stderr.SetReadDeadline(deadline)
	read := make(chan struct{})
	go func() {
		readers.Wait()
		_ = s.stdout.Close()
		_ = s.stderr.Close()
		close(read)
	}()
	timer := time.NewTimer(2 * drainWait) // a logger that blocks must not hide an exit
	defer timer.Stop()
	select {
	case <-read:
	case <-timer.C:
	}
	close(c.drained)
}

// readStdout passes stdout on, and finds the handshake in it.
func (c *child) readStdout(pipe *os.File, log *logLines) {
	found, over := false, false // over: no handshake is looked for any more
	readLines(pipe, func(line string) {
		switch {
		case over:
			log.stdout(line)
		case looksLikeHandshake(line):
			found, over = true, true
			c.handshake <- line
		default:
			log.stdout(line)
			if c.noiseLines.Add(1) > maxNoise {
				over = true
				close(c.noHandshake)
			}
		}
	})
	if !found && !over {
		close(c.noHandshake)
	}
}

// readLines calls emit for every line of pipe until its end.
func readLines(pipe *os.File, emit func(string)) {
	lines := lineWriter{emit: emit}
	buf := make([]byte, 32<<10)
	for {
		n, err := pipe.Read(buf)
		_, _ = lines.Write(buf[:n])
		if err != nil {
			lines.flush()
			return
		}
	}
}

func (c *child) noise() int { return int(c.noiseLines.Load()) }

// signal sends sig to all processes of the helper that are still in its group. After the exit it does nothing.
func (c *child) signal(sig syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.reaped {
		_ = signalGroup(c.cmd.Process, sig)
	}
}

func (c *child) kill() { c.signal(syscall.SIGKILL) }

// waitDrained waits for the exit and the last output, for at most limit.
func (c *child) waitDrained(limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-c.drained:
		return true
	case <-timer.C:
		return false
	}
}

// exitError describes the exit, or returns nil while the process runs.
func (c *child) exitError() *ExitError {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.reaped {
		return nil
	}
	e := &ExitError{Code: c.state.ExitCode(), Tail: c.tail.lines()}
	e.Signal, e.Core = exitSignal(c.state)
	return e
}
