package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/control"
	"github.com/khelp/khelp/shared"
)

// encode writes a document and reads it as any program would.
func encode(t *testing.T, document any) map[string]any {
	t.Helper()
	var b strings.Builder
	if err := writeJSON(&b, document); err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal([]byte(b.String()), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// line writes one line of a stream and reads it as any program would.
func line[T any](t *testing.T, v T, write func(*app, T) error) map[string]any {
	t.Helper()
	var b strings.Builder
	if err := write(&app{stdout: &b, output: formatJSON}, v); err != nil {
		t.Fatal(err)
	}
	if strings.Count(b.String(), "\n") != 1 || !strings.HasSuffix(b.String(), "}\n") {
		t.Errorf("it is not one line: %q", b.String())
	}
	var out map[string]any
	if err := json.Unmarshal([]byte(b.String()), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// at follows a path of names, and of the first element of lists.
func at(t *testing.T, v any, path ...string) map[string]any {
	t.Helper()
	for _, p := range path {
		l := as[[]any](t, as[map[string]any](t, v)[p])
		if len(l) == 0 {
			t.Fatalf("%s is empty", p)
		}
		v = l[0]
	}
	return as[map[string]any](t, v)
}

func as[T any](t *testing.T, v any) T {
	t.Helper()
	out, ok := v.(T)
	if !ok {
		t.Fatalf("got a %T, want a %T: %v", v, out, v)
	}
	return out
}

// The names are a contract with scripts.
func TestJSONFieldNames(t *testing.T) {
	stat := encode(t, newStatDocument(host.Stat{Helpers: make([]host.HelperStat, 1)}))
	seldom := encode(t, newStatDocument(host.Stat{Helpers: []host.HelperStat{{
		FreesSkipped: 1, LateReplies: 2, StrayReplies: 3, Values: map[string]float64{"v": 4},
	}}}))
	hooks := encode(t, newHooksDocument([]host.HeadStat{{Hooks: make([]host.HookStat, 1)}}))
	objects := encode(t, newObjectsDocument([]host.ObjectStat{{Slots: make([]host.SlotStat, 1)}}))
	info := encode(t, newInfoDocument(control.NewInfo(shared.Modinfo{
		Requires: make([]shared.Requirement, 1), Properties: make([]shared.Property, 1), Sections: make([]shared.Section, 1),
		Hooks: make([]shared.HookInfo, 1), OSD: shared.OSDInfo{Schema: make(shared.DataSchema, 1)},
	})))
	plan := encode(t, newPlanDocument(control.Plan{
		Changes: make([]host.Change, 1), Parts: []control.PartChange{{Kind: kindTCP}, {Kind: kindSetting}},
	}))
	failed := encode(t, newPlanDocument(control.Plan{
		Changes: []host.Change{{Err: shared.ErrBusy}}, Parts: []control.PartChange{{Kind: kindTCP, Err: shared.ErrBusy}},
	}))
	const helper = "name version id state classes source refs flags requires hooks pid incarnation sha256 " +
		"lane restarts objects object_bytes calls committed missed skipped autoloaded autounload_at last_error"
	for _, tt := range []struct {
		what string
		got  map[string]any
		want string
	}{
		{"stat", stat, "schema generation helpers"},
		{"stat helpers[]", at(t, stat, "helpers"), helper},
		{"stat helpers[] in full", at(t, seldom, "helpers"), helper + " frees_skipped late_replies stray_replies values"},
		{"hooks", hooks, "schema heads"},
		{"hooks heads[]", at(t, hooks, "heads"), "point vnet kind async context refs forwarded hooks"},
		{"hooks heads[].hooks[]", at(t, hooks, "heads", "hooks"), "helper order calls committed missed skipped p50_seconds p99_seconds"},
		{"objects", objects, "schema objects"},
		{"objects objects[]", at(t, objects, "objects"), "id classes vnet name forwarded slots"},
		{"objects objects[].slots[]", at(t, objects, "objects", "slots"), "helper version bytes values"},
		{"info", info, "schema name version api description classes needs_osd osd hooks requires reads properties sections"},
		{"info hooks[]", at(t, info, "hooks"), "point index udata may_sleep"},
		{"info requires[]", at(t, info, "requires"), "name constraint"},
		{"info properties[]", at(t, info, "properties"), "name type required default doc minimum maximum format"},
		{"info sections[]", at(t, info, "sections"), "name bytes"},
		{"plan", plan, "schema changes tcp settings warnings"},
		{"plan changes[]", at(t, plan, "changes"), "helper action reason blocked_by"},
		{"plan tcp[]", at(t, plan, "tcp"), "name action reason"},
		{"plan settings[]", at(t, plan, "settings"), "name action reason"},
		{"reload changes[]", at(t, failed, "changes"), "helper action reason blocked_by error"},
		{"reload tcp[]", at(t, failed, "tcp"), "name action reason error"},
		{"events", line(t, host.Event{}, (*app).writeEvent), "schema time type helper incarnation point object cause message"},
		{"logs", line(t, host.LogRecord{}, func(a *app, r host.LogRecord) error { return a.writeLog("x", r) }), "schema time level helper message"},
	} {
		want := strings.Fields(tt.want)
		slices.Sort(want)
		if diff := cmp.Diff(want, slices.Sorted(maps.Keys(tt.got))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.what, diff)
		}
		if s, ok := tt.got["schema"]; ok && s != "khelp/v1" {
			t.Errorf("%s: schema is %v", tt.what, s)
		}
	}
}

func TestJSONIsNeverNullWhereAListOrMapBelongs(t *testing.T) {
	for what, got := range map[string]map[string]any{
		"stat":    at(t, encode(t, newStatDocument(host.Stat{Helpers: make([]host.HelperStat, 1)})), "helpers"),
		"heads":   at(t, encode(t, newHooksDocument(make([]host.HeadStat, 1))), "heads"),
		"hooks":   at(t, encode(t, newHooksDocument([]host.HeadStat{{Hooks: make([]host.HookStat, 1)}})), "heads", "hooks"),
		"objects": at(t, encode(t, newObjectsDocument(make([]host.ObjectStat, 1))), "objects"),
		"slots":   at(t, encode(t, newObjectsDocument([]host.ObjectStat{{Slots: make([]host.SlotStat, 1)}})), "objects", "slots"),
		"none":    encode(t, newStatDocument(host.Stat{})),
		"no head": encode(t, newHooksDocument(nil)),
		"no obj":  encode(t, newObjectsDocument(nil)),
		"info":    encode(t, newInfoDocument(control.Info{})),
		"no plan": encode(t, newPlanDocument(control.Plan{})),
		"changes": at(t, encode(t, newPlanDocument(control.Plan{Changes: make([]host.Change, 1)})), "changes"),
	} {
		for name, v := range got {
			if v == nil && name != "autounload_at" {
				t.Errorf("%s: %s is null", what, name)
			}
		}
	}
}

func TestJSONValues(t *testing.T) {
	at0 := time.Date(2026, 11, 21, 12, 30, 0, 0, time.FixedZone("", 3600))
	helper := at(t, encode(t, newStatDocument(host.Stat{Helpers: []host.HelperStat{{
		AutounloadAt: at0, Refs: -1, Missed: map[shared.Cause]uint64{shared.CauseCrash: 2}, Values: map[string]float64{"bad": math.NaN(), "good": 1.5},
	}}})), "helpers")
	if got := helper["autounload_at"]; got != "2026-11-21T11:30:00Z" {
		t.Errorf("autounload_at is %v", got)
	}
	if diff := cmp.Diff(map[string]any{"bad": "NaN", "good": 1.5}, helper["values"]); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]any{"crash": 2.0}, helper["missed"]); diff != "" {
		t.Errorf("missed (-want +got):\n%s", diff)
	}
	hook := at(t, encode(t, newHooksDocument([]host.HeadStat{{Hooks: []host.HookStat{{P50: 1500 * time.Microsecond}}}})), "heads", "hooks")
	if hook["p50_seconds"] != 0.0015 {
		t.Errorf("p50_seconds is %v", hook["p50_seconds"])
	}
	slot := at(t, encode(t, newObjectsDocument([]host.ObjectStat{{Slots: []host.SlotStat{{
		Values: map[string]any{"run": []any{1.0, math.Inf(-1)}, "text": "<&>", "n": uint64(3), "b": true},
	}}}})), "objects", "slots")
	if diff := cmp.Diff(map[string]any{"run": []any{1.0, "-Inf"}, "text": "<&>", "n": 3.0, "b": true}, slot["values"]); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
}

// What a helper says about itself must not drive the terminal or break the columns.
func TestTablesArePrintable(t *testing.T) {
	var b strings.Builder
	err := statTable(&b, host.Stat{Helpers: []host.HelperStat{{Name: "a\x1b[2J", Version: "1\n2\t3", State: shared.StateActive}}})
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	if len(lines) != 2 || strings.ContainsAny(b.String(), "\x1b\t") || !strings.Contains(lines[1], "1 2 3") {
		t.Errorf("table is %q", b.String())
	}
}

func TestExitCodes(t *testing.T) {
	for _, tt := range []struct {
		err  error
		code int
		word string
	}{
		{nil, 0, ""},
		{errors.New("x"), 1, ""},
		{shared.ErrExist.Errorf("x"), 1, "EEXIST"},
		{&usageError{err: shared.ErrBusy}, 2, "EBUSY"},
		{fmt.Errorf("%w: x", control.ErrNotRunning), 3, "ECONNREFUSED"},
		{shared.ErrNotExist.Errorf("x"), 4, "ENOENT"},
		{shared.ErrPermission.Errorf("x"), 5, "EPERM"},
		{syscall.EACCES, 5, "EACCES"},
		{shared.ErrBusy.Errorf("x"), 6, "EBUSY"},
		{fmt.Errorf("x: %w", syscall.EADDRINUSE), 6, "EADDRINUSE"},
		{&configError{shared.ErrNotExist}, 7, "ENOENT"},
		{&shared.PropertyError{Name: "x", Err: shared.ErrInvalid}, 7, "EINVAL"},
		{failed("reload", &control.ConfigError{Err: errors.New("x")}), 7, ""},
		{failed("plan", errChanges), 9, ""},
		{shared.ErrTimeout.Errorf("x"), 8, "ETIMEDOUT"},
		{failed("stat", fmt.Errorf("x: %w", shared.ErrTimeout)), 8, "ETIMEDOUT"},
	} {
		if got := exitCode(tt.err); got != tt.code {
			t.Errorf("%v: exit code %d, want %d", tt.err, got, tt.code)
		}
		if got := errWord(tt.err); tt.err != nil && got != tt.word {
			t.Errorf("%v: word %q, want %q", tt.err, got, tt.word)
		}
	}
}

func TestReport(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{failed("unload ertt", shared.ErrBusy.Errorf("held by 12 objects, vegas")), "khelpd: unload ertt: EBUSY: held by 12 objects, vegas\n"},
		{failed("unload ertt", shared.ErrBusy), "khelpd: unload ertt: EBUSY: busy\n"},
		{failed("load x", errors.New("a\nb\x1b[0m")), "khelpd: load x: a\n\tb\\x1b[0m\n"},
		{errors.New("plain"), "khelpd: plain\n"},
	} {
		var b strings.Builder
		(&app{stderr: &b}).report(tt.err)
		if b.String() != tt.want {
			t.Errorf("got %q, want %q", b.String(), tt.want)
		}
	}
}

func TestSameAddress(t *testing.T) {
	for _, tt := range []struct {
		have string
		want string
		same bool
	}{
		{"127.0.0.1:80", "127.0.0.1:80", true},
		{"127.0.0.1:80", "127.0.0.1:http", true},
		{"127.0.0.1:80", "127.0.0.1:81", false},
		{"127.0.0.1:80", "127.0.0.2:80", false},
		{"[::]:80", ":80", true},
		{"[::]:80", "0.0.0.0:80", true},
		{"[::1]:80", ":80", false},
		{"[::ffff:10.0.0.1]:80", "10.0.0.1:80", true},
		{"127.0.0.1:80", "localhost:80", false},
		{"127.0.0.1:80", "nonsense", false},
	} {
		addr, err := net.ResolveTCPAddr("tcp", tt.have)
		if err != nil {
			t.Fatal(err)
		}
		if got := sameAddress(addr, tt.want); got != tt.same {
			t.Errorf("%s and %s: %v, want %v", tt.have, tt.want, got, tt.same)
		}
	}
}
