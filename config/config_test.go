package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/hcl/v2"

	"github.com/khelp/khelp/shared"
)

// parsed is Parse for a text that is in order.
func parsed(t testing.TB, name, text string) *Config {
	t.Helper()
	cfg, diags := Parse(name, []byte(text))
	if len(diags) > 0 {
		t.Fatal(render(t, cfg, diags))
	}
	return cfg
}

func TestLoadWhole(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("KHELP_TEST_ZONE", "UTC")
	t.Setenv("KHELP_TEST_EMPTY", "")
	writeFile(t, filepath.Join(dir, "10-main.hcl"), []byte(`
khelpd {
  control_socket = "khelpd.sock"
  helper_path    = ["/usr/libexec/khelp", "./bin", "more"]
  log_level      = "debug"
  log_format     = "json"
  autoload       = ["clock", "base"]
}

access {
  allow {
    actions = ["stat", "logs"]
    users   = ["4000000001", "4000000002"]
  }
  allow {
    actions = ["load", "unload", "autoload"]
    groups  = ["4000000003"]
  }
}

helper "ertt" {
  command    = ["./bin/ertt", "-x", "./y"]
  sha256     = "ABCDEF6789012345678901234567890123456789012345678901234567890123"
  version    = "~> 1.0"
  classes    = ["tcp", "socket"]
  requires   = ["clock", "base ~> 1.2", "other >= 1.0, < 2.0"]
  load       = "manual"
  timeout    = "200ms"
  on_failure = "open"
  on_cause   = { crash = "closed", "too_large" = "open" }
  env        = { TZ = env("KHELP_TEST_ZONE"), EMPTY = env("KHELP_TEST_EMPTY"), "a.b" = "${"x"}y" }

  hook "tcp.est_in" {
    order      = "first"
    timeout    = "5ms"
    on_failure = "closed"
    on_cause   = { hung = "open" }
    required   = true
  }
  config {
    text   = file("greeting.txt")
    flag   = true
    whole  = -5
    big    = 9223372036854775807
    real   = 0.5
    list   = ["a", "b"]
    empty  = []
    picked = [for s in ["c"] : s]
  }
  hook "tcp.est_out" {
    order = "after clock"
  }
  autounload {
    policy = "once"
    after  = "30s"
  }
}
`))
	writeFile(t, filepath.Join(dir, "greeting.txt"), []byte("hello\n"))
	writeFile(t, filepath.Join(dir, "20-tcp.hcl"), []byte(`
helper "clock" {
  command = ["clock"]
  load    = "demand"
}

autounload {
  after          = "1m"
  memory_floor   = "12.5%"
  under_pressure = "unreferenced"
}

tcp "web" {
  listen   = "127.0.0.1:8080"
  upstream = "[::1]:9000"
  vnet     = "edge"
  async    = false
}

tcp "any" {
  listen   = ":0"
  upstream = "localhost:1"
}
`))
	writeFile(t, filepath.Join(dir, "ignored.txt"), []byte("{{{"))
	writeFile(t, filepath.Join(dir, ".ignored.hcl"), []byte("{{{"))
	writeFile(t, filepath.Join(dir, "sub.hcl", "ignored.hcl"), []byte("{{{"))

	cfg, diags := Load(dir)
	if len(diags) > 0 {
		t.Fatal(render(t, cfg, diags))
	}
	want := &Config{
		Khelpd: Khelpd{
			ControlSocket: filepath.Join(dir, "khelpd.sock"),
			HelperPath:    []string{"/usr/libexec/khelp", filepath.Join(dir, "bin"), filepath.Join(dir, "more")},
			LogLevel:      "debug",
			LogFormat:     "json",
			Autoload:      shared.AutoloadScope{Names: []string{"clock", "base"}},
		},
		Autounload: Autounload{After: time.Minute, MemoryFloor: 0.125, UnderPressure: "unreferenced"},
		Access: &Access{Rules: []shared.AccessRule{
			{Privileges: []shared.Privilege{shared.PrivilegeStat, shared.PrivilegeLogs}, UIDs: []uint32{4000000001, 4000000002}},
			{
				Privileges: []shared.Privilege{shared.PrivilegeLoad, shared.PrivilegeUnload, shared.PrivilegeAutoload},
				GIDs:       []uint32{4000000003},
			},
		}},
		Helpers: []Helper{
			{Spec: shared.HelperSpec{
				Name:      "ertt",
				Command:   []string{filepath.Join(dir, "bin", "ertt"), "-x", "./y"},
				SHA256:    "ABCDEF6789012345678901234567890123456789012345678901234567890123",
				Version:   "~> 1.0",
				Classes:   []shared.Class{"tcp", "socket"},
				Requires:  []shared.Requirement{{Name: "clock"}, {Name: "base", Constraint: "~> 1.2"}, {Name: "other", Constraint: ">= 1.0, < 2.0"}},
				Load:      shared.LoadManual,
				Timeout:   200 * time.Millisecond,
				OnFailure: shared.Open,
				OnCause:   map[shared.Cause]shared.Action{shared.CauseCrash: shared.Closed, shared.CauseTooLarge: shared.Open},
				Env:       map[string]string{"TZ": "UTC", "EMPTY": "", "a.b": "xy"},
				Config: map[string]any{
					"text": "hello\n", "flag": true, "whole": int64(-5), "big": int64(9223372036854775807), "real": 0.5,
					"list": []any{"a", "b"}, "empty": []any{}, "picked": []any{"c"},
				},
				Hooks: []shared.HookSpec{
					{
						Point: "tcp.est_in", Order: shared.Order{Place: shared.First}, Timeout: 5 * time.Millisecond, OnFailure: shared.Closed,
						OnCause: map[shared.Cause]shared.Action{shared.CauseHung: shared.Open}, Required: true,
					},
					{Point: "tcp.est_out", Order: shared.Order{Place: shared.After, Helper: "clock"}},
				},
				Autounload:      shared.AutounloadOnce,
				AutounloadAfter: 30 * time.Second,
			}},
			{Spec: shared.HelperSpec{Name: "clock", Command: []string{"clock"}, Load: shared.LoadDemand}},
		},
		TCP: []TCP{
			{Name: "web", Listen: "127.0.0.1:8080", Upstream: "[::1]:9000", Vnet: "edge"},
			{Name: "any", Listen: ":0", Upstream: "localhost:1", Async: true},
		},
	}
	ignore := []cmp.Option{
		cmpopts.IgnoreTypes(hcl.Range{}), cmpopts.IgnoreFields(Config{}, "Files"),
		cmpopts.IgnoreUnexported(Khelpd{}, Helper{}, TCP{}),
	}
	if diff := cmp.Diff(want, cfg, ignore...); diff != "" {
		t.Errorf("configuration differs (-want +got):\n%s", diff)
	}
	for i := range cfg.Helpers {
		if err := cfg.Helpers[i].Spec.Validate(); err != nil {
			t.Errorf("the spec of a helper that was loaded: %v", err)
		}
	}
	if cfg.Helper("clock") == nil || cfg.Helper("nobody") != nil {
		t.Error("Helper does not find by label")
	}
}

func TestDefaults(t *testing.T) {
	cfg := parsed(t, "khelpd.hcl", "helper \"ertt\" {\n}\n")
	want := Khelpd{ControlSocket: "/run/khelpd/khelpd.sock", LogLevel: "info", LogFormat: "text"}
	if diff := cmp.Diff(want, cfg.Khelpd, cmpopts.IgnoreTypes(hcl.Range{}), cmpopts.IgnoreUnexported(Khelpd{})); diff != "" {
		t.Errorf("khelpd without a block (-want +got):\n%s", diff)
	}
	if cfg.Access != nil || cfg.Autounload != (Autounload{}) {
		t.Errorf("without their blocks there are access %+v and autounload %+v", cfg.Access, cfg.Autounload)
	}
	spec := shared.HelperSpec{Name: "ertt", Load: shared.LoadBoot}
	if diff := cmp.Diff(spec, cfg.Helpers[0].Spec); diff != "" {
		t.Errorf("an empty helper block (-want +got):\n%s", diff)
	}
}

func TestEmptyFileIsAConfiguration(t *testing.T) {
	cfg := parsed(t, "khelpd.hcl", "")
	if len(cfg.Helpers)+len(cfg.TCP) > 0 {
		t.Errorf("an empty file has blocks: %+v", cfg)
	}
}

func TestPathsAreRelativeToTheirFile(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	dir, err := os.Getwd() // as Abs sees it
	if err != nil {
		t.Fatal(err)
	}
	cfg := parsed(t, filepath.Join("etc", "khelpd.hcl"), `
helper "a" {
  command = ["../bin/a"]
}
helper "b" {
  command = ["b"]
}
helper "c" {
  command = ["/opt/./c"]
}
`)
	for i, want := range []string{filepath.Join(dir, "bin", "a"), "b", filepath.FromSlash("/opt/c")} {
		if got := cfg.Helpers[i].Spec.Command[0]; got != want {
			t.Errorf("helper %d runs %q, want %q", i, got, want)
		}
	}
}

func TestFileFunctionLimits(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "binary"), []byte{0xff, 0xfe, 0x80})
	writeFile(t, filepath.Join(dir, "large"), make([]byte, maxFile+1))
	for name, want := range map[string]string{"binary": "is not valid UTF-8", "large": "larger than 4 MiB"} {
		text := "helper \"a\" {\n  config {\n    x = file(\"" + name + "\")\n  }\n}\n"
		cfg, diags := Parse(filepath.Join(dir, "khelpd.hcl"), []byte(text))
		if out := render(t, cfg, diags); !diags.HasErrors() || !strings.Contains(out, want) || !strings.Contains(out, "line 3") {
			t.Errorf("file(%q): want %q at line 3, got:\n%s", name, want, out)
		}
	}
	if _, diags := Load(filepath.Join(dir, "large")); !diags.HasErrors() {
		t.Error("a configuration beyond the limit was read")
	}
}

func TestEnvThatIsNotText(t *testing.T) {
	t.Setenv("KHELP_TEST_BINARY", "\xff")
	_, diags := Parse("khelpd.hcl", []byte("helper \"a\" {\n  env = { A = env(\"KHELP_TEST_BINARY\") }\n}\n"))
	if len(diags) != 1 || !strings.Contains(diags[0].Detail, "not valid UTF-8") {
		t.Errorf("diagnostics: %v", diags)
	}
}

// TestHostileNesting: what would fill the parser's stack, when there is enough of it, is an error at its place before the parser sees it.
func TestHostileNesting(t *testing.T) {
	for _, unit := range []string{
		"(", "[", "{", "!", "-", "\"${", "a {\n", "a ? ", "f(", "1 +", "{ a = ", "\"%{ if true }", "<<E\n${", "%{", "a.", "[0]", "[*]", "a[",
	} {
		text := "helper \"a\" {\n  timeout = " + strings.Repeat(unit, 20_000)
		cfg, diags := Parse("khelpd.hcl", []byte(text))
		if len(diags) != 1 || diags[0].Summary != "Nested too deeply" && diags[0].Summary != "Too many operators" {
			t.Errorf("%q 20,000 times: %v", unit, diags)
		}
		checkRanges(t, cfg, diags)
	}
}

func TestManyHelpers(t *testing.T) {
	cfg := parsed(t, "khelpd.hcl", manyHelpers(1000))
	if len(cfg.Helpers) != 1000 {
		t.Fatalf("%d helpers, want 1000", len(cfg.Helpers))
	}
	if diags := cfg.Check(manyKnown, nil); len(diags) > 0 {
		t.Fatal(render(t, cfg, diags))
	}
}

// BenchmarkValidate1000 validates 1,000 helpers that are all known, with ten requirements each, and that all hook one point in an order.
func BenchmarkValidate1000(b *testing.B) {
	text := []byte(manyHelpers(1000))
	for b.Loop() {
		cfg, diags := Parse("khelpd.hcl", text)
		if diags = append(diags, cfg.Check(manyKnown, nil)...); len(diags) > 0 {
			b.Fatal(diags)
		}
	}
}
