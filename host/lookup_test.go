//go:build unix

package host_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/host/hosttest/testkit"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/helper"
	"github.com/khelp/khelp/shared/wire"
)

func init() {
	for name, version := range map[string]string{"sought": "1.0.0", "other": "3.0.0"} {
		programs[name] = func() { helper.Serve(plain{Name: name, Version: version}) }
	}
	programs["boot-sought"] = func() { helper.Serve(plain{Name: "sought", Version: "2.0.0"}) }
}

// shelf makes a directory for a helper path with files that run programs: file, program, file, program.
func shelf(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		script := "#!/bin/sh\nexec '" + strings.Join(program(files[i+1]), "' '") + "'\n"
		if err := os.WriteFile(filepath.Join(dir, files[i]), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// A name is a builtin's, then a boot helper's, then a file's; a path is nobody's but the file's.
func TestL1_LookupOrder(t *testing.T) {
	testkit.CheckLeaks(t)
	dir := shelf(t, "sought", "sought")
	h := hosttest.New(t, host.Config{HelperPath: []string{t.TempDir(), dir}})
	f := &fixture{Host: h, t: t}
	is := func(source shared.Source, version string) {
		t.Helper()
		if st := f.helper("sought"); st.Source != source || st.Version != version || st.State != shared.StateActive {
			t.Errorf("%s %s %s; want %s %s", st.State, st.Source, st.Version, source, version)
		}
	}

	f.must(f.load("sought"))
	is(shared.SourceFilesys, "1.0.0")
	f.must(f.unload("sought"))

	boot := shared.HelperSpec{Name: "sought", Command: program("boot-sought")}
	if failed := h.Prime(t.Context(), []shared.HelperSpec{boot}); len(failed) > 0 {
		t.Fatal(failed[0])
	}
	f.must(f.load("sought"))
	is(shared.SourceBoot, "2.0.0")
	f.must(f.unload("sought"))

	f.must(h.OfferBuiltin(host.Builtin{Name: "sought", Version: "4.0.0"}))
	f.must(h.Load(t.Context(), shared.HelperSpec{Command: []string{filepath.Join(dir, "sought")}}, host.LoadOptions{}))
	is(shared.SourceFilesys, "1.0.0")
	f.must(f.unload("sought"))
	f.must(f.load("sought"))
	is(shared.SourceBuiltin, "4.0.0")

	wantErr(t, f.load("missing"), shared.ErrNotExist, dir)
	wantErr(t, h.Load(t.Context(), shared.HelperSpec{Command: []string{"./sought"}}, host.LoadOptions{}), shared.ErrNotExist, "sought")
}

// A path is not the primed helper of the same name, nor the disabled builtin, but for the same command.
func TestL1_APathClaimsNobodyElse(t *testing.T) {
	testkit.CheckLeaks(t)
	dir := shelf(t, "sought", "sought")
	h := hosttest.New(t, host.Config{HelperPath: []string{dir}})
	f := &fixture{Host: h, t: t}
	boot := shared.HelperSpec{Name: "sought", Command: program("boot-sought")}
	if failed := h.Prime(t.Context(), []shared.HelperSpec{boot}); len(failed) > 0 {
		t.Fatal(failed[0])
	}
	path := shared.HelperSpec{Command: []string{filepath.Join(dir, "sought")}}
	wantErr(t, h.Load(t.Context(), path, host.LoadOptions{}), shared.ErrExist, "primed")
	f.want("sought=primed")
	f.must(h.Load(t.Context(), boot, host.LoadOptions{}))
	if st := f.helper("sought"); st.Version != "2.0.0" || st.Source != shared.SourceBoot {
		t.Errorf("%+v", st)
	}
	f.must(f.unload("sought"))

	f.must(h.AddBuiltin(host.Builtin{Name: "sought", Version: "4.0.0"}))
	f.must(h.Unload(t.Context(), "sought", host.UnloadOptions{Disable: true}))
	wantErr(t, h.Load(t.Context(), path, host.LoadOptions{Force: true}), shared.ErrExist, "builtin")
	f.want("sought=disabled")
}

// A file's name is only a guess: it keeps nobody from being loaded, and takes nobody else's place.
func TestL2_TheFileIsOnlyAGuess(t *testing.T) {
	testkit.CheckLeaks(t)
	dir := shelf(t, "sought", "other")
	h := hosttest.New(t, host.Config{})
	f := &fixture{Host: h, t: t}
	f.must(h.Load(t.Context(), shared.HelperSpec{Name: "sought", Command: program("sought")}, host.LoadOptions{}))
	path := shared.HelperSpec{Command: []string{filepath.Join(dir, "sought")}}
	f.must(h.Load(t.Context(), path, host.LoadOptions{}))
	f.want("sought=active other=active")
	wantErr(t, h.Load(t.Context(), path, host.LoadOptions{}), shared.ErrExist, `"other" is loaded already`)
}

// What a helper says its name is must be what it was asked for by, for a requirement too; then nothing stays behind.
func TestL2_AnotherName(t *testing.T) {
	f := newFixture(t, host.Config{})
	f.putRaw("ertt", func(m *wire.Modinfo) { m.Name = "vegas" })
	f.put("top", "base", "ertt")
	f.put("base")
	f.configure("top", "base", "ertt")
	wantErr(t, f.load("ertt"), shared.ErrInvalid, `"ertt", but it says its name is "vegas"`)
	wantErr(t, f.load("top"), shared.ErrInvalid, `top requires ertt: the helper asked for is "ertt", but it says its name is "vegas"`)
	f.want("")
}

func TestL3_ClassesAreNarrowed(t *testing.T) {
	classed := func(name string) *fixture {
		f := newFixture(t, host.Config{})
		hosttest.Put(f.path, helper.Helper[counter]{Name: name, Version: "1.0.0", Classes: helper.Classes{"tcp", "socket", "udp"}})
		return f
	}
	for _, c := range []struct {
		name       string
		spec, load []shared.Class
		want       string
		objects    map[shared.Class]int // slots on an object of the class
		refused    string
	}{
		{name: "all", want: "tcp socket udp", objects: map[shared.Class]int{"tcp": 1, "socket": 1, "udp": 1, "x": 0}},
		{name: "by the spec", spec: []shared.Class{"tcp", "udp"}, want: "tcp udp", objects: map[shared.Class]int{"tcp": 1, "socket": 0}},
		{name: "at load time", load: []shared.Class{"socket"}, want: "socket", objects: map[shared.Class]int{"tcp": 0, "socket": 1}},
		{name: "by both", spec: []shared.Class{"tcp", "udp"}, load: []shared.Class{"udp"}, want: "udp", objects: map[shared.Class]int{"tcp": 0, "udp": 1}},
		{name: "no such", spec: []shared.Class{"icmp"}, refused: `class "icmp"`},
		{name: "no such at load time", load: []shared.Class{"tcp", "icmp"}, refused: `class "icmp"`},
		{name: "not left by the spec", spec: []shared.Class{"tcp"}, load: []shared.Class{"udp"}, refused: `class "udp"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := classed("ertt")
			err := f.Load(t.Context(), shared.HelperSpec{Name: "ertt", Classes: c.spec}, host.LoadOptions{Classes: c.load})
			if c.refused != "" {
				wantErr(t, err, shared.ErrNotExist, c.refused)
				f.want("")
				return
			}
			f.must(err)
			var got []string
			for _, class := range f.helper("ertt").Classes {
				got = append(got, string(class))
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("classes %v, want %s", got, c.want)
			}
			for class, slots := range c.objects {
				o := object(t, f.Host, class)
				if len(o.Slots()) != slots {
					t.Errorf("%d slots on an object of class %s, want %d", len(o.Slots()), class, slots)
				}
				destroy(t, o)
			}
		})
	}
}

// A helper of another API generation is refused, or forced with a warning. Force passes on to what is required, and properties do not.
func TestL4_AnotherAPI(t *testing.T) {
	log := &logBuffer{}
	f := newFixture(t, host.Config{Logger: log.logger()})
	old := func(m *wire.Modinfo) { m.Api = 99 }
	f.putRaw("old", old)
	f.putRaw("base", func(m *wire.Modinfo) {
		old(m)
		m.Properties = []*wire.Property{{Name: "rate", Type: "int", Default: wire.ValueToProto(int64(7))}}
	})
	var got map[string]*wire.Value
	f.raw["base"].control = func(req *wire.ControlToHelper) *wire.Answer {
		if init := req.GetInit(); init != nil {
			got = init.GetConfig()
		}
		return &wire.Answer{}
	}
	type config struct{ Rate int }
	hosttest.Put(f.path, plain{Name: "top", Version: "1.0.0", Requires: []string{"base"}, Config: &config{}})
	f.configure("old", "top", "base")

	wantErr(t, f.load("old"), shared.ErrIncompatible, "API generation 99, this host has 1")
	wantErr(t, f.load("top"), shared.ErrIncompatible, "top requires base: base was built for API generation 99")
	f.want("")
	forced := host.LoadOptions{Force: true, Properties: map[string]any{"rate": 9}}
	f.must(f.Load(context.Background(), shared.HelperSpec{Name: "top"}, forced))
	f.want("top=active base=active")
	if rate, err := wire.ValueFromProto(got["rate"]); err != nil || rate != int64(7) {
		t.Errorf("the requirement's rate is %v, %v; want its default, 7", rate, err)
	}
	if want := "base: forced load of a helper built for another API generation"; !strings.Contains(log.String(), want) {
		t.Errorf("no %q in %s", want, log.String())
	}
	if strings.Contains(log.String(), "top: forced") {
		t.Errorf("a warning of a helper that is none of another API: %s", log.String())
	}
}
