package host_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/helper"
)

type counter struct{ In, Out uint64 }

func counting() helper.Helper[counter] {
	return helper.Helper[counter]{
		Name: "counting", Version: "1.0.0", Classes: []shared.Class{"tcp"},
		Hooks: helper.Hooks[counter]{
			"tcp.est_in":  func(_ context.Context, _ *helper.Call, s *counter) error { s.In++; return nil },
			"tcp.est_out": func(_ context.Context, _ *helper.Call, s *counter) error { s.Out++; return nil },
		},
	}
}

func TestO4_DataCommitsInOrder(t *testing.T) {
	for _, async := range []bool{false, true} {
		t.Run(fmt.Sprint("async=", async), func(t *testing.T) {
			ctx := t.Context()
			h := hosttest.New(t, host.Config{})
			in, err := h.RegisterHead("tcp.est_in", hhook.Options{Async: async})
			if err != nil {
				t.Fatal(err)
			}
			hosttest.Load(t, h, counting(), shared.HelperSpec{})
			const objects, runs = 20, 500
			var wg sync.WaitGroup
			for range objects {
				o, err := h.NewObject(ctx, "tcp")
				if err != nil {
					t.Fatal(err)
				}
				wg.Go(func() {
					for range runs {
						if v, err := in.Run(ctx, o, []byte("x")); err != nil || v.Rejected {
							t.Error(v, err)
						}
					}
				})
			}
			wg.Wait()
			hosttest.Until(t, "all commits", func() bool { return h.Hooks()[0].Hooks[0].Calls == objects*runs })
			objs, err := h.Objects(host.ObjectFilter{Helper: "counting"})
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range objs {
				if got := o.Slots[0].Values["in"]; got != uint64(runs) {
					t.Errorf("object %d: in = %v, want %d", o.ID, got, runs)
				}
			}
			if hk := h.Hooks()[0].Hooks[0]; hk.Committed != objects*runs {
				t.Errorf("%+v", hk)
			}
		})
	}
}
