package hosttest_test

import (
	"context"
	"runtime"
	"testing"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/helper"
)

type counts struct{ In uint64 }

// counter is a helper that tests load in this process, and in one of its own.
var counter = helper.Helper[counts]{
	Name: "counter", Version: "1.0.0", Classes: helper.Classes{"tcp"},
	Hooks: helper.Hooks[counts]{
		"tcp.est_in": func(_ context.Context, _ *helper.Call, c *counts) error { c.In++; return nil },
	},
}

func TestMain(m *testing.M) {
	hosttest.Main(m, hosttest.Programs{"counter": func() { helper.Serve(counter) }})
}

// use runs a hook once and looks at what it counted.
func use(t *testing.T, h *host.Host) {
	t.Helper()
	head, err := h.RegisterHead("tcp.est_in", hhook.Options{})
	if err != nil {
		t.Fatal(err)
	}
	o, err := h.NewObject(t.Context(), "tcp")
	if err != nil {
		t.Fatal(err)
	}
	if v, err := head.Run(t.Context(), o, nil); err != nil || v.Rejected {
		t.Errorf("%+v, %v", v, err)
	}
	st, err := h.Objects(host.ObjectFilter{Helper: "counter"})
	if err != nil || len(st) != 1 || st[0].Slots[0].Values["in"] != uint64(1) {
		t.Errorf("%+v, %v", st, err)
	}
	if err := o.Destroy(t.Context()); err != nil {
		t.Error(err)
	}
	if err := head.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestLoad(t *testing.T) {
	hosttest.CheckLeaks(t)
	h := hosttest.New(t, host.Config{})
	hosttest.Load(t, h, counter, shared.HelperSpec{})
	use(t, h)
}

// TestCommand: the test binary is a helper, too.
func TestCommand(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a helper listens on a Unix socket")
	}
	hosttest.CheckLeaks(t)
	h := hosttest.New(t, host.Config{})
	if err := h.Load(t.Context(), shared.HelperSpec{Command: hosttest.Command("counter")}, host.LoadOptions{}); err != nil {
		t.Fatal(err)
	}
	st, err := h.Stat(t.Context(), "counter")
	if err != nil || st.Helpers[0].PID == 0 {
		t.Errorf("%+v, %v", st, err)
	}
	use(t, h)
}
