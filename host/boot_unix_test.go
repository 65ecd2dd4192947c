//go:build unix

package host_test

import (
	"context"
	"strings"
	"syscall"
	"testing"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/host/hosttest/testkit"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/helper"
)

func init() {
	programs["primed"] = func() {
		helper.Serve(plain{Name: "primed", Version: "1.0.0", Init: func(_ context.Context, h *helper.Host) error {
			if h.Incarnation() == 3 {
				return shared.ErrInvalid.Errorf("the third time is too many")
			}
			return nil
		}})
	}
}

// A primed process that has died is started again by whoever claims it; until then it is shown for what it is.
func TestL12_DiesBeforeItIsClaimed(t *testing.T) {
	for how, claim := range map[string]func(*fixture) error{
		"by Load": func(f *fixture) error { return f.load("primed") },
		"by InitClass": func(f *fixture) error {
			for _, e := range f.InitClass(context.Background(), "") {
				return e
			}
			return nil
		},
		"by a requirement": func(f *fixture) error {
			return f.AddProcess("user", shared.Requirement{Name: "primed", Constraint: "~> 1.0"})
		},
	} {
		t.Run(how, func(t *testing.T) {
			testkit.CheckLeaks(t)
			log := &logBuffer{}
			f := &fixture{Host: hosttest.New(t, host.Config{Logger: log.logger()}), t: t}
			spec := shared.HelperSpec{Name: "primed", Command: program("primed")}
			for _, e := range f.Prime(t.Context(), []shared.HelperSpec{spec}) {
				t.Fatal(e)
			}
			pid := f.helper("primed").PID
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			hosttest.Until(t, "its death is known", func() bool { return f.helper("primed").LastError != "" })
			if st := f.helper("primed"); st.State != shared.StatePrimed || st.PID != 0 || !strings.Contains(st.LastError, "killed") {
				t.Errorf("%+v", st)
			}
			f.must(claim(f))
			if st := f.helper("primed"); st.State != shared.StateActive || st.PID == 0 || st.PID == pid || st.Incarnation != 2 ||
				st.Source != shared.SourceBoot || st.Autoloaded || st.LastError != "" {
				t.Errorf("%+v; want another process, active", st)
			}
			if !strings.Contains(log.String(), "primed process has died and is started again") {
				t.Errorf("nothing of it in %s", log.String())
			}
		})
	}
}

// AddProcess loads a helper in a process that requires others.
func (f *fixture) AddProcess(name string, requires ...shared.Requirement) error {
	programs := shared.HelperSpec{Name: name, Command: program("user"), Requires: requires}
	return f.Load(context.Background(), programs, host.LoadOptions{})
}

func init() {
	programs["user"] = func() { helper.Serve(plain{Name: "user", Version: "1.0.0"}) }
}

// EndBoot ends processes, and an unload of a primed one, too.
func TestL12_ProcessesEnd(t *testing.T) {
	testkit.CheckLeaks(t)
	f := &fixture{Host: hosttest.New(t, host.Config{}), t: t}
	specs := []shared.HelperSpec{
		{Name: "primed", Command: program("primed")}, {Name: "user", Command: program("user")},
		{Name: "broken", Command: program("exit3")}, {Command: program("worker")},
	}
	failed := f.Prime(t.Context(), specs)
	if len(failed) != 1 || failed[0].Helper != "broken" {
		t.Fatal(failed)
	}
	wantErr(t, failed[0], shared.ErrHelperGone, "no database")
	f.want("primed=primed user=primed worker=primed")
	pids := []int{f.helper("primed").PID, f.helper("user").PID, f.helper("worker").PID}
	f.must(f.unload("user"))
	f.EndBoot(t.Context())
	f.want("")
	for _, pid := range pids {
		if syscall.Kill(pid, 0) == nil {
			t.Errorf("process %d is left", pid)
		}
	}
}
