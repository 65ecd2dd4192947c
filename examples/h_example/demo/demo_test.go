package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/khelp/khelp/host/hosttest/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// The programs that take part, by the names of their packages' directories.
const (
	theDaemon = "khelpd"
	theHelper = "h_example"
	theLiar   = "halfcount"
)

// programs builds all of them, once.
var programs = sync.OnceValue(func() error {
	out, err := exec.Command("go", "build", "-o", testkit.SharedDir()+string(filepath.Separator),
		"github.com/khelp/khelp/cmd/khelpd", "github.com/khelp/khelp/examples/h_example", "./testdata/halfcount").CombinedOutput()
	if err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
})

// install makes a directory for -bin with a program in the place of khelpd and one in that of h_example, and checks in the end that
// neither still runs.
func install(t *testing.T, daemon, helper string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds and runs programs")
	}
	if err := programs(); err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	for place, program := range map[string]string{"khelpd": daemon, "h_example": helper} {
		image, err := os.ReadFile(filepath.Join(testkit.SharedDir(), executable(program)))
		if err == nil {
			err = os.WriteFile(filepath.Join(bin, executable(place)), image, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for _, link := range processesOf(t, bin) {
			t.Errorf("still running: %s", link)
		}
	})
	return bin
}

// processesOf lists the processes that run a program from a directory, where /proc tells.
func processesOf(t *testing.T, dir string) []string {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, dir) {
			found = append(found, link+" -> "+target)
		}
	}
	return found
}

// folders lists what demos keep their files in.
func folders(t *testing.T) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for _, base := range []string{os.TempDir(), "/tmp"} {
		list, err := filepath.Glob(filepath.Join(base, "khelp-demo-*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, dir := range list {
			found[dir] = true
		}
	}
	return found
}

// recorder keeps what is written and calls seen after each write.
type recorder struct {
	bytes.Buffer
	seen func(text string)
}

func (r *recorder) Write(p []byte) (int, error) {
	n, err := r.Buffer.Write(p)
	if r.seen != nil {
		r.seen(r.String())
	}
	return n, err
}

// folderOf makes a recorder note the demo's folder while it exists, by comparison with those that were there before.
func folderOf(t *testing.T, before map[string]bool, folder *string) func(string) {
	return func(string) {
		for dir := range folders(t) {
			if !before[dir] {
				*folder = dir
			}
		}
	}
}

func checkGone(t *testing.T, folder string) {
	t.Helper()
	if folder == "" {
		t.Error("the demo's folder was never seen")
	} else if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there (%v)", folder, err)
	}
}

func TestDemo(t *testing.T) {
	bin := install(t, theDaemon, theHelper)
	var stderr bytes.Buffer
	var folder string
	stdout := recorder{seen: folderOf(t, folders(t), &folder)}
	if code := run(t.Context(), []string{"-bin", bin}, &stdout, &stderr); code != 0 {
		t.Fatalf("exit code %d\n%s\n%s", code, &stdout, &stderr)
	}
	out := stdout.String()
	t.Log(out)
	for _, want := range []string{
		"$ khelpd stat\nNAME", "$ khelpd hooks\nPOINT", "$ khelpd objects\nID", "est_in=", "\nVerdict", "Every segment was counted.",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in the output", want)
		}
	}
	_, judged, _ := strings.Cut(out, "\nVerdict")
	if n := strings.Count(judged, "ok\n"); n < connections+1 {
		t.Errorf("%d lines of the verdict are ok, want one for each connection and more", n)
	}
	checkGone(t, folder)
}

// TestWrongCounts: a helper that counts wrongly is found out, connection by connection.
func TestWrongCounts(t *testing.T) {
	bin := install(t, theDaemon, theLiar)
	var out bytes.Buffer
	err := demo(t.Context(), options{bin: bin, settle: 300 * time.Millisecond}, &out)
	if err == nil {
		t.Fatalf("nothing was wrong:\n%s", &out)
	}
	if n := strings.Count(out.String(), "WRONG"); n != connections {
		t.Errorf("%d lines are wrong, want one for each connection, since all calls were committed:\n%s", n, &out)
	}
	if !strings.Contains(err.Error(), "tcp.est_out: ") || strings.Contains(err.Error(), "tcp.est_in: ") {
		t.Errorf("it blames: %v", err)
	}
}

// TestInterrupted: Ctrl-C in the middle of the show takes everything down, and the exit status says that it was not finished.
func TestInterrupted(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot send itself an interrupt")
	}
	bin := install(t, theDaemon, theHelper)
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	arrived := make(chan os.Signal, 1)
	signal.Notify(arrived, os.Interrupt)
	defer signal.Stop(arrived)
	var (
		stderr bytes.Buffer
		folder string
		once   sync.Once
	)
	note := folderOf(t, folders(t), &folder)
	stdout := recorder{seen: func(text string) {
		note(text)
		if strings.Contains(text, "$ khelpd hooks") {
			once.Do(func() {
				if err := self.Signal(os.Interrupt); err != nil {
					t.Error(err)
				}
				<-arrived
			})
		}
	}}
	if code := run(t.Context(), []string{"-bin", bin}, &stdout, &stderr); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if got := stderr.String(); got != "demo: interrupt signal received\n" {
		t.Errorf("it said: %s", got)
	}
	if strings.Contains(stdout.String(), "Verdict") {
		t.Error("it gave a verdict")
	}
	checkGone(t, folder)
}

// TestOverdue: a demo that takes too long is taken down as well, wherever it stands.
func TestOverdue(t *testing.T) {
	bin := install(t, theDaemon, theHelper)
	for _, limit := range []time.Duration{0, 20 * time.Millisecond, 100 * time.Millisecond} {
		late := errors.New("too late")
		ctx, cancel := context.WithTimeoutCause(t.Context(), limit, late)
		err := demo(ctx, options{bin: bin, settle: settleLimit}, &bytes.Buffer{})
		cancel()
		if err != nil && !errors.Is(err, late) { // on a quick machine it may be through
			t.Errorf("after %v: %v", limit, err)
		}
		if left := processesOf(t, bin); len(left) > 0 {
			t.Errorf("after %v: still running: %v", limit, left)
		}
	}
}

// TestBrokenDaemon: a khelpd that ends at once is reported with its last words.
func TestBrokenDaemon(t *testing.T) {
	bin := install(t, theHelper, theHelper)
	var stderr bytes.Buffer
	if code := run(t.Context(), []string{"-bin", bin}, io.Discard, &stderr); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	for _, want := range []string{"before it was ready: exit status 1", "is a khelp helper"} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("no %q in: %s", want, &stderr)
		}
	}
}

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"-bin", t.TempDir()}, 1, "has `make build` been run"},
		{[]string{"-bun", "x"}, 2, "-bin directory"},
		{[]string{"bin"}, 2, `"bin"`},
		{[]string{"-serve", "127.0.0.1:-1"}, 1, "web server"},
	} {
		var stderr bytes.Buffer
		if code := run(t.Context(), c.args, io.Discard, &stderr); code != c.code || !strings.Contains(stderr.String(), c.want) {
			t.Errorf("%q: exit code %d, want %d; it said: %s", c.args, code, c.code, &stderr)
		}
	}
}

// TestServe: the web server alone, as for trying things by hand.
func TestServe(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	address := make(chan string, 1)
	stdout := recorder{seen: func(text string) {
		_, rest, _ := strings.Cut(text, "http://")
		host, _, _ := strings.Cut(rest, "/")
		address <- host
	}}
	code := make(chan int, 1)
	go func() { code <- run(ctx, []string{"-serve", "127.0.0.1:0"}, &stdout, io.Discard) }()
	base := "http://" + <-address
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for path, want := range map[string]string{
		"/bytes/3": "200 abc", "/bytes/0": "200 ", "/bytes/-1": "400 a number from 0 to 67108864, please\n", "/nothing": "404 404 page not found\n",
	} {
		resp, err := client.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%d %s", resp.StatusCode, body); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	cancel()
	if c := <-code; c != 0 {
		t.Errorf("exit code %d, want 0", c)
	}
}

// TestTraffic_Ends: whatever keeps a client from going on over its one connection ends it with a reason.
func TestTraffic_Ends(t *testing.T) {
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"closing": {func(rw http.ResponseWriter, _ *http.Request) { rw.Header().Set("Connection", "close") }, "the server ends the connection"},
		"refused": {func(rw http.ResponseWriter, _ *http.Request) { http.Error(rw, "go away", http.StatusForbidden) }, "403 Forbidden: go away"},
		"short":   {func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "abc") }, "got 3 bytes, want 0"},
		"cut":     {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(c.answer)
			defer server.Close()
			traffic, err := startTraffic(t.Context(), server.Listener.Addr().String(), 1)
			if err != nil {
				t.Fatal(err)
			}
			defer traffic.close()
			if err := traffic.await(t.Context(), 5); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("it ended with %v, want %q", err, c.want)
			}
		})
	}
	lis := httptest.NewServer(nil)
	lis.Close()
	if _, err := startTraffic(t.Context(), lis.Listener.Addr().String(), 1); err == nil {
		t.Error("nobody listens, but it started")
	}
}

// TestTraffic_Stopped: a client that waits for an answer that does not come is woken by the end of its context.
func TestTraffic_Stopped(t *testing.T) {
	asked := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	}))
	defer server.Close()
	traffic, err := startTraffic(t.Context(), server.Listener.Addr().String(), 1)
	if err != nil {
		t.Fatal(err)
	}
	<-asked
	traffic.close()
	if err := traffic.rest(t.Context()); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("it ended with %v", err)
	}
}
