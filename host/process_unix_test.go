//go:build unix

package host_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/host/hosttest/testkit"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/helper"
)

func init() {
	programs["worker"] = func() {
		helper.Serve(helper.Helper[counter]{
			Name: "worker", Version: "1.2.3", Classes: []shared.Class{"tcp"},
			Hooks: helper.Hooks[counter]{"tcp.est_in": work, "socket.rcv": work},
			Init: func(ctx context.Context, _ *helper.Host) error {
				fmt.Println("a line on stdout")
				fmt.Fprintln(os.Stderr, "[WARN] a line on stderr")
				helper.Logger(ctx).Debug("a line by hclog", "answer", 42)
				return nil
			},
		})
	}
	programs["exit3"] = func() { fmt.Fprintln(os.Stderr, "no database"); os.Exit(3) }
	programs["chatty"] = func() { fmt.Println("hello, I am no helper") }
}

// work does what the context says.
func work(ctx context.Context, c *helper.Call, s *counter) error {
	switch string(c.Context) {
	case "exit":
		os.Exit(7)
	case "panic":
		panic("the hook is broken")
	case "hang":
		<-make(chan struct{})
	}
	s.In++
	return nil
}

// workplace is a host with the worker loaded in a process, an observe and a filter head.
type workplace struct {
	*host.Host
	in, rcv *hhook.Head
	log     *logBuffer
}

func newWorkplace(t testing.TB, spec shared.HelperSpec) *workplace {
	t.Helper()
	testkit.CheckLeaks(t)
	w := &workplace{log: &logBuffer{}}
	w.Host = hosttest.New(t, host.Config{
		Logger:      hclog.New(&hclog.LoggerOptions{Output: w.log, Level: hclog.Trace}),
		StopTimeout: time.Second, DrainTimeout: time.Second,
	})
	w.in = head(t, w.Host, "tcp.est_in", hhook.Options{Budget: testkit.Patience})
	w.rcv = head(t, w.Host, "socket.rcv", hhook.Options{Kind: hhook.Filter, Budget: testkit.Patience})
	spec.Name, spec.Command = "worker", program("worker")
	spec.Timeout = cmp.Or(spec.Timeout, testkit.Patience) // only a bug takes so long, but where a test sets another
	if err := w.Load(t.Context(), spec, host.LoadOptions{}); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *workplace) stat(t testing.TB) host.HelperStat {
	t.Helper()
	st, err := w.Stat(t.Context(), "worker")
	if err != nil {
		t.Fatal(err)
	}
	return st.Helpers[0]
}

func TestProcessOutputReachesTheLog(t *testing.T) {
	w := newWorkplace(t, shared.HelperSpec{})
	for _, want := range []string{
		"[INFO]  worker: a line on stdout", "[WARN]  worker: a line on stderr", "[DEBUG] worker: a line by hclog: ", "answer=42",
	} {
		hosttest.Until(t, want+" in "+w.log.String(), func() bool { return strings.Contains(w.log.String(), want) })
	}
}

// A helper that crashes costs its calls in flight, and no data.
func TestCrash(t *testing.T) {
	for _, how := range []string{"exit", "panic"} {
		t.Run(how, func(t *testing.T) {
			w := newWorkplace(t, shared.HelperSpec{})
			o := object(t, w.Host, "tcp")
			if v, err := w.rcv.Run(t.Context(), o, nil); err != nil || v.Rejected {
				t.Fatal(v, err)
			}
			before := o.Slots()[0].Bytes()
			if v, err := w.rcv.Run(t.Context(), o, []byte(how)); err != nil || !v.Rejected || v.Cause != shared.CauseCrash {
				t.Errorf("the call that crashes it: %+v, %v", v, err)
			}
			hosttest.Until(t, "failed", func() bool { return w.stat(t).State == shared.StateFailed })
			start := time.Now()
			v, err := w.rcv.Run(t.Context(), o, nil)
			if err != nil || !v.Rejected || v.Cause != shared.CauseCrash || !strings.Contains(v.Reason, "gone") {
				t.Errorf("a call after the crash: %+v, %v", v, err)
			}
			if d := time.Since(start); d > testkit.Patience/4 {
				t.Errorf("it took %v to hear that the helper is gone", d)
			}
			if v, err := w.in.Run(t.Context(), o, nil); err != nil || v.Rejected {
				t.Errorf("observe after the crash: %+v, %v", v, err)
			}
			if !bytes.Equal(o.Slots()[0].Bytes(), before) {
				t.Error("the crash changed the data")
			}
			st := w.stat(t)
			if st.PID != 0 || st.LastError == "" || st.Committed != 1 || st.Missed[shared.CauseCrash] != 3 {
				t.Errorf("%+v", st)
			}
			if how == "panic" {
				hosttest.Until(t, "the whole trace in the log", func() bool {
					log := w.log.String()
					return strings.Contains(log, "[ERROR] worker: panic: the hook is broken") && strings.Contains(log, "goroutine ")
				})
			}
			wantErr(t, w.Unload(t.Context(), "worker", host.UnloadOptions{}), shared.ErrBusy, "held by 1 object")
			destroy(t, o)
			if err := w.Unload(t.Context(), "worker", host.UnloadOptions{}); err != nil {
				t.Errorf("unloading a dead helper: %v", err)
			}
		})
	}
}

// O10: what was forwarded is committed, missed or skipped, also when the helper is killed under way, on synchronous heads and async.
func TestO10_CountsAddUpThroughACrash(t *testing.T) {
	for _, async := range []bool{false, true} {
		t.Run(fmt.Sprint("async=", async), func(t *testing.T) {
			h := hosttest.New(t, host.Config{})
			in := head(t, h, "tcp.est_in", hhook.Options{Async: async})
			if err := h.Load(t.Context(), shared.HelperSpec{Name: "worker", Command: program("worker")}, host.LoadOptions{}); err != nil {
				t.Fatal(err)
			}
			st, err := h.Stat(t.Context(), "worker")
			if err != nil {
				t.Fatal(err)
			}
			hook := in.Hooks()[0]
			var forwarded atomic.Uint64
			var wg sync.WaitGroup
			stop := make(chan struct{})
			for range 8 {
				o := object(t, h, "tcp")
				wg.Go(func() {
					defer destroy(t, o)
					for {
						select {
						case <-stop:
							return
						default:
						}
						forwarded.Add(1)
						if _, err := in.Run(context.Background(), o, []byte("segment")); err != nil {
							t.Error(err)
						}
					}
				})
			}
			hosttest.Until(t, "traffic", func() bool { return hook.Stats().Read().Committed > 1000 })
			if err := syscall.Kill(st.Helpers[0].PID, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			hosttest.Until(t, "misses", func() bool { return hook.Stats().Read().Missed[shared.CauseCrash] > 100 })
			close(stop)
			wg.Wait()
			c := hook.Stats().Read()
			if sum := c.Calls + c.Skipped; sum != forwarded.Load() {
				t.Errorf("forwarded %d, counted %d: %+v", forwarded.Load(), sum, c)
			}
		})
	}
}

// H11: a helper that hangs, or is stopped, costs a run its deadline and no more; nor can it hold up the end of the host.
func TestH11_HungHelper(t *testing.T) {
	for _, how := range []string{"hook hangs", "process is stopped"} {
		t.Run(how, func(t *testing.T) {
			w := newWorkplace(t, shared.HelperSpec{Timeout: 100 * time.Millisecond})
			o := object(t, w.Host, "tcp")
			msg := []byte("hang")
			if how == "process is stopped" {
				msg = nil
				if err := syscall.Kill(w.stat(t).PID, syscall.SIGSTOP); err != nil {
					t.Fatal(err)
				}
				other := object(t, w.Host, "tcp")
				hosttest.Until(t, "the signal to arrive", func() bool {
					v, err := w.rcv.Run(t.Context(), other, nil)
					return err == nil && v.Rejected
				})
			}
			start := time.Now()
			v, err := w.rcv.Run(t.Context(), o, msg)
			if d := time.Since(start); err != nil || !v.Rejected || v.Cause != shared.CauseTimeout || d < 100*time.Millisecond {
				t.Errorf("after %v: %+v, %v", d, v, err)
			}
			if v, err := w.in.Run(t.Context(), o, nil); err != nil || v.Rejected {
				t.Errorf("observe: %+v, %v", v, err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			pid := w.stat(t).PID
			if err := o.Destroy(ctx); err != nil {
				t.Error(err)
			}
			if err := w.Shutdown(ctx); err != nil {
				t.Errorf("Shutdown: %v", err)
			}
			if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
				t.Errorf("process %d is still there: %v", pid, err)
			}
		})
	}
}

func TestH11_CloseDoesNotWaitForAHungHelper(t *testing.T) {
	w := newWorkplace(t, shared.HelperSpec{Timeout: time.Minute})
	o := object(t, w.Host, "tcp")
	pid := w.stat(t).PID
	ended := make(chan hhook.Verdict, 1)
	go func() {
		v, _ := w.rcv.Run(context.Background(), o, []byte("hang"))
		ended <- v
	}()
	hosttest.Until(t, "the call under way", func() bool { return !o.TryLock() || unlock(o) })
	if err := w.Close(); err != nil && !errors.Is(err, shared.ErrTimeout) {
		t.Errorf("Close: %v", err)
	}
	if v := <-ended; !v.Rejected {
		t.Errorf("%+v", v)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d is still there: %v", pid, err)
	}
}

func unlock(o interface{ Unlock() }) bool {
	o.Unlock()
	return false
}

func TestLaunchFailures(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	sum := sha256.Sum256([]byte("something else"))
	for _, c := range []struct {
		name string
		spec shared.HelperSpec
		want error
		says string
	}{
		{"not on the path", shared.HelperSpec{Name: "ghost"}, shared.ErrNotExist, `no helper "ghost"`},
		{"no such file", shared.HelperSpec{Name: "x", Command: []string{dir + "/ghost"}}, shared.ErrNotExist, "ghost"},
		{"a directory", shared.HelperSpec{Name: "x", Command: []string{dir}}, shared.ErrNoExec, "directory"},
		{"not executable", shared.HelperSpec{Name: "x", Command: []string{write("plain", "text", 0o644)}}, shared.ErrPermission, "executable"},
		{"a text file", shared.HelperSpec{Name: "x", Command: []string{write("text", "text", 0o755)}}, shared.ErrNoExec, ""},
		{"exits at once", shared.HelperSpec{Name: "x", Command: program("exit3")}, shared.ErrHelperGone, "no database"},
		{"not a helper", shared.HelperSpec{Name: "x", Command: program("chatty")}, shared.ErrNoExec, "hello, I am no helper"},
		{"wrong checksum", shared.HelperSpec{Name: "worker", Command: program("worker"), SHA256: hex.EncodeToString(sum[:])}, shared.ErrPermission, hex.EncodeToString(sum[:])},
		{"wrong version", shared.HelperSpec{Name: "worker", Command: program("worker"), Version: "~> 2.0"}, shared.ErrIncompatible, "1.2.3"},
		{"unknown property", shared.HelperSpec{Name: "worker", Command: program("worker"), Config: map[string]any{"speed": int64(1)}}, shared.ErrInvalid, `"speed"`},
		{"another name", shared.HelperSpec{Name: "mule", Command: program("worker")}, shared.ErrInvalid, `"worker"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := hosttest.New(t, host.Config{HelperPath: []string{dir}})
			wantErr(t, h.Load(t.Context(), c.spec, host.LoadOptions{}), c.want, c.says)
			if st, _ := h.Stat(t.Context(), ""); len(st.Helpers) != 0 {
				t.Errorf("left behind: %+v", st.Helpers)
			}
		})
	}
}

// A load by path takes the helper's own name.
func TestL2_NameIsTheHelpersOwn(t *testing.T) {
	h := hosttest.New(t, host.Config{})
	if err := h.Load(t.Context(), shared.HelperSpec{Command: program("worker")}, host.LoadOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.ID("worker"); err != nil {
		t.Error(err)
	}
}

// A helper that is stopped does not answer when it is asked to finish; it is unloaded all the same.
func TestL9_UnloadsAHelperThatDoesNotAnswer(t *testing.T) {
	w := newWorkplace(t, shared.HelperSpec{})
	pid := w.stat(t).PID
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := w.Unload(t.Context(), "worker", host.UnloadOptions{}); err != nil {
		t.Error(err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d is still there: %v", pid, err)
	}
}
