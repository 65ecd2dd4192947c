// Package khelp_test holds the tree to its layout: which rooms there are, and
// which way imports run between them.
package khelp_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/khelp/khelp"

// edge allows the packages of one room to import those of another. A room is a
// package path below the module, in which * stands for one element; a package
// belongs to the first room of the list below that fits it. The reason says why
// the import is needed, so that nobody adds one for convenience.
type edge struct {
	from, to, why string
}

// rooms are the packages that may exist, the more particular ones first.
var rooms = []string{
	"shared",
	"shared/points/*",
	"shared/wire",
	"shared/helper",
	"host",
	"host/hhook",
	"host/osd",
	"host/control",
	"host/control/controlv1",
	"host/tcp",
	"host/hosttest",
	"host/internal/launch",
	"host/internal/lane",
	"host/internal/filesum",
	"host/internal/*",
	"config",
	"plugins/*",
	"cmd/khelpd",
	"examples/*",
	"examples/*/*",
	"host/hosttest/testkit",
}

// topLevel are the directories that may stand at the root, hidden ones and
// bin, which is built, aside.
var topLevel = []string{"cmd", "config", "examples", "host", "plugins", "shared"}

var edges = []edge{
	{"shared/points/*", "shared", "a subsystem's published context names its hook points"},
	{"shared/wire", "shared", "the protocol carries the vocabulary"},
	{"shared/helper", "shared", "authors speak the vocabulary"},
	{"shared/helper", "shared/wire", "the SDK serves the protocol"},

	{"host/osd", "shared", "slots are made from what helpers declare"},
	{"host/hhook", "shared", "points, verdicts and orders are vocabulary"},
	{"host/hhook", "host/osd", "a hook runs on an object and commits its slot"},
	{"host/internal/launch", "shared", "launch failures are the shared sentinels"},
	{"host/internal/launch", "shared/wire", "go-plugin's handshake is part of the protocol"},
	{"host/internal/launch", "host/internal/filesum", "the sum of a program is taken once"},
	{"host/internal/lane", "shared", "calls end in verdicts and the shared sentinels"},
	{"host/internal/lane", "shared/wire", "lanes carry the protocol's frames"},
	{"host/internal/*", "shared", "vocabulary"},
	{"host/internal/*", "shared/wire", "parts of the engine speak the protocol"},
	{"host/internal/*", "host/osd", "parts of the engine handle objects"},
	{"host/internal/*", "host/internal/launch", "parts of the engine start processes"},
	{"host/internal/*", "host/internal/lane", "parts of the engine send calls"},
	{"host/internal/*", "host/internal/filesum", "what is kept of a program is kept by its sum"},
	{"host/internal/*", "host/internal/*", "parts of the engine use one another"},
	{"host", "shared", "vocabulary"},
	{"host", "shared/wire", "Describe and Control are spoken by the engine itself"},
	{"host", "host/hhook", "the engine registers heads and binds hooks"},
	{"host", "host/osd", "the engine makes objects and slots"},
	{"host", "host/internal/launch", "the engine starts processes"},
	{"host", "host/internal/lane", "the engine sends calls"},
	{"host", "host/internal/*", "the engine's own parts"},
	{"host/control", "shared", "errors come out of the client as the shared sentinels"},
	{"host/control", "shared/wire", "error codes are translated in one place"},
	{"host/control", "host", "the service controls a host"},
	{"host/control", "host/control/controlv1", "the messages of the service"},
	{"host/tcp", "shared", "vocabulary"},
	{"host/tcp", "shared/points/*", "the published context of its points"},
	{"host/tcp", "host/hhook", "the subsystem runs heads"},
	{"host/tcp", "host/osd", "the subsystem keeps an object per connection"},
	{"host/hosttest", "shared", "vocabulary"},
	{"host/hosttest", "shared/wire", "faulty helpers are written below the SDK"},
	{"host/hosttest", "shared/helper", "helpers run inside the test"},
	{"host/hosttest", "shared/points/*", "a fake subsystem has contexts"},
	{"host/hosttest", "host", "the fixture is a host"},
	{"host/hosttest", "host/hhook", "a fake subsystem runs heads"},
	{"host/hosttest", "host/osd", "a fake subsystem makes objects"},
	{"host/hosttest", "host/hosttest/testkit", "embedders' tests are checked as ours are"},

	{"config", "shared", "HCL maps onto the shared specs"},
	{"config", "shared/points/*", "conditions on a hook are checked against its context"},

	{"cmd/khelpd", "shared", "vocabulary"},
	{"cmd/khelpd", "shared/points/*", "the daemon knows the contexts it prints"},
	{"cmd/khelpd", "shared/wire", "the daemon tells the protocol's version"},
	{"cmd/khelpd", "shared/helper", "its bench is also a helper"},
	{"cmd/khelpd", "host", "the daemon is an embedder"},
	{"cmd/khelpd", "host/hhook", "heads are made and shown"},
	{"cmd/khelpd", "host/osd", "objects are made and shown"},
	{"cmd/khelpd", "host/control", "the daemon serves it, the command line calls it"},
	{"cmd/khelpd", "host/control/controlv1", "messages of the control service"},
	{"cmd/khelpd", "host/tcp", "the daemon's subsystem"},
	{"cmd/khelpd", "config", "the daemon reads HCL"},

	{"plugins/*", "shared", "vocabulary"},
	{"plugins/*", "shared/points/*", "the contexts it reads"},
	{"plugins/*", "shared/helper", "a helper is built on the SDK and nothing else"},
	{"examples/*", "shared", "vocabulary"},
	{"examples/*", "shared/points/*", "the contexts it reads"},
	{"examples/*", "shared/helper", "an example helper is built on the SDK"},
	{"examples/*", "host", "the server side of an example is an embedder"},
	{"examples/*", "host/hhook", "the server side runs heads"},
	{"examples/*", "host/osd", "the server side makes objects"},
	{"examples/*/*", "shared", "vocabulary"},
	{"examples/*/*", "shared/points/*", "the contexts it publishes or reads"},
	{"examples/*/*", "shared/helper", "an example helper is built on the SDK"},
	{"examples/*/*", "host", "the server side of an example is an embedder"},
	{"examples/*/*", "host/hhook", "the server side runs heads"},
	{"examples/*/*", "host/osd", "the server side makes objects"},
}

// ban forbids packages to reach others by any chain of imports. Both sides are
// rooms, except that to may also be an import path outside the module, with
// all below it.
type ban struct {
	from, to, why string
}

var bans = []ban{
	{"host", "config", "an embedder configures by structs; HCL is one way to fill them"},
	{"host", "shared/helper", "the engine speaks the protocol, not one SDK"},
	{"host", "host/tcp", "the engine knows no subsystem"},
	{"host", "shared/points/*", "the engine knows no subsystem's context"},
	{"host/control", "config", "any embedder can serve control, with or without HCL"},
	{"host/tcp", "host", "a subsystem names the few methods it needs, which *host.Host has"},
	{"shared/helper", "host", "a helper binary carries no engine"},
	{"plugins/*", "host", "a helper binary carries no engine"},
	{"host/hhook", "shared/wire", "heads know no protocol"},
	{"host/osd", "shared/wire", "slots know no protocol"},
	{"host/osd", "host/hhook", "objects do not know who runs on them"},
	{"host/hhook", "google.golang.org/grpc", "heads know no gRPC"},
	{"host/osd", "google.golang.org/grpc", "slots know no gRPC"},
	{"host/hhook", "google.golang.org/protobuf", "a context is bytes to a head"},
	{"host/osd", "google.golang.org/protobuf", "data is bytes to a slot"},
	{"host/hhook", "github.com/hashicorp/go-plugin", "heads know no processes"},
	{"host/osd", "github.com/hashicorp/go-plugin", "slots know no processes"},
	{"host", "github.com/hashicorp/hcl", "an embedder does not pay for HCL"},
	{"shared/helper", "github.com/hashicorp/hcl", "a helper gets its config typed, not as HCL"},
	{"host", "github.com/spf13/cobra", "flags belong to commands"},
	{"config", "google.golang.org/grpc", "reading a file needs no protocol"},
	{"config", "host", "a file is checked without an engine"},
}

// stdOnly are the rooms that import nothing outside the standard library and
// themselves: whoever speaks the vocabulary gets no dependency with it.
var stdOnly = []string{"shared"}

// listed is what `go list -deps -json` says of a package.
type listed struct {
	ImportPath string
	Standard   bool
	Imports    []string
}

type graph map[string]listed

func TestLayout_Imports(t *testing.T) {
	t.Parallel()
	noteSources(t)
	// What a package imports depends on the system.
	for _, goos := range []string{"linux", "darwin", "windows"} {
		t.Run(goos, func(t *testing.T) {
			t.Parallel()
			for _, e := range loadGraph(t, goos).violations() {
				t.Error(e)
			}
		})
	}
}

func TestLayout_TopLevel(t *testing.T) {
	t.Parallel()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name := e.Name()
		if !e.IsDir() || strings.HasPrefix(name, ".") || name == "bin" || slices.Contains(topLevel, name) {
			continue
		}
		t.Errorf("directory %s at the top level: the rooms are %v", name, topLevel)
	}
}

// noteSources looks at every source file, so that the go command does not show
// a cached result after one of them changed: it sees the files that a test looks
// at, but not those that the test's child does.
func noteSources(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && p != "." && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case filepath.Ext(p) == ".go" || d.Name() == "go.mod":
			_, err = os.Stat(p)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // an editor's file may come and go
		t.Fatal(err)
	}
}

func loadGraph(t *testing.T, goos string) graph {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-deps", "-json=ImportPath,Standard,Imports", "./...")
	cmd.Env = append(os.Environ(), "GOOS="+goos, "GOARCH=amd64", "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	g := graph{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		g[p.ImportPath] = p
	}
	if _, ok := g[module+"/shared"]; !ok {
		t.Fatalf("go list found %d packages, but not %s/shared", len(g), module)
	}
	return g
}

// violations lists everything in g that the tables above do not allow.
func (g graph) violations() []string {
	var errs []string
	for p, info := range g {
		rel, ours := strings.CutPrefix(p, module+"/")
		if !ours {
			continue
		}
		from := roomOf(rel)
		if from == "" {
			errs = append(errs, fmt.Sprintf("%s is in no room: put it where it belongs, or add a room here and to the design", rel))
			continue
		}
		for _, imp := range info.Imports {
			errs = append(errs, g.checkImport(rel, from, imp)...)
		}
		for _, b := range bans {
			if b.from != from {
				continue
			}
			if chain := g.chain(p, b.to); chain != nil {
				errs = append(errs, fmt.Sprintf("%s must not reach %s (%s): %s", rel, b.to, b.why, strings.Join(chain, " -> ")))
			}
		}
		errs = append(errs, g.checkBothSides(p, from)...)
	}
	slices.Sort(errs)
	return errs
}

func (g graph) checkImport(rel, from, imp string) []string {
	to, ours := strings.CutPrefix(imp, module+"/")
	if !ours {
		if slices.Contains(stdOnly, from) && !g[imp].Standard {
			return []string{fmt.Sprintf("%s imports %s: it keeps to the standard library", rel, imp)}
		}
		return nil
	}
	room := roomOf(to)
	if slices.ContainsFunc(edges, func(e edge) bool { return e.from == from && e.to == room }) {
		return nil
	}
	return []string{fmt.Sprintf("%s imports %s: no edge from %s to %s", rel, to, from, room)}
}

// checkBothSides keeps an example from being helper and host in one program:
// readers must see which side they look at.
func (g graph) checkBothSides(p, from string) []string {
	if !strings.HasPrefix(from, "examples/") {
		return nil
	}
	if g.chain(p, "shared/helper") == nil || g.chain(p, "host") == nil {
		return nil
	}
	return []string{p + " is helper and host at once: make it two programs"}
}

// chain returns a shortest chain of imports from package p to a package that
// fits target, or nil.
func (g graph) chain(p, target string) []string {
	came := map[string]string{p: ""}
	for queue := []string{p}; len(queue) > 0; queue = queue[1:] {
		for _, imp := range g[queue[0]].Imports {
			if _, seen := came[imp]; seen {
				continue
			}
			came[imp] = queue[0]
			if fits(imp, target) {
				var chain []string
				for at := imp; at != ""; at = came[at] {
					chain = append(chain, strings.TrimPrefix(at, module+"/"))
				}
				slices.Reverse(chain)
				return chain
			}
			queue = append(queue, imp)
		}
	}
	return nil
}

// fits tells whether an import path is in the room target, or at or below the
// foreign path target.
func fits(imp, target string) bool {
	if rel, ours := strings.CutPrefix(imp, module+"/"); ours {
		return roomOf(rel) == target
	}
	return imp == target || strings.HasPrefix(imp, target+"/")
}

// roomOf returns the room that a package path below the module belongs to.
func roomOf(rel string) string {
	for _, r := range rooms {
		if ok, err := path.Match(r, rel); err == nil && ok {
			return r
		}
	}
	return ""
}
