package modcache

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

func modinfo(version string) *shared.Modinfo {
	return &shared.Modinfo{
		Name: "ertt", Version: version, API: shared.APIGeneration, Classes: []shared.Class{"tcp"}, NeedsOSD: true,
		OSD:        shared.OSDInfo{Template: []byte{1, 2}, HasTemplate: true, MaxBytes: 64},
		Hooks:      []shared.HookInfo{{Point: "tcp.est_in", Index: 3, UData: []byte{0xff}}},
		Properties: []shared.Property{{Name: "smoothing", Type: shared.PropertyInt, Default: int64(5)}},
		Sections:   []shared.Section{{Name: "readme", Data: []byte("hello")}},
	}
}

func sumOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// put makes a file that was changed last an hour ago.
func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	age(t, path, time.Hour)
}

func age(t *testing.T, path string, by time.Duration) {
	t.Helper()
	at := time.Now().Add(-by)
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

// fixture is a helper in a script, and a directory for the cache that is not made yet.
type fixture struct {
	t                    *testing.T
	dir, program, script string
	command              []string
}

const programText, scriptText = "#!interpreter", "print('hi')"

func newFixture(t *testing.T) *fixture {
	t.Helper()
	root := t.TempDir()
	f := &fixture{
		t: t, dir: filepath.Join(root, "cache", "modinfo"), program: filepath.Join(root, "program"), script: filepath.Join(root, "h.py"),
	}
	put(t, f.program, programText)
	put(t, f.script, scriptText)
	f.command = []string{f.program, "-v", f.script}
	return f
}

// file is the one file in the cache's directory.
func (f *fixture) file() string {
	f.t.Helper()
	list, err := os.ReadDir(f.dir)
	if err != nil || len(list) != 1 {
		f.t.Fatalf("%d files, %v; want one", len(list), err)
	}
	return filepath.Join(f.dir, list[0].Name())
}

func (f *fixture) hit(c *Cache, exact bool, version string) {
	f.t.Helper()
	info, sum, ok := c.Lookup(f.command, exact)
	if !ok || sum != sumOf(programText) {
		f.t.Fatalf("Lookup = %v, %q, %v", info, sum, ok)
	}
	if diff := cmp.Diff(modinfo(version), info); diff != "" {
		f.t.Error(diff)
	}
}

func (f *fixture) miss(c *Cache, exact bool) {
	f.t.Helper()
	if info, sum, ok := c.Lookup(f.command, exact); ok || info != nil || sum != "" {
		f.t.Fatalf("Lookup = %+v, %q, %v; want nothing", info, sum, ok)
	}
}

func TestWhatIsStoredIsFound(t *testing.T) {
	for _, inMemory := range []bool{false, true} {
		f := newFixture(t)
		if inMemory {
			f.dir = ""
		}
		c := Open(f.dir)
		f.miss(c, false)
		f.miss(c, true)
		c.Store(f.command, strings.ToUpper(sumOf(programText)), modinfo("1.0.0"))
		f.hit(c, false, "1.0.0")
		f.hit(c, true, "1.0.0")
		info, _, _ := c.Lookup(f.command, false)
		info.Hooks[0].Point = "changed.by_the_caller"
		f.hit(c, false, "1.0.0")
		c.Store(f.command, sumOf(programText), modinfo("1.0.1")) // the same file may say something else the next time
		f.hit(c, false, "1.0.1")
		for _, other := range [][]string{
			nil, {""}, {f.program}, {f.program, "-v"}, {f.program, "-v", f.script, ""}, {f.script}, {f.program, "-v\x00", f.script},
		} {
			if _, _, ok := c.Lookup(other, true); ok {
				t.Errorf("%q is taken for %q", other, f.command)
			}
		}
		if inMemory {
			f.miss(Open(""), true)
			continue
		}
		f.hit(Open(f.dir), false, "1.0.1")
		t.Chdir(filepath.Dir(f.program))
		f.command[0] = "program"
		if runtime.GOOS != "windows" {
			f.command[0] = "./program"
		}
		f.hit(Open(f.dir), false, "1.0.1")
	}
}

func TestAnIdentityThatChangedIsAMissUnlessTheContentIsLookedAt(t *testing.T) {
	for what, change := range map[string]func(f *fixture){
		"program touched": func(f *fixture) { age(f.t, f.program, time.Minute) },
		"script touched":  func(f *fixture) { age(f.t, f.script, time.Minute) },
		"program copied over": func(f *fixture) {
			put(f.t, f.program+".new", programText)
			if err := os.Rename(f.program+".new", f.program); err != nil {
				f.t.Fatal(err)
			}
			age(f.t, f.program, 90*time.Minute)
		},
	} {
		t.Run(what, func(t *testing.T) {
			f := newFixture(t)
			c := Open(f.dir)
			c.Store(f.command, sumOf(programText), modinfo("1.0.0"))
			change(f)
			f.miss(c, false)
			f.miss(Open(f.dir), false)
			f.hit(c, true, "1.0.0")
			f.hit(c, false, "1.0.0")
			f.hit(Open(f.dir), false, "1.0.0") // the refreshed identity has been written
		})
	}
}

func TestOtherContentIsAMiss(t *testing.T) {
	for what, change := range map[string]func(f *fixture){
		"program":      func(f *fixture) { put(f.t, f.program, "other") },
		"script":       func(f *fixture) { put(f.t, f.script, "other") },
		"script gone":  func(f *fixture) { os.Remove(f.script) },
		"program gone": func(f *fixture) { os.Remove(f.program) },
		"a new file":   func(f *fixture) { f.t.Chdir(filepath.Dir(f.program)); put(f.t, "-v", "") },
		"a directory":  func(f *fixture) { os.Remove(f.script); put(f.t, filepath.Join(f.script, "file"), "") },
	} {
		t.Run(what, func(t *testing.T) {
			f := newFixture(t)
			c := Open(f.dir)
			c.Store(f.command, sumOf(programText), modinfo("1.0.0"))
			change(f)
			for _, exact := range []bool{false, true} {
				f.miss(c, exact)
				f.miss(Open(f.dir), exact)
			}
		})
	}
}

// A file that was changed a moment before it was looked at may change again and look the same.
func TestAFreshChangeIsNotTrusted(t *testing.T) {
	f := newFixture(t)
	info, err := os.Stat(f.script)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	change := func(text string) {
		t.Helper()
		if err := os.WriteFile(f.script, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(f.script, now, now); err != nil {
			t.Fatal(err)
		}
	}
	change(scriptText)
	c := Open(f.dir)
	c.Store(f.command, sumOf(programText), modinfo("1.0.0"))
	f.hit(c, false, "1.0.0")
	change(strings.Repeat("x", int(info.Size()))) // the same size, time and inode
	f.miss(c, false)
	f.miss(Open(f.dir), true)
}

func TestStoreKeepsNothingThatIsNotTrue(t *testing.T) {
	f := newFixture(t)
	c := Open(f.dir)
	c.Store(f.command, sumOf("what the program was when it ran"), modinfo("1.0.0"))
	f.miss(c, true)
	bad := modinfo("1.0.0")
	bad.Reads = []string{"no \xff text"}
	c.Store(f.command, sumOf(programText), bad)
	f.miss(c, true)
	c.Store(nil, "", modinfo("1.0.0"))
	c.Store([]string{filepath.Join(f.dir, "missing")}, "", modinfo("1.0.0"))
	c.Store([]string{filepath.Dir(f.program)}, "", modinfo("1.0.0"))
	if _, err := os.Stat(f.dir); !os.IsNotExist(err) {
		t.Errorf("the directory: %v", err)
	}
	invalid := modinfo("1.0.0")
	invalid.Name = "Not A Name"
	c.Store(f.command, sumOf(programText), invalid)
	f.miss(c, true)
	f.miss(Open(f.dir), true)
}

// A large file that a program is given is not read; it must be the one it was.
func TestLargeArguments(t *testing.T) {
	f := newFixture(t)
	if err := os.Truncate(f.script, maxScript+1); err != nil {
		t.Fatal(err)
	}
	c := Open(f.dir)
	c.Store(f.command, sumOf(programText), modinfo("1.0.0"))
	f.hit(c, false, "1.0.0")
	f.hit(Open(f.dir), true, "1.0.0")
	age(t, f.script, time.Minute)
	f.miss(c, true)
}

func TestFilesOfTheCache(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes and links are other things there")
	}
	f := newFixture(t)
	c := Open(f.dir)
	c.Store(f.command, sumOf(programText), modinfo("1.0.0"))
	path := f.file()
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != 0o644 {
		t.Errorf("mode %v, %v; want 0644", info.Mode(), err)
	}
	if info, err := os.Stat(f.dir); err != nil || info.Mode() != fs.ModeDir|0o755 {
		t.Errorf("the directory has mode %v, %v; want 0755", info.Mode(), err)
	}
	// A link under the name of the file is replaced, not written through.
	victim := filepath.Join(t.TempDir(), "victim")
	put(t, victim, "precious")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, path); err != nil {
		t.Fatal(err)
	}
	f.miss(Open(f.dir), false)
	c.Store(f.command, sumOf(programText), modinfo("1.0.1"))
	if text, err := os.ReadFile(victim); err != nil || string(text) != "precious" {
		t.Errorf("what the link led to is %q, %v", text, err)
	}
	if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
		t.Errorf("%v, %v; want a regular file", info.Mode(), err)
	}
	f.hit(Open(f.dir), false, "1.0.1")
}

func TestFilesThatAreNoneOfOurs(t *testing.T) {
	f := newFixture(t)
	Open(f.dir).Store(f.command, sumOf(programText), modinfo("1.0.0"))
	path := f.file()
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	seal := func(text []byte) []byte {
		sum := sha256.Sum256(text)
		return append(bytes.Clone(text), sum[:]...)
	}
	body := good[:len(good)-sha256.Size]
	bad := map[string][]byte{
		"empty": {}, "cut": good[:len(good)-1], "longer": append(bytes.Clone(good), 0), "another magic": seal([]byte("khelp modinfo 2\n{}\n")),
		"no header": seal([]byte(magic)), "header cut": seal([]byte(magic + `{"command":["/x"]`)), "no files": seal([]byte(magic + "{}\n")),
		"more files than words": seal([]byte(magic + `{"command":["/x"],"files":[{"sha256":"x"},{}]}` + "\n")),
		"another command":       seal(bytes.Replace(body, []byte(`"-v"`), []byte(`"-w"`), 1)),
		"modinfo cut":           seal(body[:len(body)-1]),
		"modinfo invalid":       seal(bytes.Replace(body, []byte("tcp.est_in"), []byte("tcp-est_in"), 1)),
		"too large":             append(bytes.Clone(good), make([]byte, maxFile)...),
	}
	for i := range good {
		flipped := bytes.Clone(good)
		flipped[i] ^= 0x20
		bad["bit at "+strconv.Itoa(i)] = flipped
	}
	for what, text := range bad {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if info, _, ok := Open(f.dir).Lookup(f.command, true); ok {
			t.Errorf("%s: %+v", what, info)
		}
	}
	c := Open(f.dir)
	c.Store(f.command, sumOf(programText), modinfo("1.0.0"))
	f.hit(Open(f.dir), false, "1.0.0")
	// What cannot be overwritten does no harm.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(path, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	c.Store(f.command, sumOf(programText), modinfo("1.0.1"))
	f.hit(c, false, "1.0.1")
	f.miss(Open(f.dir), false)
}

func TestADirectoryThatCannotBeUsedIsNoError(t *testing.T) {
	f := newFixture(t)
	for _, dir := range []string{f.program, filepath.Join(f.program, "below a file")} {
		c := Open(dir)
		f.miss(c, false)
		c.Store(f.command, sumOf(programText), modinfo("1.0.0"))
		f.hit(c, false, "1.0.0")
		c.Store(f.command, sumOf(programText), modinfo("1.0.0"))
		f.hit(c, true, "1.0.0")
	}
}

func TestWhatIsTooLargeForAFileIsKeptInMemory(t *testing.T) {
	f := newFixture(t)
	c := Open(f.dir)
	large := modinfo("1.0.0")
	large.Sections[0].Data = make([]byte, maxFile)
	c.Store(f.command, sumOf(programText), large)
	if info, _, ok := c.Lookup(f.command, false); !ok || len(info.Sections[0].Data) != maxFile {
		t.Error("it is not kept")
	}
	f.miss(Open(f.dir), false)
	largest := modinfo("1.0.0")
	largest.Sections[0].Data = make([]byte, wire.MaxFrame-proto.Size(wire.ModinfoToProto(modinfo("1.0.0")))-8)
	c.Store(f.command, sumOf(programText), largest)
	if info, _, ok := Open(f.dir).Lookup(f.command, false); !ok || len(info.Sections[0].Data) != len(largest.Sections[0].Data) {
		t.Error("the largest Modinfo that a helper can send is not kept")
	}
}
