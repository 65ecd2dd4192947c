package control

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hosttest/testkit"
	"github.com/khelp/khelp/shared"
)

func TestInfoCarriesEverything(t *testing.T) {
	info := filled[shared.Modinfo]()
	h := &fakeHost{known: map[string]shared.Modinfo{"ertt": info}}
	path, _ := serve(t, h, Options{})
	c := dial(t, path)
	got, err := c.Info(t.Context(), "ertt")
	check(t, err, NewInfo(info), got)
	if len(got.Sections) != len(info.Sections) || got.Sections[0].Bytes != len(info.Sections[0].Data) {
		t.Errorf("sections are %v", got.Sections)
	}
	section, err := c.Section(t.Context(), "ertt", info.Sections[1].Name)
	check(t, err, info.Sections[1].Data, section)
	_, err = c.Section(t.Context(), "ertt", "absent")
	wantIs(t, err, shared.ErrNotExist)
	if !strings.Contains(err.Error(), info.Sections[0].Name+", "+info.Sections[1].Name) {
		t.Errorf("the error does not say what sections there are: %v", err)
	}
	_, err = c.Section(t.Context(), "ertt", "")
	wantIs(t, err, shared.ErrNotExist)
	if h.described != nil {
		t.Errorf("started to look, though known: %v", h.described)
	}
	for _, name := range []string{"", "./ertt", "/opt/ertt", "a@b"} {
		_, err := c.Info(t.Context(), name)
		wantIs(t, err, shared.ErrInvalid)
	}
}

// Looking at what is not known starts a process, for which the caller must be allowed to load.
func TestInfoOfTheUnknownNeedsLoad(t *testing.T) {
	h := &fakeHost{}
	var refused shared.Privilege
	path, _ := serve(t, h, Options{Authorize: func(_ context.Context, _ Peer, p shared.Privilege) error {
		if p == refused {
			return shared.ErrPermission.Errorf("%s is refused", p)
		}
		return nil
	}})
	c := dial(t, path)
	if got, err := c.Info(t.Context(), "ertt"); err != nil || got.Modinfo.Name != "ertt" {
		t.Fatalf("%v, %v", got, err)
	}
	refused = shared.PrivilegeLoad
	_, err := c.Info(t.Context(), "vegas")
	wantIs(t, err, shared.ErrPermission)
	h.known = map[string]shared.Modinfo{"vegas": {Name: "vegas"}}
	if _, err := c.Info(t.Context(), "vegas"); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"ertt"}, h.described); diff != "" {
		t.Errorf("described (-want +got):\n%s", diff)
	}
}

func TestLoadWithoutAutoload(t *testing.T) {
	h := &fakeHost{}
	path, _ := serve(t, h, Options{Authorize: func(_ context.Context, _ Peer, p shared.Privilege) error {
		if p == shared.PrivilegeAutoload {
			return shared.ErrPermission
		}
		return nil
	}})
	if err := loadBy(t.Context(), dial(t, path), LoadRequest{Name: "ertt"}); err != nil {
		t.Fatal(err)
	}
	if !h.loads[0].NoAutoload {
		t.Error("the load may autoload, though its caller may not")
	}
}

func TestHoldReleRestart(t *testing.T) {
	h := &fakeHost{}
	path, _ := serve(t, h, Options{})
	c := dial(t, path)
	calls := []func(context.Context, string) error{c.Hold, c.Rele, c.Restart}
	for _, call := range calls {
		if err := call(t.Context(), "ertt"); err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff([]string{"hold ertt", "rele ertt", "restart ertt"}, h.others); diff != "" {
		t.Errorf("the host was asked for (-want +got):\n%s", diff)
	}
	h.change = func(context.Context) error { return shared.ErrNotExist.Errorf("no such") }
	for _, call := range calls {
		wantIs(t, call(t.Context(), "ertt"), shared.ErrNotExist)
	}
}

func TestPlanCarriesEverything(t *testing.T) {
	spec := filled[shared.HelperSpec]()
	again, err := specToProto(&spec)
	if err != nil {
		t.Fatal(err)
	}
	check(t, nil, spec, specFromProto(again))

	spec = shared.HelperSpec{
		Name: "ertt", Requires: []shared.Requirement{{Name: "clock", Constraint: "~> 1.2"}}, Timeout: 3 * time.Millisecond,
		Config: map[string]any{"n": int64(1) << 62, "f": 3.0, "b": false, "l": []any{"x"}},
		Hooks:  []shared.HookSpec{{Point: "tcp.est_in", Order: shared.Order{Place: shared.Before, Helper: "acl"}}},
	}
	plan := filled[Plan]()
	plan.Changes[0].Err = shared.ErrBusy.Errorf("held by 12 objects")
	plan.Parts[0].Err = errors.New("no sentinel")
	parts := []Part{{Kind: "tcp", Name: "web", Attributes: map[string]any{"listen": ":80", "async": true, "n": int64(7)}}}
	var gotSpecs []shared.HelperSpec
	var gotParts []Part
	path, _ := serve(t, &fakeHost{}, Options{Plan: func(_ context.Context, s []shared.HelperSpec, p []Part) (Plan, error) {
		gotSpecs, gotParts = s, p
		return plan, nil
	}})
	got, err := dial(t, path).Plan(t.Context(), []shared.HelperSpec{spec, {Name: "acl"}}, parts)
	if err != nil {
		t.Fatal(err)
	}
	check(t, nil, []shared.HelperSpec{spec, {Name: "acl"}}, gotSpecs)
	check(t, nil, parts, gotParts)
	checkPlan(t, plan, got)
}

// checkPlan compares plans; their errors by text and code.
func checkPlan(t *testing.T, want, got Plan) {
	t.Helper()
	errs := cmp.Comparer(func(a, b error) bool { return fmt.Sprint(a) == fmt.Sprint(b) && shared.CodeOf(a) == shared.CodeOf(b) })
	if diff := cmp.Diff(want, got, errs); diff != "" {
		t.Errorf("the plan did not arrive as it was (-sent +got):\n%s", diff)
	}
}

func TestPlanOfAHostAlone(t *testing.T) {
	h := &fakeHost{changes: []host.Change{{Helper: "ertt", Action: host.ChangeUnload, BlockedBy: []string{"12 objects", "vegas"}}}}
	path, _ := serve(t, h, Options{})
	c := dial(t, path)
	got, err := c.Plan(t.Context(), []shared.HelperSpec{{Name: "acl"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	checkPlan(t, Plan{Changes: h.changes}, got)
	check(t, nil, []shared.HelperSpec{{Name: "acl"}}, h.planned)
	got, err = c.Plan(t.Context(), nil, []Part{{Kind: "tcp", Name: "web"}, {Kind: "tcp", Name: "ftp"}, {Kind: "disk", Name: "a"}})
	if err != nil || len(got.Warnings) != 2 || !strings.Contains(got.Warnings[1], "disk") {
		t.Errorf("of parts that the host does not have: %v, %v", got, err)
	}
	for _, bad := range []shared.HelperSpec{{}, {Name: "A"}, {Name: "a", Timeout: -1}, {Name: "a", Hooks: []shared.HookSpec{{Point: "a.b", Order: shared.Order{Place: 77}}}}} {
		_, err := c.Plan(t.Context(), []shared.HelperSpec{bad}, nil)
		wantIs(t, err, shared.ErrInvalid)
	}
	_, err = c.Plan(t.Context(), []shared.HelperSpec{{Name: "a", Config: map[string]any{"x": struct{}{}}}}, nil)
	wantIs(t, err, shared.ErrInvalid)
}

func TestReload(t *testing.T) {
	path, _ := serve(t, &fakeHost{}, Options{})
	_, err := dial(t, path).Reload(t.Context())
	wantIs(t, err, shared.ErrUnsupported)

	plan := Plan{Changes: []host.Change{{Helper: "ertt", Action: host.ChangeLoad, Reason: "new", Err: shared.ErrTimeout.Errorf("late")}}}
	var answer error
	path, _ = serve(t, &fakeHost{}, Options{Reload: func(context.Context) (Plan, error) { return plan, answer }})
	c := dial(t, path)
	got, err := c.Reload(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	checkPlan(t, plan, got)

	answer = &ConfigError{Diagnostics: "on a.hcl line 7:\n  \xffoh", Err: shared.ErrInvalid.Errorf("1 error")}
	_, err = c.Reload(t.Context())
	var config *ConfigError
	if !errors.As(err, &config) || config.Diagnostics != "on a.hcl line 7:\n  \uFFFDoh" || !errors.Is(err, shared.ErrInvalid) || err.Error() != "1 error" {
		t.Errorf("got %#v", err)
	}
	answer = &ConfigError{Diagnostics: strings.Repeat("x", maxDiagnostics+1), Err: errors.New("bad")}
	if _, err = c.Reload(t.Context()); !errors.As(err, &config) || len(config.Diagnostics) != maxDiagnostics {
		t.Errorf("many diagnostics: %T, %d bytes", err, len(config.Diagnostics))
	}
	answer = &ConfigError{Err: errors.New("bad")}
	if _, err = c.Reload(t.Context()); !errors.As(err, &config) || err.Error() != "bad" {
		t.Errorf("without diagnostics: %#v", err)
	}
}

// collect reads a stream to its end, or to the n-th element.
func collect[T any](n int, seq func(func(T, error) bool)) ([]T, error) {
	var out []T
	for v, err := range seq {
		if err != nil {
			return out, err
		}
		if out = append(out, v); len(out) == n {
			return out, nil
		}
	}
	return out, nil
}

func TestEvents(t *testing.T) {
	history := filled[[]host.Event]()
	h := &fakeHost{history: history, events: &fakeFollower[host.Event]{what: make(chan host.Event, 10)}}
	path, _ := serve(t, h, Options{})
	c := dial(t, path)
	got, err := collect(-1, c.Events(t.Context(), false))
	check(t, err, history, got)

	for _, e := range history {
		h.events.what <- e
	}
	got, err = collect(2, c.Events(t.Context(), true))
	check(t, err, history, got)
	testkit.Until(t, "the subscription to be given back", func() bool { return h.events.closed.Load() == 1 })

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = collect(-1, c.Events(ctx, true))
	wantIs(t, err, shared.ErrCanceled)

	h.events.what <- host.Event{Type: host.EventLoaded, Message: "\xff"}
	close(h.events.what)
	got, err = collect(-1, c.Events(t.Context(), true))
	wantIs(t, err, ErrNotRunning)
	if len(got) != 1 || got[0].Message != "\uFFFD" {
		t.Errorf("got %v", got)
	}
}

func TestLogs(t *testing.T) {
	records := filled[[]host.LogRecord]()
	h := &fakeHost{lines: &fakeFollower[host.LogRecord]{what: make(chan host.LogRecord, 1)}, logs: func(name string) ([]host.LogRecord, error) {
		if name != "ertt" {
			return nil, shared.ErrNotExist.Errorf("%s has never logged", name)
		}
		return records, nil
	}}
	path, srv := serve(t, h, Options{})
	c := dial(t, path)
	got, err := collect(-1, c.Logs(t.Context(), "ertt", false))
	check(t, err, records, got)
	testkit.Until(t, "the subscription to be given back", func() bool { return h.lines.closed.Load() == 1 })
	_, err = collect(-1, c.Logs(t.Context(), "vegas", true))
	wantIs(t, err, shared.ErrNotExist)
	_, err = collect(-1, c.Logs(t.Context(), "../x", true))
	wantIs(t, err, shared.ErrInvalid)

	// Who follows does not hold up the end of the server.
	h.lines.what <- records[0]
	seen := 0
	for _, err := range c.Logs(t.Context(), "ertt", true) {
		if err != nil {
			wantIs(t, err, ErrNotRunning)
			break
		}
		if seen++; seen == len(records)+1 {
			if err := srv.Shutdown(t.Context()); err != nil {
				t.Errorf("Shutdown: %v", err)
			}
		}
	}
	if seen != len(records)+1 {
		t.Errorf("got %d records, want %d", seen, len(records)+1)
	}
}

// What is withdrawn ends, also where it was being used.
func TestFollowingEndsWithThePrivilege(t *testing.T) {
	h := &fakeHost{events: &fakeFollower[host.Event]{what: make(chan host.Event, 1)}}
	rules := make(chan Authorizer, 1)
	rules <- OwnerOnly
	path, _ := serve(t, h, Options{Authorize: func(ctx context.Context, p Peer, privilege shared.Privilege) error {
		now := <-rules
		rules <- now
		return now(ctx, p, privilege)
	}})
	h.events.what <- host.Event{Type: host.EventLoaded}
	var got []host.EventType
	for e, err := range dial(t, path).Events(t.Context(), true) {
		if err != nil {
			wantIs(t, err, shared.ErrPermission)
			break
		}
		got = append(got, e.Type)
		<-rules
		rules <- func(context.Context, Peer, shared.Privilege) error { return errors.New("no longer") }
		h.events.what <- host.Event{Type: host.EventFailed}
	}
	if diff := cmp.Diff([]host.EventType{host.EventLoaded}, got); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}
