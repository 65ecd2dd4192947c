//go:build unix

package host_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/host/hosttest/testkit"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/helper"
)

func init() {
	programs["demanded"] = func() {
		// The first argument is a file in which each start leaves a mark.
		mark, err := os.OpenFile(os.Args[1], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err == nil {
			_, _ = mark.WriteString("x") // a mark that is missing fails the test
			_ = mark.Close()
		}
		helper.Serve(helper.Helper[struct{}]{
			Name: "demanded", Version: "1.0.0",
			Hooks: helper.Hooks[struct{}]{"tcp.est_in": func(context.Context, *helper.Call, *struct{}) error { return nil }},
		})
	}
}

// TestL18_DescribedOnceForEachSum: a helper that loads on demand is started once to be asked what it is, also by another host that shares
// the directory, until its program is another.
func TestL18_DescribedOnceForEachSum(t *testing.T) {
	testkit.CheckLeaks(t)
	dir := t.TempDir()
	marks := filepath.Join(dir, "marks")
	starts := func() int {
		b, _ := os.ReadFile(marks) // there is none before the first start
		return strings.Count(string(b), "x")
	}
	spec := shared.HelperSpec{Name: "demanded", Command: program("demanded", marks), Load: shared.LoadDemand}
	configured := func(modinfo string) (*host.Host, *hhook.Head) {
		t.Helper()
		h := hosttest.New(t, host.Config{ModinfoDir: modinfo})
		head := head(t, h, "tcp.est_in", hhook.Options{Budget: testkit.Patience})
		for range 2 {
			if err := h.Configure(t.Context(), []shared.HelperSpec{spec}); err != nil {
				t.Fatal(err)
			}
		}
		if st, err := h.Stat(t.Context(), ""); err != nil || len(st.Helpers) > 0 || !head.Enabled() {
			t.Errorf("%+v, %v, enabled %v", st, err, head.Enabled())
		}
		return h, head
	}
	shared1 := filepath.Join(dir, "modinfo")
	h, head := configured(shared1)
	if n := starts(); n != 1 {
		t.Errorf("configured twice: %d starts", n)
	}
	run(t, head)
	if st, err := h.Stat(t.Context(), "demanded"); err != nil || st.Helpers[0].PID == 0 || st.Helpers[0].Committed != 1 {
		t.Errorf("%+v, %v", st, err)
	}
	if n := starts(); n != 2 {
		t.Errorf("loaded: %d starts", n)
	}
	configured(shared1)
	if n := starts(); n != 2 {
		t.Errorf("another host with the same directory: %d starts", n)
	}
	configured("")
	if n := starts(); n != 3 {
		t.Errorf("a host without the directory: %d starts", n)
	}
}
