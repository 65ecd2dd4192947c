// Demo shows khelp at work, and checks what it shows: a web server, khelpd with the h_example helper in front of it, and clients that
// send real HTTP traffic over several connections.
//
//	go run ./examples/h_example/demo -bin bin
//
// While the traffic goes on it prints what `khelpd stat`, `khelpd hooks` and `khelpd objects` say. Then it compares, for each
// connection and in all, what the proxy says it forwarded with what the helper counted and committed, stops khelpd, and looks whether
// anything is left of it. The exit status is 0 only if all of that is as it should be.
//
// With -serve ADDRESS it is the web server alone, for trying things by hand.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

const (
	// limit bounds the whole demo, but for cleaning up after a failure, which takes stopLimit at most.
	limit = 14 * time.Second
	// settleLimit is how long counts may take to come in when the traffic rests. They are asynchronous: the proxy does not wait for the
	// helper. It is longer than the helper's timeout, so that every call ends within it.
	settleLimit = 6 * time.Second

	connections = 6
	// requests is how many each connection has had answered when the tables are shown for the first time.
	requests = 40
)

func main() { os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)) }

// run is the program. It returns the exit code, and leaves no process, no socket and no file behind, also when it is interrupted.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	bin := flags.String("bin", "bin", "`directory` with khelpd and h_example, as `make build` fills it")
	serve := flags.String("serve", "", "only serve HTTP, at this `address`, until interrupted")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(stderr, "demo: arguments %q are not understood\n", flags.Args())
		return 2
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if *serve != "" {
		err = serveOnly(ctx, *serve, stdout)
	} else {
		limited, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the demo did not end within %v", limit))
		defer cancel()
		err = demo(limited, options{bin: *bin, settle: settleLimit}, stdout)
	}
	if err != nil {
		fmt.Fprintf(stderr, "demo: %v\n", err)
		return 1
	}
	return 0
}

type options struct {
	bin    string        // directory with the programs
	settle time.Duration // see settleLimit
}

// demo runs the show from start to end. Whatever it started is gone when it returns.
func demo(ctx context.Context, opts options, out io.Writer) (err error) {
	dir, err := makeDir()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	web, err := startWeb("127.0.0.1:0")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, web.close()) }()
	daemon, err := startDaemon(ctx, opts.bin, dir, web.address)
	if err != nil {
		return err
	}
	defer daemon.kill() // does nothing if it has been stopped in order
	fmt.Fprintf(out, "khelpd (process %d) takes connections on %s for the web server on %s; its helper is h_example.\n",
		daemon.pid(), daemon.proxy, web.address)

	s := &show{out: out, daemon: daemon, settle: opts.settle}
	if err := s.play(ctx, web); err != nil {
		if at, ok := ctx.Deadline(); ok && !time.Now().Before(at) {
			<-ctx.Done() // a call that has the deadline too may hear of it first
		}
		if cause := context.Cause(ctx); cause != nil {
			return cause // the rest follows from it
		}
		return fmt.Errorf("%w\n%s", err, daemon.lastWords())
	}
	return s.verdict.print(out)
}

// show is one performance: the tables and the checks, between the start of khelpd and its end.
type show struct {
	out     io.Writer
	daemon  *daemon
	settle  time.Duration
	verdict verdict
}

func (s *show) play(ctx context.Context, web *webServer) error {
	traffic, err := startTraffic(ctx, s.daemon.proxy, connections)
	if err != nil {
		return err
	}
	defer traffic.close()
	if err := traffic.await(ctx, requests); err != nil {
		return err
	}
	fmt.Fprintf(s.out, "\n%d connections are open and requests go on. This is what khelpd says meanwhile:\n", connections)
	if err := s.tables(ctx, "stat", "hooks", "objects"); err != nil {
		return err
	}
	if err := traffic.rest(ctx); err != nil {
		return err
	}
	fmt.Fprintf(s.out, "\n%d requests have been answered and the connections rest, still open:\n", traffic.answered())
	resting, err := s.settled(ctx, connections)
	if err != nil {
		return err
	}
	if err := s.tables(ctx, "objects"); err != nil {
		return err
	}
	s.verdict.connections(resting, traffic.perConnection())
	s.verdict.fact("requests that the web server answered", web.requests.Load(), traffic.answered())

	traffic.close()
	ended, err := s.settled(ctx, 0)
	if err != nil {
		return err
	}
	s.verdict.total(ended, traffic.answered())
	return s.end(ctx, ended)
}

// tables shows what commands of khelpd print.
func (s *show) tables(ctx context.Context, verbs ...string) error {
	for _, verb := range verbs {
		table, err := s.daemon.command(ctx, verb)
		if err != nil {
			return err
		}
		fmt.Fprintf(s.out, "\n$ khelpd %s\n%s", verb, table)
	}
	return nil
}

// settled reads khelpd's state until it has settled with n connections open, or the time for that is over. In that case the state is
// what it is then, and the checks tell what is wrong with it.
func (s *show) settled(ctx context.Context, n int) (*state, error) {
	var st *state
	err := poll(ctx, s.settle, func() (done bool, err error) {
		if st, err = s.daemon.state(ctx); err != nil {
			return false, err
		}
		return st.settled(n), nil
	})
	if err != nil && !errors.Is(err, errStillWaiting) {
		return nil, err
	}
	return st, nil
}

// end stops khelpd as a service manager would, and looks for what it left behind.
func (s *show) end(ctx context.Context, last *state) error {
	pids := append(last.helperPIDs(), s.daemon.pid())
	code, err := s.daemon.stop(ctx)
	if err != nil {
		return err
	}
	var processes, sockets int
	err = poll(ctx, s.settle, func() (bool, error) {
		processes, sockets = running(pids), s.daemon.socketsLeft(ctx)
		return processes+sockets == 0, nil
	})
	if err != nil && !errors.Is(err, errStillWaiting) {
		return err
	}
	s.verdict.fact("exit status of khelpd after SIGTERM", uint64(code), 0)
	s.verdict.fact(fmt.Sprintf("processes left, of khelpd and %d helper", len(pids)-1), uint64(processes), 0)
	s.verdict.fact("sockets left", uint64(sockets), 0)
	return nil
}

// errStillWaiting is what poll returns when its time is over.
var errStillWaiting = errors.New("still waiting")

// poll asks again and again until the answer is yes or an error, or the time is over: for what no event announces.
func poll(ctx context.Context, limit time.Duration, ask func() (bool, error)) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		if done, err := ask(); done || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-timer.C:
			return errStillWaiting
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// makeDir makes the folder for the configuration, the control socket and the sockets of helpers. Its path is short, because that of a
// Unix socket must be.
func makeDir() (string, error) {
	base := os.TempDir()
	if info, err := os.Stat("/tmp"); len(base) > len("/tmp") && err == nil && info.IsDir() {
		base = "/tmp"
	}
	dir, err := os.MkdirTemp(base, "khelp-demo-")
	if err != nil {
		return "", err
	}
	return filepath.Abs(dir)
}
