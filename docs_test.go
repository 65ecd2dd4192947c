package khelp_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/khelp/khelp/config"
	"github.com/khelp/khelp/host/hosttest"
)

// docs are the documents whose links are checked.
var docs = []string{"README.md", "RATIONALE.md", "CHANGELOG.md", "shared/wire/PROTOCOL.md", "config/REFERENCE.md", "cmd/khelpd/REFERENCE.md"}

func readDoc(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// snippet returns the fenced block of a document that begins with ```info, and the line on which that stands.
func snippet(t *testing.T, doc, info string) (text string, line int) {
	t.Helper()
	before, rest, found := strings.Cut(doc, "\n```"+info+"\n")
	text, _, closed := strings.Cut(rest, "\n```\n")
	if !found || !closed {
		t.Fatalf("there is no block ```%s", info)
	}
	return text + "\n", strings.Count(before, "\n") + 2
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// goBuild builds a package of this module, or a file that need not be in it.
func goBuild(t *testing.T, out, what string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", out, what)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", what, err, text)
	}
}

// authorsHelper builds the README's helper below dir, as bin/segs.
func authorsHelper(t *testing.T, dir string) {
	t.Helper()
	code, _ := snippet(t, readDoc(t, "README.md"), "go segs/main.go")
	if n := strings.Count(code, "\n"); n > 15 {
		t.Errorf("the helper has %d lines, it promises 15", n)
	}
	writeFile(t, filepath.Join(dir, "segs", "main.go"), code)
	goBuild(t, filepath.Join(dir, "bin", program("segs")), filepath.Join(dir, "segs", "main.go"))
}

func program(name string) string {
	if runtime.GOOS == "windows" {
		return name + ".exe"
	}
	return name
}

// around is what the README leaves out of the embedder's program.
const around = `package main

import (
	"context"
	"fmt"
	"log"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/shared"
)

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}

func main() {
`

func TestREADME_Embedder(t *testing.T) {
	t.Parallel()
	noteSources(t)
	dir := t.TempDir()
	authorsHelper(t, dir)
	body, _ := snippet(t, readDoc(t, "README.md"), "go embedder")
	if n := strings.Count(body, "\n"); n > 15 {
		t.Errorf("the embedder's program has %d lines, it promises 15", n)
	}
	writeFile(t, filepath.Join(dir, "embedder", "main.go"), around+body+"}\n")
	embedder := filepath.Join(dir, "bin", program("embedder"))
	goBuild(t, embedder, filepath.Join(dir, "embedder", "main.go"))
	cmd := exec.CommandContext(t.Context(), embedder)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if want := "map[in:2]\n<nil> <nil>\n"; err != nil || string(out) != want {
		t.Errorf("the program prints\n%s(%v), want\n%s", out, err, want)
	}
}

func TestREADME_Operator(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no SIGTERM")
	}
	noteSources(t)
	readme := readDoc(t, "README.md")
	dir := t.TempDir()
	authorsHelper(t, dir)
	goBuild(t, filepath.Join(dir, "bin", "khelpd"), "./cmd/khelpd")
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }))
	defer upstream.Close()

	hcl, _ := snippet(t, readme, "hcl web.hcl")
	hcl = strings.NewReplacer("127.0.0.1:8080", "127.0.0.1:0", "127.0.0.1:9000", upstream.Listener.Addr().String()).Replace(hcl)
	path := filepath.Join(dir, "web.hcl")
	writeFile(t, path, hcl)
	if _, diags := config.Load(path); len(diags) > 0 {
		t.Fatal(diags)
	}

	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	shows := map[string]string{ // what the commands must show in the end, by their verb
		"hooks":   `(?m)^tcp\.est_in .* 1 +segs +- +1 +1 +0 +0 `,
		"objects": `(?m) segs +1\.0\.0 +8 +in=1$`,
		"plan":    `^no changes\n$`,
	}
	commands, _ := snippet(t, readme, "sh\nbin/khelpd run -c web.hcl &")
	address := startDaemon(t, dir, "bin/khelpd run -c web.hcl")
	for line := range strings.Lines(commands) {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if words[0] == "curl" {
			get(t, client, strings.Replace(words[1], "127.0.0.1:8080", address, 1))
			continue
		}
		verb := words[3] // behind --socket PATH
		want := regexp.MustCompile(shows[verb])
		delete(shows, verb)
		hosttest.Until(t, line+" shows "+want.String(), func() bool {
			cmd := exec.CommandContext(t.Context(), filepath.Join(dir, words[0]), words[1:]...)
			cmd.Dir = dir
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%s: %v\n%s", line, err, out)
			}
			return want.Match(out)
		})
	}
	for verb := range shows {
		t.Errorf("README.md does not show khelpd %s", verb)
	}
}

// startDaemon starts khelpd in dir, and returns the address of its proxy once it is ready. At the end of the test it is told to end,
// and must do so in order.
func startDaemon(t *testing.T, dir, command string) (address string) {
	t.Helper()
	words := strings.Fields(command)
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, filepath.Join(dir, words[0]), words[1:]...)
	cmd.Dir = dir
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan string, 1)
	var log strings.Builder
	read := make(chan struct{})
	go func() {
		defer close(read)
		listening := regexp.MustCompile(`listening: .*address=(\S+)`)
		at := ""
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			log.WriteString(lines.Text() + "\n")
			if m := listening.FindStringSubmatch(lines.Text()); m != nil {
				at = m[1]
			}
			if strings.Contains(lines.Text(), "khelpd: ready") {
				ready <- at
			}
		}
	}()
	t.Cleanup(func() {
		limit := time.AfterFunc(30*time.Second, cancel)
		defer limit.Stop()
		defer cancel()
		_ = cmd.Process.Signal(syscall.SIGTERM) // if it has ended, Wait tells
		<-read
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Errorf("khelpd ended with %v; its log:\n%s", err, log.String())
		}
	})
	select {
	case address = <-ready:
	case <-read:
		t.Fatal("khelpd has ended at once")
	case <-time.After(20 * time.Second):
		t.Fatal("khelpd is not ready after 20s")
	}
	return address
}

func get(t *testing.T, client *http.Client, url string) {
	t.Helper()
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "hello" {
		t.Fatalf("GET %s: %q, %v", url, body, err)
	}
}

// The three programs and the two commands stand where a reader sees them first.
func TestREADME_FirstScreen(t *testing.T) {
	t.Parallel()
	readme := readDoc(t, "README.md")
	makefile := readDoc(t, "Makefile")
	for _, target := range []string{"demo", "test"} {
		before, _, found := strings.Cut(readme, "\nmake "+target)
		if line := strings.Count(before, "\n") + 2; !found || line > 30 {
			t.Errorf("README.md shows make %s on line %d, not in the first 30", target, line)
		}
	}
	for _, info := range []string{"go segs/main.go", "hcl web.hcl", "go embedder"} {
		if _, line := snippet(t, readme, info); line > 60 {
			t.Errorf("the block %s begins on line %d of README.md, not in the first 60", info, line)
		}
	}
	for _, name := range docs {
		for _, m := range regexp.MustCompile("`?make ([a-z]+)`?").FindAllStringSubmatch(readDoc(t, name), -1) {
			if strings.HasPrefix(m[0], "`") && !strings.Contains(makefile, "\n"+m[1]+":") {
				t.Errorf("%s speaks of %s, which the Makefile does not have", name, m[0])
			}
		}
	}
}

// Links within the repository lead somewhere.
func TestDocs_Links(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for _, name := range docs {
		for _, m := range link.FindAllStringSubmatch(readDoc(t, name), -1) {
			path, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(path, "://") {
				continue
			}
			target := name
			if path != "" {
				target = filepath.Join(filepath.Dir(name), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", name, m[1], err)
				continue
			}
			if anchor != "" && !hasAnchor(readDoc(t, target), anchor) {
				t.Errorf("%s links to %s: there is no such heading", name, m[1])
			}
		}
	}
}

// hasAnchor reports whether a heading of the document gets an anchor, as GitHub makes them.
func hasAnchor(doc, anchor string) bool {
	drop := regexp.MustCompile(`[^a-z0-9 _-]`)
	for line := range strings.Lines(doc) {
		title, heading := strings.CutPrefix(strings.TrimLeft(line, "#"), " ")
		if heading && strings.HasPrefix(line, "#") &&
			strings.ReplaceAll(drop.ReplaceAllString(strings.ToLower(strings.TrimSpace(title)), ""), " ", "-") == anchor {
			return true
		}
	}
	return false
}

// RATIONALE.md gives a reason for each module that is imported directly, and for no other.
func TestRationale_Dependencies(t *testing.T) {
	t.Parallel()
	noteSources(t)
	rationale := readDoc(t, "RATIONALE.md")
	modules := regexp.MustCompile(`(?m)^(?:\t|require )(\S+\.\S+/\S+|\S+\.\S+) v\d`).FindAllStringSubmatch(readDoc(t, "go.mod"), -1)
	imported := imports(t)
	direct := 0
	for _, m := range modules {
		used := slices.ContainsFunc(imported, func(pkg string) bool { return pkg == m[1] || strings.HasPrefix(pkg, m[1]+"/") })
		if used {
			direct++
		}
		if strings.Contains(rationale, "| `"+m[1]+"` |") != used {
			t.Errorf("%s: imported is %t, and RATIONALE.md says otherwise", m[1], used)
		}
	}
	if direct < 5 {
		t.Errorf("only %d of %d modules in go.mod are imported", direct, len(modules))
	}
}

// imports lists what the packages of this module and their tests import.
func imports(t *testing.T) []string {
	t.Helper()
	const format = `{{range .Imports}}{{.}} {{end}}{{range .TestImports}}{{.}} {{end}}{{range .XTestImports}}{{.}} {{end}}`
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-f", format, "./...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	list := strings.Fields(string(out))
	slices.Sort(list)
	return slices.Compact(list)
}
