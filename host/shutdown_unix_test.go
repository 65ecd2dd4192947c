//go:build unix

package host_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/helper"
)

func init() {
	// slow-init tells its process id in a file, and never comes to the end of its Init.
	programs["slow-init"] = func() {
		helper.Serve(helper.Helper[struct{}]{
			Name: "slow", Version: "1.0.0",
			Hooks: helper.Hooks[struct{}]{"tcp.est_in": func(context.Context, *helper.Call, *struct{}) error { return nil }},
			Init: func(ctx context.Context, _ *helper.Host) error {
				if err := os.WriteFile(os.Args[1], fmt.Appendln(nil, os.Getpid()), 0o600); err != nil {
					return err
				}
				<-ctx.Done()
				return ctx.Err()
			},
		})
	}
}

func init() {
	programs["fini-exit"] = func() {
		helper.Serve(helper.Helper[struct{}]{
			Name: "fini-exit", Version: "1.0.0",
			Hooks: helper.Hooks[struct{}]{"tcp.est_in": func(context.Context, *helper.Call, *struct{}) error { return nil }},
			Fini:  func(context.Context) error { os.Exit(0); return nil },
		})
	}
}

// Shutdown cuts short what is under way, so that no process comes up behind its back.
func TestShutdownDuringLoad(t *testing.T) {
	h := hosttest.New(t, host.Config{StartTimeout: time.Minute})
	file := filepath.Join(t.TempDir(), "pid")
	loaded := make(chan error, 1)
	go func() {
		loaded <- h.Load(context.Background(), shared.HelperSpec{Name: "slow", Command: program("slow-init", file)}, host.LoadOptions{})
	}()
	pid := 0
	hosttest.Until(t, "Init", func() bool {
		text, err := os.ReadFile(file)
		if err != nil || len(text) == 0 {
			return false
		}
		pid, err = strconv.Atoi(string(text[:len(text)-1]))
		return err == nil
	})
	// L20: the rest of the host is not held up by one that is stuck in its Init.
	if st, err := h.Stat(t.Context(), ""); err != nil || len(st.Helpers) != 1 || st.Helpers[0].State != shared.StateStarting {
		t.Errorf("stat during Init: %+v, %v", st, err)
	}
	wantErr(t, h.Unload(t.Context(), "slow", host.UnloadOptions{}), shared.ErrBusy, "starting")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := h.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if err := <-loaded; err == nil {
		t.Error("the load went through")
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d is still there: %v", pid, err)
	}
	wantErr(t, h.Load(t.Context(), shared.HelperSpec{Name: "x"}, host.LoadOptions{}), shared.ErrClosed, "shut down")
}

// A helper that dies of its Fini has finished.
func TestL9_DiesOfFini(t *testing.T) {
	h := hosttest.New(t, host.Config{})
	if err := h.Load(t.Context(), shared.HelperSpec{Name: "fini-exit", Command: program("fini-exit")}, host.LoadOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := h.Unload(t.Context(), "fini-exit", host.UnloadOptions{}); err != nil {
		t.Error(err)
	}
}
