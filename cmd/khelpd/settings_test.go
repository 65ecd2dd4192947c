package main

import (
	"errors"
	"io"
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/khelp/khelp/config"
	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/control"
	"github.com/khelp/khelp/shared"
)

// Whatever a tcp block may say reaches the daemon that is asked for a plan, and is compared there.
func TestTCPBlocksCross(t *testing.T) {
	block := config.TCP{}
	v := reflect.ValueOf(&block).Elem()
	for i := range v.NumField() {
		field, name := v.Field(i), v.Type().Field(i).Name
		if !v.Type().Field(i).IsExported() || name == "Range" {
			continue
		}
		before := block
		switch field.Kind() {
		case reflect.String:
			field.SetString("x" + name)
		case reflect.Bool:
			field.SetBool(!field.Bool())
		default:
			t.Fatalf("%s is of kind %s: teach this test, and partsOf, about it", name, field.Kind())
		}
		if name != "Name" && (sameBlock(before, block) || !strings.Contains(tcpDifference(before, block), strings.ToLower(name)+" is ")) {
			t.Errorf("a change of %s is %q", name, tcpDifference(before, block))
		}
	}
	cfg := &config.Config{TCP: []config.TCP{block, {Name: "other"}}}
	blocks, values, err := partsIn(partsOf(cfg))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(cfg.TCP, blocks, cmpopts.IgnoreUnexported(config.TCP{})); diff != "" {
		t.Errorf("blocks (-sent +got):\n%s", diff)
	}
	if diff := cmp.Diff(settingsOf(cfg), values); diff != "" {
		t.Errorf("settings (-sent +got):\n%s", diff)
	}
}

func TestPartsThatNobodyKnows(t *testing.T) {
	for _, p := range []control.Part{
		{Kind: "udp", Name: "x"}, {Kind: kindTCP, Name: "x"}, {Kind: kindSetting, Name: "x", Attributes: map[string]any{"value": "1"}},
		{Kind: kindSetting, Name: settingLogLevel}, {Kind: kindSetting, Name: settingLogLevel, Attributes: map[string]any{"value": 1}},
	} {
		if _, _, err := partsIn([]control.Part{p}); !errors.Is(err, shared.ErrInvalid) {
			t.Errorf("%v: %v", p, err)
		}
	}
}

func TestSettingChanges(t *testing.T) {
	began := &config.Config{Khelpd: config.Khelpd{LogLevel: "info", LogFormat: "text"}}
	now := &config.Config{Khelpd: config.Khelpd{LogLevel: "debug", LogFormat: "json"}}
	inForce := settingsOf(now)
	inForce["log_format"] = "text" // of began
	changes, warnings := settingChanges(inForce, settingsOf(now))
	if len(changes) != 0 || len(warnings) != 1 || !strings.HasPrefix(warnings[0], "log_format ") {
		t.Errorf("no change, but a restart is still due: %v, %q", changes, warnings)
	}
	changes, warnings = settingChanges(inForce, settingsOf(began))
	if len(changes) != 1 || changes[0].Name != settingLogLevel || len(warnings) != 0 {
		t.Errorf("back to the start: %v, %q", changes, warnings)
	}
	open := &config.Config{Khelpd: now.Khelpd, Access: &config.Access{}}
	if changes, _ = settingChanges(inForce, settingsOf(open)); len(changes) != 1 || changes[0].Name != settingAccess {
		t.Errorf("access appears: %v", changes)
	}
	rule := &config.Config{Khelpd: now.Khelpd, Access: &config.Access{Rules: []shared.AccessRule{{Privileges: []shared.Privilege{"stat"}, GIDs: []uint32{4}}}}}
	if changes, _ = settingChanges(settingsOf(open), settingsOf(rule)); len(changes) != 1 || changes[0].Name != settingAccess {
		t.Errorf("a rule appears: %v", changes)
	}
}

// A setting that could not be changed is tried again, and also when it is to be again what it was.
func TestSettingsThatFailAreTriedAgain(t *testing.T) {
	began := &config.Config{Khelpd: config.Khelpd{LogLevel: "info"}}
	d := newServer(&app{stderr: io.Discard}, "", began)
	lis, err := net.Listen("tcp", "127.0.0.1:0") // whose mode cannot be set
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	d.lis = lis
	open := &config.Config{Khelpd: config.Khelpd{LogLevel: "debug"}, Access: &config.Access{}}
	for i, next := range []*config.Config{open, open, began} {
		changes, _ := d.changeSettings(next)
		j := slices.IndexFunc(changes, func(c control.PartChange) bool { return c.Name == settingAccess })
		if j < 0 || changes[j].Err == nil {
			t.Errorf("change %d: %+v", i, changes)
		}
		if i == 1 && len(changes) != 1 {
			t.Errorf("what was changed is changed again: %+v", changes)
		}
	}
}

func TestBootErrorsAreTakenApart(t *testing.T) {
	a, b := &host.BootError{Helper: "a", Err: shared.ErrBusy}, &host.BootError{Helper: "b", Err: shared.ErrInvalid}
	other := shared.ErrExist.Errorf("configured twice")
	for _, tt := range []struct {
		err     error
		helpers string
		rest    error
	}{
		{nil, "", nil},
		{a, "a", nil},
		{errors.Join(a, b), "a b", nil},
		{other, "", shared.ErrExist},
		{errors.Join(a, other, b), "a b", shared.ErrExist},
	} {
		failures, rest := bootErrors(tt.err)
		var names []string
		for _, f := range failures {
			names = append(names, f.Helper)
		}
		if got := strings.Join(names, " "); got != tt.helpers || !errors.Is(rest, tt.rest) {
			t.Errorf("%v: %q and %v, want %q and %v", tt.err, got, rest, tt.helpers, tt.rest)
		}
	}
}

func TestCacheDir(t *testing.T) {
	t.Setenv(cacheEnv, "/elsewhere")
	if got := cacheDir(); got != "/elsewhere" {
		t.Errorf("of the environment: %s", got)
	}
	t.Setenv(cacheEnv, "")
	if got := cacheDir(); got == "" || strings.Contains(got, "elsewhere") {
		t.Errorf("by default: %s", got)
	}
}
