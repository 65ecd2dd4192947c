package modcache

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/khelp/khelp/host/hosttest/testkit"
	"github.com/khelp/khelp/shared/wire"
)

func TestTheCacheIsBounded(t *testing.T) {
	f := newFixture(t)
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range maxEntries + 9 {
		put(t, filepath.Join(f.dir, fmt.Sprintf("%064x", i)+suffix), "")
		age(t, filepath.Join(f.dir, fmt.Sprintf("%064x", i)+suffix), time.Duration(i+1)*time.Minute)
	}
	put(t, filepath.Join(f.dir, "new-1.tmp"), "left behind")
	age(t, filepath.Join(f.dir, "new-1.tmp"), 2*tempAge)
	put(t, filepath.Join(f.dir, "new-2.tmp"), "being written")
	age(t, filepath.Join(f.dir, "new-2.tmp"), tempAge/2)
	put(t, filepath.Join(f.dir, "README"), "somebody else's")
	c := Open(f.dir)
	c.Store(f.command, sumOf(programText), modinfo("1.0.0"))
	list, err := os.ReadDir(f.dir)
	if err != nil || len(list) != maxEntries+2 {
		t.Errorf("%d files, %v; want %d and two", len(list), err, maxEntries)
	}
	for _, kept := range []string{fmt.Sprintf("%064x", 0) + suffix, "new-2.tmp", "README"} {
		if _, err := os.Stat(filepath.Join(f.dir, kept)); err != nil {
			t.Error(err)
		}
	}
	f.hit(Open(f.dir), false, "1.0.0")
	for i := range 2 * maxEntries {
		c.remember(strconv.Itoa(i), &entry{})
	}
	if len(c.entries) != maxEntries {
		t.Errorf("%d entries in memory", len(c.entries))
	}
}

// Goroutines store and look up, over one cache and several of one directory, while the program changes. Invariant: what is found was
// stored for the program with the sum that is told.
func TestHammer(t *testing.T) {
	f := newFixture(t)
	shared := Open(f.dir)
	texts := []string{"one", "two!", "three"}
	var all sync.WaitGroup
	for g := range 6 {
		c := shared
		if g%2 == 1 {
			c = Open(f.dir)
		}
		all.Go(func() {
			for i := range 60 {
				text := texts[(g+i)%len(texts)]
				if g == 0 {
					tmp := filepath.Join(filepath.Dir(f.program), fmt.Sprint("next", i))
					if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
						t.Error(err)
					}
					if err := os.Rename(tmp, f.program); err != nil && runtime.GOOS != "windows" {
						t.Error(err)
					}
				}
				c.Store(f.command, sumOf(text), modinfo(text))
				if info, sum, ok := c.Lookup(f.command, i%2 == 0); ok && sumOf(info.Version) != sum {
					t.Errorf("what %s says is found under the sum %s", info.Version, sum)
				}
			}
		})
	}
	all.Wait()
}

// racer stores and looks up, in a process of its own, as TestProcessesShareADirectory has it.
func racer() {
	dir, command, rounds := os.Args[1], os.Args[3:], 200
	for i := range rounds {
		c := Open(dir)
		c.Store(command, sumOf(programText), modinfo(fmt.Sprintf("%s.%d.0", os.Args[2], i)))
		info, sum, ok := Open(dir).Lookup(command, i%2 == 0)
		if !ok || sum != sumOf(programText) || info.Name != "ertt" {
			fmt.Printf("round %d: %+v, %q, %v\n", i, info, sum, ok)
			os.Exit(1)
		}
	}
}

// Two processes write one file all the time. Invariant: once there is an entry there always is one, whole.
func TestProcessesShareADirectory(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a file that somebody reads cannot be replaced there")
	}
	f := newFixture(t)
	var all sync.WaitGroup
	for i := range 2 {
		line := testkit.Command("racer", append([]string{f.dir, strconv.Itoa(i)}, f.command...)...)
		all.Go(func() {
			if out, err := exec.CommandContext(t.Context(), line[0], line[1:]...).CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	all.Wait()
	if _, _, ok := Open(f.dir).Lookup(f.command, false); !ok {
		t.Error("nothing is left")
	}
	f.file() // and no temporary ones
}

func FuzzParse(f *testing.F) {
	e := &entry{command: []string{"/bin/x", "a"}, stored: time.Unix(1, 0).UTC(), files: []file{{Path: "/bin/x", SHA256: sumOf("x")}}}
	e.info, _ = proto.Marshal(wire.ModinfoToProto(modinfo("1.0.0")))
	good, err := e.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good[:len(good)-sha256.Size])
	f.Add([]byte(magic + "{}\n"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, body []byte) {
		if _, err := parse(body); err == nil && len(body) < sha256.Size {
			t.Error("parsed without a sum")
		}
		sum := sha256.Sum256(body)
		e, err := parse(append(bytes.Clone(body), sum[:]...))
		if err != nil {
			return
		}
		if info, err := decode(e.info); err == nil && (info == nil || info.Validate() != nil) {
			t.Errorf("invalid Modinfo %+v", info)
		}
		again, err := e.encode()
		if err != nil {
			return
		}
		twin, err := parse(again)
		if err != nil || !bytes.Equal(twin.info, e.info) || !cmp.Equal(twin.files, e.files) {
			t.Errorf("%+v becomes %+v, %v", e, twin, err)
		}
	})
}
