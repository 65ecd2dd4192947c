package host_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// What is loaded, or about to be, is not loaded again; as a requirement it is fine.
func TestL5_AlsoWhileItStarts(t *testing.T) {
	f := newFixture(t, host.Config{})
	began, release := make(chan struct{}), make(chan struct{})
	f.putInit("slow", blocked(began, release))
	f.put("user", "slow")
	f.configure("slow", "user")
	slow := inBackground(func() error { return f.load("slow") })
	hosttest.Await(t, "Init", began)
	wantErr(t, f.load("slow"), shared.ErrExist, `"slow" is being loaded already`)
	user := inBackground(func() error { return f.load("user") })
	f.await("slow=starting user=starting")
	close(release)
	f.must(hosttest.Await(t, "slow", slow))
	f.must(hosttest.Await(t, "user", user))
	if st := f.helper("slow"); st.Autoloaded || st.Refs != 1 {
		t.Errorf("%+v; want it loaded by hand and held once", st)
	}
	wantErr(t, f.load("slow"), shared.ErrExist, `"slow" is loaded already`)
	f.must(f.Hold("slow"))
	if n := f.path.Starts("slow"); n != 1 {
		t.Errorf("started %d times", n)
	}
}

// So it is while it is being primed; when that is done, a load claims it.
func TestL5_AlsoWhileItIsPrimed(t *testing.T) {
	f := newFixture(t, host.Config{})
	began, release := make(chan struct{}), make(chan struct{})
	f.putRaw("boot", func(*wire.Modinfo) {})
	f.raw["boot"].described = func() { close(began); <-release }
	f.put("user", "boot")
	f.configure("boot", "user")
	primed := inBackground(func() error {
		for _, e := range f.Prime(context.Background(), specsOf("boot")) {
			return e
		}
		return nil
	})
	hosttest.Await(t, "Describe", began)
	wantErr(t, f.load("boot"), shared.ErrExist, `"boot" is being loaded already`)
	wantErr(t, f.unload("boot"), shared.ErrBusy, "boot is starting")
	user := inBackground(func() error { return f.load("user") })
	f.await("boot=starting user=starting")
	close(release)
	f.must(hosttest.Await(t, "Prime", primed))
	f.must(hosttest.Await(t, "user", user))
	f.want("boot=active user=active")
	wantErr(t, f.load("boot"), shared.ErrExist, "loaded already")
}

// A helper that has failed is in nobody's way as a requirement, nor as a name: it says what it is.
func TestL5_AlsoWhenItHasFailed(t *testing.T) {
	f := newFixture(t, host.Config{})
	f.put("frail")
	f.put("user", "frail")
	f.configure("frail", "user")
	f.must(f.load("frail"))
	f.path.Crash("frail")
	f.await("frail=failed")
	wantErr(t, f.load("frail"), shared.ErrExist, "it has failed: unload it first")
	wantErr(t, f.load("user"), shared.ErrNotExist, "user requires frail: it has failed")
	f.must(f.unload("frail"))
	f.must(f.load("user"))
}

// chain puts c0, which requires c1, and so on to the last.
func (f *fixture) chain(last int) {
	var names []string
	for i := range last + 1 {
		name := fmt.Sprintf("c%d", i)
		names = append(names, name)
		if i < last {
			f.put(name, fmt.Sprintf("c%d", i+1))
		} else {
			f.put(name)
		}
	}
	f.configure(names...)
}

func TestL6_Depth(t *testing.T) {
	for _, c := range []struct{ limit, last int }{{0, 6}, {2, 2}, {9, 9}} {
		t.Run(fmt.Sprintf("limit %d", c.limit), func(t *testing.T) {
			f := newFixture(t, host.Config{MaxDepth: c.limit})
			f.chain(c.last + 1)
			wantErr(t, f.load("c0"), shared.ErrTooManyLinks, fmt.Sprintf("c%d requires c%d: it would be requirement %d in a row, the limit is %d",
				c.last, c.last+1, c.last+1, c.last))
			f.want("")
			f.must(f.load("c1"))
			if st := f.helper(fmt.Sprintf("c%d", c.last+1)); st.State != shared.StateActive || st.Refs != 1 {
				t.Errorf("%+v", st)
			}
			// What is there already counts too: it does not matter who came first.
			wantErr(t, f.load("c0"), shared.ErrTooManyLinks, fmt.Sprintf("c0 requires c1: it would be requirement %d in a row", c.last+1))
		})
	}
}

// A request in Init goes as deep as a requirement does.
func TestL6_DepthByRequests(t *testing.T) {
	f := newFixture(t, host.Config{MaxDepth: 2})
	f.configure("c0", "c1", "c2", "c3")
	f.putInit("c0", loading("c1"))
	f.putInit("c1", loading("c2"))
	f.putInit("c2", loading("c3"))
	f.put("c3")
	wantErr(t, f.load("c0"), shared.ErrTooManyLinks, "c2 asks for c3: it would be load 3 in a row, the limit is 2")
	f.want("")
}

func TestL6_Count(t *testing.T) {
	for _, c := range []struct{ limit, most int }{{0, 10}, {3, 3}, {20, 20}} {
		t.Run(fmt.Sprintf("limit %d", c.limit), func(t *testing.T) {
			f := newFixture(t, host.Config{MaxRequires: c.limit})
			var requires []string
			for i := range c.most + 1 {
				requires = append(requires, fmt.Sprintf("r%d", i))
				f.put(requires[i])
			}
			f.configure(requires...)
			f.put("most", requires[:c.most]...)
			f.put("more", requires...)
			f.must(f.load("most"))
			f.must(f.unload("most"))
			wantErr(t, f.load("more"), shared.ErrInvalid, fmt.Sprintf("more requires %d helpers, the limit is %d", c.most+1, c.most))
			// What the operator adds counts too, and not twice.
			spec := shared.HelperSpec{Name: "most", Requires: []shared.Requirement{{Name: "r0", Constraint: ">= 1.0"}}}
			f.must(f.Load(context.Background(), spec, host.LoadOptions{}))
			f.must(f.unload("most"))
			spec.Requires = []shared.Requirement{{Name: requires[c.most]}}
			wantErr(t, f.Load(context.Background(), spec, host.LoadOptions{}), shared.ErrInvalid, fmt.Sprintf("the limit is %d", c.most))
		})
	}
}

// No limit of a host's goes beyond what anybody may say of itself.
func TestL6_HardLimit(t *testing.T) {
	f := newFixture(t, host.Config{MaxRequires: 100_000})
	f.putRaw("greedy", func(m *wire.Modinfo) {
		for i := range shared.MaxModinfoRequires + 1 {
			m.Requires = append(m.Requires, &wire.Requirement{Name: fmt.Sprintf("r%d", i)})
		}
	})
	wantErr(t, f.load("greedy"), shared.ErrInvalid, "257 requirements, the limit is 256")
}

// Versions are held against both what the helper and what the operator asks for, and a requirement that does not fit leaves again.
func TestL6_Constraints(t *testing.T) {
	for _, c := range []struct {
		name             string
		modinfo, spec    string // constraints on ertt 1.4.0
		there, by        bool   // ertt is loaded before; base too is asked for
		want             error
		says, registered string
	}{
		{name: "met", modinfo: "~> 1.2", spec: ">= 1.4, < 2", registered: "vegas=active ertt=active"},
		{
			name: "not met by the helper's", modinfo: "~> 2.0",
			want: shared.ErrIncompatible, says: `vegas requires ertt: ertt has version 1.4.0, "~> 2.0" is asked for`,
		},
		{name: "not met by the operator's", modinfo: "~> 1.2", spec: "< 1.4", want: shared.ErrIncompatible, says: `"< 1.4" is asked for`},
		{name: "not met by what is there", modinfo: "~> 2.0", there: true, want: shared.ErrIncompatible, says: "1.4.0", registered: "ertt=active"},
		{name: "no constraint", spec: "one point two", want: shared.ErrInvalid, says: `version constraint "one point two"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t, host.Config{})
			hosttest.Put(f.path, plain{Name: "ertt", Version: "1.4.0", Requires: []string{"base"}})
			f.put("base")
			f.put("vegas", strings.TrimSpace("ertt "+c.modinfo))
			f.configure("ertt", "base", "vegas")
			if c.there {
				f.must(f.load("ertt"))
			}
			spec := shared.HelperSpec{Name: "vegas"}
			if c.spec != "" {
				spec.Requires = []shared.Requirement{{Name: "ertt", Constraint: c.spec}}
			}
			err := f.Load(context.Background(), spec, host.LoadOptions{})
			if c.registered != "" {
				c.registered += " base=active"
			}
			if c.want == nil {
				f.must(err)
			} else {
				wantErr(t, err, c.want, c.says)
			}
			f.want(c.registered)
			if c.want == nil || c.there {
				return
			}
			if got := f.went(host.EventUnloaded); got != "unloaded ertt, unloaded base" {
				t.Errorf("rolled back: %s; want ertt before base", got)
			}
		})
	}
}

// A requirement that somebody else holds by now stays when the load that brought it fails.
func TestL6_RollBackSparesWhatIsHeld(t *testing.T) {
	f := newFixture(t, host.Config{})
	f.put("shared")
	f.put("loose")
	f.putInit("top", func(context.Context, *hostOf) error {
		if err := f.Hold("shared"); err != nil {
			return err
		}
		return shared.ErrInvalid.Errorf("no")
	}, "shared", "loose")
	f.configure("top", "shared", "loose")
	wantErr(t, f.load("top"), shared.ErrInvalid, "Init: no")
	f.want("shared=active")
	f.must(f.Rele("shared"))
}
