//go:build unix

package host_test

import (
	"context"
	"errors"
	"syscall"
	"testing"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/host/hosttest/testkit"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/helper"
)

func init() {
	programs["busybody"] = func() {
		hp := hooking("busybody", "p.declared")
		hp.Init = func(ctx context.Context, h *helper.Host) error {
			return errors.Join(h.Load(ctx, "sought"), h.Hold(ctx, "sought"), h.Hold(ctx, "sought"),
				helper.AddHook(ctx, h, helper.HookDecl[struct{}]{Point: "p.added", Func: pass}))
		}
		helper.Serve(hp)
	}
}

// What a process has added and holds ends with it, and not what it has had loaded; its next incarnation begins anew.
func TestK5_TheProcessIsKilled(t *testing.T) {
	testkit.CheckLeaks(t)
	f := &fixture{Host: hosttest.New(t, host.Config{HelperPath: []string{shelf(t, "sought", "sought", "busybody", "busybody")}}), t: t}
	f.configure("sought")
	declared, added := head(t, f.Host, "p.declared", hhook.Options{Kind: hhook.Filter}), head(t, f.Host, "p.added", hhook.Options{Kind: hhook.Filter})
	f.must(f.load("busybody"))
	f.want("busybody=active sought=active")
	wantErr(t, f.unload("sought"), shared.ErrBusy, "held by 2 holds of busybody")
	for _, head := range []*hhook.Head{declared, added} {
		if v, err := head.Run(t.Context(), nil, nil); err != nil || v.Rejected || !head.Enabled() {
			t.Errorf("%+v, %v", v, err)
		}
	}
	if err := syscall.Kill(f.helper("busybody").PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	f.await("busybody=failed sought=active")
	if st := f.helper("sought"); st.Refs != 0 || !st.Autoloaded {
		t.Errorf("%+v", st)
	}
	if order(declared) != "busybody" || added.Enabled() {
		t.Errorf("declared: %s, added: %s", order(declared), order(added))
	}
	if v, err := declared.Run(t.Context(), nil, nil); err != nil || v.Cause != shared.CauseCrash {
		t.Errorf("%+v, %v", v, err)
	}
	// Init asks for what is loaded already, and takes that for a failure; then the old state stands.
	wantErr(t, f.Restart(t.Context(), "busybody"), shared.ErrExist, `Init: helper "sought" is loaded already`)
	if st := f.helper("busybody"); st.State != shared.StateFailed || f.helper("sought").Refs != 0 {
		t.Errorf("%+v", st)
	}
	f.must(f.unload("sought"))
	f.must(f.Restart(t.Context(), "busybody"))
	if st := f.helper("busybody"); st.State != shared.StateActive || st.Incarnation != 2 || f.helper("sought").Refs != 2 || order(added) != "busybody" {
		t.Errorf("%+v, sought has %d references, added: %s", st, f.helper("sought").Refs, order(added))
	}
}
