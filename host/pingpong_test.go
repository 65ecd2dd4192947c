package host_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/khelp/khelp/host"
)

// Who has left because it was idle is remembered for as long as it had stayed, and no longer than it is configured.
func TestAutounload_ForgetsWhoStaysAway(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := bubbleFixture(t, host.Config{Autounload: host.Autounload{After: time.Minute}})
		var names []string
		for i := range 3 {
			base, top := fmt.Sprintf("base%d", i), fmt.Sprintf("top%d", i)
			f.put(base)
			f.put(top, base)
			names = append(names, base, top)
		}
		f.configure(names...)
		for i := range 3 {
			f.must(f.load(fmt.Sprintf("top%d", i)))
			f.must(f.unload(fmt.Sprintf("top%d", i)))
			after(seconds(121))
			f.want("")
		}
		if n := host.PingPongs(f.Host); n != 1 {
			t.Errorf("%d are remembered, want the last", n)
		}
		f.configure()
		if n := host.PingPongs(f.Host); n != 0 {
			t.Errorf("%d are remembered that are configured no more", n)
		}
	})
}
