package host_test

import (
	"context"
	"testing"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/helper"
)

func TestL6_RequirementsLoadFirst(t *testing.T) {
	f := newFixture(t, host.Config{})
	f.put("vegas", "ertt ~> 1.0", "clock")
	f.put("ertt", "clock")
	f.put("clock")
	f.configure("vegas", "ertt", "clock")
	if err := f.load("vegas"); err != nil {
		t.Fatal(err)
	}
	st, err := f.Stat(context.Background(), "")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]host.HelperStat{}
	for _, h := range st.Helpers {
		got[h.Name] = h
	}
	if h := got["vegas"]; h.State != shared.StateActive || h.Autoloaded || h.Refs != 0 {
		t.Errorf("vegas: %+v", h)
	}
	if h := got["ertt"]; h.State != shared.StateActive || !h.Autoloaded || h.Refs != 1 {
		t.Errorf("ertt: %+v", h)
	}
	if h := got["clock"]; h.State != shared.StateActive || !h.Autoloaded || h.Refs != 2 {
		t.Errorf("clock: %+v", h)
	}
	wantErr(t, f.Unload(context.Background(), "ertt", host.UnloadOptions{}), shared.ErrBusy, "vegas")
}

func TestL7_CirclesArePrinted(t *testing.T) {
	f := newFixture(t, host.Config{})
	f.put("a", "b")
	f.put("b", "c")
	f.put("c", "a")
	f.configure("a", "b", "c")
	wantErr(t, f.load("a"), shared.ErrDeadlock, "a → b → c → a")
	if got := f.states(); got != "" {
		t.Errorf("left behind: %s", got)
	}
}

func TestL6_RollsBackWhatAFailedLoadBrought(t *testing.T) {
	f := newFixture(t, host.Config{})
	f.put("base")
	hosttest.Put(f.path, helper.Helper[struct{}]{
		Name: "top", Version: "1.0.0", Requires: []string{"base"},
		Init: func(context.Context, *helper.Host) error { return shared.ErrInvalid.Errorf("no") },
	})
	f.configure("top", "base")
	wantErr(t, f.load("top"), shared.ErrInvalid, "Init: no")
	if got := f.states(); got != "" {
		t.Errorf("left behind: %s", got)
	}
}
