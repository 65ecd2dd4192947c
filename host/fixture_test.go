package host_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/host/hosttest/testkit"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/helper"
	"github.com/khelp/khelp/shared/wire"
)

// fixture is a host with a helper path in this process, on which everything is configured that a test puts there.
type fixture struct {
	*host.Host
	t    testing.TB
	path *hosttest.Path
	raw  map[string]*hostile
}

func newFixture(t testing.TB, cfg host.Config) *fixture {
	t.Helper()
	f := &fixture{t: t, path: hosttest.NewPath(t), raw: map[string]*hostile{}}
	cfg.Attach = f.attach
	f.Host = hosttest.New(t, cfg)
	return f
}

// put puts a helper without data on the path.
func (f *fixture) put(name string, requires ...string) {
	hosttest.Put(f.path, helper.Helper[struct{}]{Name: name, Version: "1.0.0", Requires: requires})
}

// configure configures helpers by name only.
func (f *fixture) configure(names ...string) {
	f.t.Helper()
	specs := make([]shared.HelperSpec, len(names))
	for i, name := range names {
		specs[i] = shared.HelperSpec{Name: name, Load: shared.LoadManual}
	}
	if err := f.Configure(context.Background(), specs); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) load(name string) error {
	return f.Load(context.Background(), shared.HelperSpec{Name: name}, host.LoadOptions{})
}

// states returns "name=state" for what is in the registry.
func (f *fixture) states() string {
	st, err := f.Stat(context.Background(), "")
	if err != nil {
		f.t.Fatal(err)
	}
	var out []string
	for _, h := range st.Helpers {
		out = append(out, h.Name+"="+string(h.State))
	}
	return strings.Join(out, " ")
}

// plain is a helper without data.
type plain = helper.Helper[struct{}]

// initFunc is Init of a helper.
type initFunc = func(context.Context, *helper.Host) error

// putInit puts a helper with an Init on the path.
func (f *fixture) putInit(name string, init initFunc, requires ...string) {
	hosttest.Put(f.path, plain{Name: name, Version: "1.0.0", Requires: requires, Init: init})
}

// blocked returns an Init that says that it has begun and waits for release, or for its end.
func blocked(began chan<- struct{}, release <-chan struct{}) initFunc {
	return func(ctx context.Context, _ *helper.Host) error {
		began <- struct{}{}
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// putRaw puts a helper that speaks the protocol by hand on the path.
func (f *fixture) putRaw(name string, edit func(*wire.Modinfo)) {
	info := &shared.Modinfo{Name: name, Version: "1.0.0", API: shared.APIGeneration}
	m := wire.ModinfoToProto(info)
	edit(m)
	f.raw[name] = &hostile{info: m}
}

// attach finds a helper in this process.
func (f *fixture) attach(name string) host.Dialer {
	if s := f.raw[name]; s != nil {
		return s.serve(f.t)
	}
	return f.path.Attach(name)
}

// hooking is a helper that passes some points.
func hooking(name string, points ...shared.HookPoint) plain {
	hp := plain{Name: name, Version: "1.0.0", Hooks: helper.Hooks[struct{}]{}}
	for _, p := range points {
		hp.Hooks[p] = pass
	}
	return hp
}

func pass(context.Context, *helper.Call, *struct{}) error { return nil }

// order returns whose hooks a head has, in the order in which they run.
func order(head *hhook.Head) string {
	var names []string
	for _, hook := range head.Hooks() {
		names = append(names, hook.Helper)
	}
	return strings.Join(names, " ")
}

func (f *fixture) unload(name string) error {
	return f.Unload(context.Background(), name, host.UnloadOptions{})
}

// must fails the test for an error.
func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// helper returns what is shown of a helper.
func (f *fixture) helper(name string) host.HelperStat {
	f.t.Helper()
	st, err := f.Stat(context.Background(), "")
	f.must(err)
	i := slices.IndexFunc(st.Helpers, func(h host.HelperStat) bool { return h.Name == name })
	if i < 0 {
		f.t.Fatalf("no helper %s in %s", name, f.states())
	}
	return st.Helpers[i]
}

// await waits until the registry looks as wanted.
func (f *fixture) await(want string) {
	f.t.Helper()
	f.must(testkit.Poll(func() error {
		if got := f.states(); got != want {
			return fmt.Errorf("in the registry: %q, want %q", got, want)
		}
		return nil
	}))
}

// want checks what is in the registry.
func (f *fixture) want(states string) {
	f.t.Helper()
	if got := f.states(); got != states {
		f.t.Errorf("in the registry: %q, want %q", got, states)
	}
}

// went returns the events of some types, as "type helper".
func (f *fixture) went(types ...host.EventType) string {
	var out []string
	for _, e := range f.History() {
		if slices.Contains(types, e.Type) {
			out = append(out, string(e.Type)+" "+e.Helper)
		}
	}
	return strings.Join(out, ", ")
}

// said returns the message of the last event of a type.
func (f *fixture) said(typ host.EventType) string {
	message := ""
	for _, e := range f.History() {
		if e.Type == typ {
			message = e.Message
		}
	}
	return message
}

// logBuffer is a log that tests may look at while it is written.
type logBuffer struct {
	mu  sync.Mutex // protects the following field
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// logger is for host.Config, and keeps everything.
func (b *logBuffer) logger() hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Output: b, Level: hclog.Trace, DisableTime: true})
}

// inBackground calls a function and returns where its error comes.
func inBackground(call func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- call() }()
	return done
}
