package host_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/helper"
)

func init() {
	programs["recruit"] = func() { // NAME, and how long its Init takes
		takes, err := time.ParseDuration(os.Args[2])
		if err != nil {
			panic(err)
		}
		helper.Serve(helper.Helper[struct{}]{
			Name: os.Args[1], Version: "1.0.0",
			Init: func(context.Context, *helper.Host) error { <-time.After(takes); return nil },
		})
	}
}

// BenchmarkLoadAll loads fifty processes that need nothing of each other: side by side, and one after another. It reports the ratio of the
// times, when each waits 50 ms in its Init and when starting costs only processor time.
func BenchmarkLoadAll(b *testing.B) {
	for _, init := range []time.Duration{50 * time.Millisecond, 0} {
		b.Run(fmt.Sprint("init=", init), func(b *testing.B) {
			specs := make([]shared.HelperSpec, 50)
			for i := range specs {
				name := fmt.Sprintf("recruit%d", i)
				specs[i] = shared.HelperSpec{Name: name, Command: program("recruit", name, init.String())}
			}
			var all, each time.Duration
			for b.Loop() {
				all += timeLoads(b, func(h *host.Host) {
					for _, err := range h.LoadAll(b.Context(), specs) {
						b.Fatal(err)
					}
				})
				each += timeLoads(b, func(h *host.Host) {
					for i := range specs {
						if err := h.Load(b.Context(), specs[i], host.LoadOptions{}); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
			b.ReportMetric(all.Seconds()*1e3/float64(b.N), "all-ms")
			b.ReportMetric(each.Seconds()*1e3/float64(b.N), "each-ms")
			b.ReportMetric(all.Seconds()/each.Seconds(), "ratio")
		})
	}
}

// timeLoads times what load does with a host of its own.
func timeLoads(b *testing.B, load func(*host.Host)) time.Duration {
	b.Helper()
	h, err := host.New(host.Config{})
	if err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	load(h)
	took := time.Since(began)
	if err := h.Shutdown(context.Background()); err != nil {
		b.Error(err)
	}
	return took
}

// BenchmarkStatBesideInit reports how long Stat takes while a helper sits in its Init.
func BenchmarkStatBesideInit(b *testing.B) {
	h := hosttest.New(b, host.Config{})
	ctx, cancel := context.WithCancel(b.Context())
	loaded := make(chan error, 1)
	go func() {
		loaded <- h.Load(ctx, shared.HelperSpec{Name: "slow", Command: program("recruit", "slow", "5s")}, host.LoadOptions{})
	}()
	hosttest.Until(b, "the helper is in its Init", func() bool {
		st, err := h.Stat(b.Context(), "")
		return err == nil && len(st.Helpers) == 1 && st.Helpers[0].State == shared.StateStarting
	})
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		if _, err := h.Stat(b.Context(), ""); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	b.ReportMetric(median(took).Seconds()*1e3, "p50-ms")
	cancel()
	if err := <-loaded; err == nil {
		b.Error("the load was given up, and succeeded")
	}
}
