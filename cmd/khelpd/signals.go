package main

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// stopping says how far the end of the daemon has come.
type stopping struct {
	drain context.Context // ends with the first SIGTERM, SIGINT or SIGHUP, or with the parent: stop in order
	cut   context.Context // ends with another SIGTERM or SIGINT: stop at once
	done  func()          // gives the signals back
}

// outlivePipes makes writes to a pipe that nobody reads any more fail, as when the reader of the log ends, instead of ending the daemon
// by SIGPIPE. It holds until the process ends. The signal is caught and not ignored: helpers would inherit that.
func outlivePipes() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }

// watchSignals starts a goroutine that ends with done.
func watchSignals(parent context.Context) stopping {
	drain, cancelDrain := context.WithCancel(parent)
	cut, cancelCut := context.WithCancel(context.WithoutCancel(parent))
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // as under nohup, which is there to outlive the terminal
		signal.Notify(signals, syscall.SIGHUP)
	}
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case s := <-signals:
				// A terminal that closes may send SIGHUP twice, by the kernel and by the shell; that asks for no haste.
				if drain.Err() != nil && s != syscall.SIGHUP {
					cancelCut()
				}
				cancelDrain()
			case <-quit:
				return
			}
		}
	})
	return stopping{drain: drain, cut: cut, done: func() {
		signal.Stop(signals)
		close(quit)
		wg.Wait()
		cancelDrain()
		cancelCut()
	}}
}
