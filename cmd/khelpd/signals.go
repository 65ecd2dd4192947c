package main

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// stopping says how far the end of the daemon has come, and when it is to read its configuration again.
type stopping struct {
	drain  context.Context  // ends with the first SIGTERM or SIGINT, or with the parent: stop in order
	cut    context.Context  // ends with another SIGTERM or SIGINT: stop at once
	reload <-chan os.Signal // SIGHUP: read the configuration again; several that come while one is served are one
	done   func()           // gives the signals back
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
	hangups := make(chan os.Signal, 1)
	if !signal.Ignored(syscall.SIGHUP) { // as under nohup
		signal.Notify(hangups, syscall.SIGHUP)
	}
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-signals:
				if drain.Err() != nil {
					cancelCut()
				}
				cancelDrain()
			case <-quit:
				return
			}
		}
	})
	return stopping{drain: drain, cut: cut, reload: hangups, done: func() {
		signal.Stop(signals)
		signal.Stop(hangups)
		close(quit)
		wg.Wait()
		cancelDrain()
		cancelCut()
	}}
}
