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
	drain context.Context // ends with the first SIGTERM or SIGINT, or with the parent: stop in order
	cut   context.Context // ends with the second: stop at once
	done  func()          // gives the signals back
}

// watchSignals starts a goroutine that ends with done.
func watchSignals(parent context.Context) stopping {
	drain, cancelDrain := context.WithCancel(parent)
	cut, cancelCut := context.WithCancel(context.WithoutCancel(parent))
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
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
	return stopping{drain: drain, cut: cut, done: func() {
		signal.Stop(signals)
		close(quit)
		wg.Wait()
		cancelDrain()
		cancelCut()
	}}
}
