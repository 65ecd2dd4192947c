package helper

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// controlLimit is how long a started helper waits for its host to open the control stream.
const controlLimit = 10 * time.Second

// Serve is the main of a helper: it serves the helper to the host that started the process, and does not return. The process ends with
// status 0 when the control stream ends, on SIGTERM, and when a go-plugin client asks for it; with status 1 and a sentence on standard
// error if the helper contradicts itself, if no control stream came within 10 seconds, or if nobody but a person started it.
func Serve[S any](h Helper[S]) {
	p, err := h.program()
	os.Exit(serveProcess(p, h.Name, err, &process{out: os.Stdout, errs: os.Stderr, limit: controlLimit}))
}

// Run serves the helper on a listener, which it closes, as Serve does but for the handshake, TLS and the wait for a host: for tests,
// in process. It returns when ctx ends or the control stream has ended, and waits, for a second at most, for hooks that still run; one
// that goes on is ErrBusy.
func Run[S any](ctx context.Context, lis net.Listener, h Helper[S]) error {
	p, err := h.program()
	if err != nil {
		lis.Close()
		return err
	}
	return newService(p).serve(ctx, lis, serving{})
}

// process is what Serve takes from the operating system.
type process struct {
	out, errs io.Writer
	limit     time.Duration // for the control stream to come
}

// serveProcess is Serve with an exit status instead of an exit.
func serveProcess(p *program, name string, wrong error, proc *process) int {
	if wrong != nil {
		if name == "" {
			name = filepath.Base(os.Args[0])
		}
		fmt.Fprintf(proc.errs, "%s: this helper cannot run:\n", name)
		for line := range strings.SplitSeq(wrong.Error(), "\n") {
			fmt.Fprintf(proc.errs, "  %s\n", line)
		}
		return 1
	}
	if os.Getenv(wire.Handshake.MagicCookieKey) != wire.Handshake.MagicCookieValue {
		fmt.Fprint(proc.errs, byHand(&p.info, os.Args[0]))
		return 1
	}
	p.setProcs()
	// The host decides about the end. An interrupt from a terminal goes to the host as well; the channel, which nobody reads, keeps it
	// from ending this process.
	signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	s := newService(p)
	if err := checkVersions(os.Getenv(wire.EnvProtocolVersions)); err != nil {
		s.logger.Error("the host will refuse this helper", "error", err)
	}
	lis, config, line, err := handshake()
	if err == nil {
		if _, err = fmt.Fprintln(proc.out, line); err != nil {
			lis.Close()
			err = fmt.Errorf("the handshake cannot be written: %w", err)
		}
	}
	if err != nil {
		s.logger.Error("cannot serve", "error", err)
		return 1
	}
	if err := s.serve(ctx, lis, serving{tls: config, controlLimit: proc.limit}); err != nil {
		s.logger.Error("served", "error", err)
		if shared.CodeOf(err) == shared.CodeBusy {
			return 0 // the process ends, and what goes on in it too
		}
		return 1
	}
	return 0
}

// setProcs gives the scheduler as many processors as there are workers: with more, each call pays for waking threads.
func (p *program) setProcs() {
	if os.Getenv("GOMAXPROCS") != "" || p.maxProcs < 0 {
		return
	}
	n := p.maxProcs
	if n == 0 {
		n = p.workers
	}
	runtime.GOMAXPROCS(n)
}

// byHand is what a helper says to a person who starts it.
func byHand(info *shared.Modinfo, path string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s is a khelp helper", info.Name, info.Version)
	if info.Description != "" {
		fmt.Fprintf(&b, ": %s", info.Description)
	}
	b.WriteString(".\nA khelp host starts it; it does nothing when it is run by hand.\n")
	if len(info.Hooks) > 0 {
		points := make([]string, 0, len(info.Hooks))
		for _, h := range info.Hooks {
			points = append(points, string(h.Point))
		}
		slices.Sort(points)
		fmt.Fprintf(&b, "It hooks %s", strings.Join(slices.Compact(points), ", "))
		if len(info.Classes) > 0 {
			fmt.Fprintf(&b, " and follows objects of class %s", joinClasses(info.Classes))
		}
		b.WriteString(".\n")
	}
	if !strings.ContainsRune(path, filepath.Separator) {
		path = "." + string(filepath.Separator) + path
	}
	fmt.Fprintf(&b, "\nLoad it into a running khelpd:\n\n    khelpd load %s\n\nor name it in the configuration:\n\n    helper %q {\n      command = [%q]\n    }\n",
		path, info.Name, path)
	return b.String()
}

func joinClasses(classes []shared.Class) string {
	names := make([]string, len(classes))
	for i, c := range classes {
		names[i] = string(c)
	}
	return strings.Join(names, ", ")
}
