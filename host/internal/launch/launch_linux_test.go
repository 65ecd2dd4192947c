package launch

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/khelp/khelp/host/hosttest/testkit"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// runtimeDir makes a short directory that must be empty when the test ends.
func runtimeDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "kl") //nolint:usetesting // socket paths must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("left in the runtime directory: %v", left)
		}
		_ = os.RemoveAll(dir)
	})
	return dir
}

func testConfig(t *testing.T, mode string, args ...string) (Config, *logBook) {
	t.Helper()
	testkit.CheckLeaks(t)
	book := newLogBook()
	return Config{
		Name:       "probe",
		Command:    helperCommand(mode, args...),
		Logger:     book,
		RuntimeDir: runtimeDir(t),
	}, book
}

// startStock starts a stock go-plugin helper and makes sure that it ends with the test.
func startStock(t *testing.T, mode string) (*Process, *logBook) {
	t.Helper()
	cfg, book := testConfig(t, mode)
	p, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		testkit.Await(t, "the end of the process", p.Done())
	})
	return p, book
}

func call(t *testing.T, p *Process, what string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var out wrapperspb.StringValue
	if err := p.Conn().Invoke(ctx, "/launchtest.Do/Do", wrapperspb.String(what), &out); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return out.Value
}

func TestStartStockHelper(t *testing.T) {
	t.Setenv("KHELP_TEST_SECRET", "hunter2")
	cfg, _ := testConfig(t, "stock")
	cfg.Env = map[string]string{"COLOUR": "green", "TZ": "Asia/Tokyo"}
	p, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Stop(context.Background(), 0) })

	health, err := grpc_health_v1.NewHealthClient(p.Conn()).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: wire.ServiceName})
	if err != nil || health.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("health: %v, %v", health, err)
	}
	file, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(file); p.SHA256() != hex.EncodeToString(sum[:]) {
		t.Errorf("sum is %s", p.SHA256())
	}
	if sid, err := unix.Getsid(p.PID()); err != nil || sid != p.PID() {
		t.Errorf("session %d, %v, want that of the helper itself, %d", sid, err, p.PID())
	}
	if got := call(t, p, "stdin"); got != "0 bytes, <nil>, /dev/null" {
		t.Errorf("standard input: %s", got)
	}
	env := map[string]string{}
	for entry := range strings.SplitSeq(call(t, p, "env"), "\x00") {
		name, value, _ := strings.Cut(entry, "=")
		env[name] = value
		if name != "COLOUR" && !slices.Contains(safeList, name) && !slices.Contains(reserved, name) {
			t.Errorf("the helper sees %s", name)
		}
	}
	if env["COLOUR"] != "green" || env["TZ"] != "Asia/Tokyo" || env["PATH"] == "" || env[wire.EnvSocketDir] != p.dir.path {
		t.Errorf("environment: %v", env)
	}
	info, err := os.Stat(p.dir.path)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("socket directory: %v, %v", info, err)
	}
	if p.Err() != nil {
		t.Errorf("running, but Err is %v", p.Err())
	}
	if err := p.Stop(t.Context(), 10*time.Second); err != nil {
		t.Errorf("stop: %v", err)
	}
	var exit *ExitError
	if err := p.Err(); !errors.As(err, &exit) || exit.Signal != syscall.SIGTERM || exit.Code != -1 || !errors.Is(err, shared.ErrHelperGone) {
		t.Errorf("exit is %#v, want SIGTERM", err)
	}
	if err := p.Stop(t.Context(), time.Hour); err != nil {
		t.Errorf("second stop: %v", err)
	}
}

// A helper in another language: TCP, its own TLS, none of go-plugin's extra services.
func TestStartForeignHelper(t *testing.T) {
	p, _ := startStock(t, "foreign")
	health, err := grpc_health_v1.NewHealthClient(p.Conn()).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: wire.ServiceName})
	if err != nil || health.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("health: %v, %v", health, err)
	}
}

func TestNoiseBeforeHandshake(t *testing.T) {
	_, book := startStock(t, "noisy")
	for _, want := range []string{"banner 0|of|the|interpreter", "banner 15|of|the|interpreter"} {
		if r, ok := book.find(t, want); !ok || r.Level != "info" || r.Module != "probe" {
			t.Errorf("noise %q: %+v, %v", want, r, ok)
		}
	}
}

func TestOutputReachesLog(t *testing.T) {
	p, book := startStock(t, "stock")
	for _, what := range []string{
		"stdout to stdout", "stderr to stderr", "stderr [WARN] careful", "stderr 2024/05/06 07:08:09 [ERROR] stamped", "println streamed",
		"stderr \x1b[31mred", "hclog", "long", "stderr after the long line",
	} {
		call(t, p, what)
	}
	cut := strings.Repeat("a", maxLine) + cutMark
	want := map[string]string{
		"to stdout": "info", "to stderr": "info", "careful": "warn", "stamped": "error", "streamed": "info", `\x1b[31mred`: "info",
		"disk is full": "warn", cut: "info", "after the long line": "info",
	}
	for message, level := range want {
		var r record
		testkit.Until(t, "log of "+message[:min(len(message), 40)], func() (ok bool) {
			r, ok = book.find(t, message)
			return ok
		})
		if r.Level != level || r.Module != "probe" {
			t.Errorf("%.40q is logged as %s of %s, want %s of probe", message, r.Level, r.Module, level)
		}
		if message == "disk is full" && (r.Fields["free"] != 7.0 || r.Fields["path"] != "/var" || r.Fields["module"] != "inner" || r.Fields["timestamp"] == nil) {
			t.Errorf("fields of the hclog line: %v", r.Fields)
		}
	}
	if last := p.Tail(); len(last) == 0 || !strings.Contains(strings.Join(last, "\n"), "after the long line") {
		t.Errorf("tail: %.200q", last)
	}
}

// A stock helper's prints go into a gRPC stream of go-plugin; unread, it stops after 64 KiB.
func TestFloodOnRedirectedStdout(t *testing.T) {
	p, _ := startStock(t, "stock")
	call(t, p, "flood")
	testkit.Until(t, "the last line of the flood", func() bool {
		last := p.Tail()
		return len(last) == tailLines && strings.HasSuffix(last[len(last)-1], " 3999")
	})
}

func TestPanicIsLoggedAsError(t *testing.T) {
	p, book := startStock(t, "stock")
	var out wrapperspb.StringValue
	if err := p.Conn().Invoke(t.Context(), "/launchtest.Do/Do", wrapperspb.String("panic now"), &out); err == nil {
		t.Fatal("call into a panic succeeded")
	}
	testkit.Await(t, "the end of the process", p.Done())
	var exit *ExitError
	if !errors.As(p.Err(), &exit) || exit.Code != 2 || !strings.Contains(strings.Join(exit.Tail, "\n"), "panic: boom: now") {
		t.Errorf("exit: %#v", p.Err())
	}
	inPanic, lines := false, 0
	for _, r := range book.records(t) {
		inPanic = inPanic || strings.HasPrefix(r.Message, "panic: boom")
		if inPanic && r.Message != "helper ended" {
			lines++
			if r.Level != "error" {
				t.Errorf("%q of the panic is logged as %s", r.Message, r.Level)
			}
		}
	}
	if lines < 4 {
		t.Errorf("only %d lines of the panic arrived", lines)
	}
}

func TestStopEndsStoppedHelper(t *testing.T) {
	p, book := startStock(t, "stock")
	call(t, p, "ignore-term")
	if err := syscall.Kill(p.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	testkit.Until(t, "helper is stopped", func() bool {
		fields := statFields("/proc/" + strconv.Itoa(p.PID()) + "/stat")
		return len(fields) > 0 && fields[0] == "T"
	})
	if err := p.Stop(t.Context(), 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	var exit *ExitError
	if !errors.As(p.Err(), &exit) || exit.Signal != syscall.SIGKILL {
		t.Errorf("exit: %v", p.Err())
	}
	if _, ok := book.find(t, notInTime); !ok {
		t.Error("the log does not say why it was killed")
	}
}

// notInTime is what the log says of a helper that did not use its grace.
const notInTime = "helper did not end in time and is killed"

// A helper that is given no time is killed for the host's reasons, not for being late.
func TestStopWithoutGraceBlamesNobody(t *testing.T) {
	p, book := startStock(t, "stock")
	call(t, p, "ignore-term")
	if err := p.Stop(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if r, ok := book.find(t, notInTime); ok {
		t.Errorf("the log says %+v", r)
	}
}

func TestStopObeysContext(t *testing.T) {
	p, _ := startStock(t, "stock")
	call(t, p, "ignore-term")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Stop(ctx, time.Hour); err != nil {
		t.Fatal(err)
	}
	if !gone(p.PID()) {
		t.Error("still there")
	}
}

func TestGrandchildrenDoNotDelayTheExit(t *testing.T) {
	p, _ := startStock(t, "stock")
	near, err1 := strconv.Atoi(call(t, p, "grandchild"))
	away, err2 := strconv.Atoi(call(t, p, "grandchild-away"))
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	t.Cleanup(func() { _ = syscall.Kill(away, syscall.SIGKILL) })
	begin := time.Now()
	if err := syscall.Kill(p.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	testkit.Await(t, "the end of the process", p.Done())
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("the exit was known after %v", took)
	}
	testkit.Until(t, "the grandchild in the group ends", func() bool { return gone(near) })
	if gone(away) {
		t.Error("the grandchild that left the group is gone: this test proves nothing")
	}
}

func TestHelperEndsWithKilledHost(t *testing.T) {
	dir, err := os.MkdirTemp("", "kl") //nolint:usetesting // socket paths must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	argv := helperCommand("host", dir)
	host := exec.Command(argv[0], argv[1:]...)
	stdin, err := host.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stdin.Close() }()
	stdout, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(stdout).ReadString('\n')
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || gone(pid) {
		t.Errorf("host said %q", line)
	}
	if n, err := sweepOld(dir); err != nil || n != 0 {
		t.Errorf("swept %d directories of a living host, %v", n, err)
	}
	_ = host.Process.Kill()
	_ = host.Wait()
	testkit.Until(t, "helper ends after kill -9 of its host", func() bool { return gone(pid) })
	if n, err := sweepOld(dir); err != nil || n != 1 {
		t.Errorf("swept %d directories of a killed host, %v", n, err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left after the sweep: %v", left)
	}
}

// sweepOld makes the directories old enough for a sweep, and sweeps.
func sweepOld(dir string) (int, error) {
	entries, _ := os.ReadDir(dir)
	old := time.Now().Add(-2 * sweepAge)
	for _, entry := range entries {
		_ = os.Chtimes(filepath.Join(dir, entry.Name()), old, old)
	}
	return Sweep(dir)
}

func TestSweepLeavesOthersAlone(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"khelp-sock-docs", "other"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "khelp-sock-docs", "letter"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "khelp-sock-young"), 0o700); err != nil {
		t.Fatal(err)
	}
	if n, err := Sweep(dir); n != 0 || err != nil {
		t.Errorf("swept %d, %v", n, err)
	}
	if n, err := sweepOld(dir); n != 1 || err != nil { // khelp-sock-young is old and empty now
		t.Errorf("swept %d, %v", n, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "khelp-sock-docs", "letter")); err != nil {
		t.Error(err)
	}
	if _, err := Sweep(filepath.Join(dir, "none")); !errors.Is(err, shared.ErrNotExist) {
		t.Errorf("sweep of nothing: %v", err)
	}
}

// Starts, stops, kills and questions from many goroutines at once.
func TestHammer(t *testing.T) {
	cfg, _ := testConfig(t, "stock")
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			p, err := Start(t.Context(), cfg)
			if err != nil {
				t.Error(err)
				return
			}
			var inner sync.WaitGroup
			for range 3 {
				inner.Go(func() {
					if err := p.Stop(t.Context(), 10*time.Second); err != nil {
						t.Error(err)
					}
				})
			}
			if i%2 == 0 {
				inner.Go(p.Kill)
			}
			inner.Go(func() { _, _ = p.Tail(), p.Err() })
			inner.Wait()
			<-p.Done()
			if p.Err() == nil {
				t.Error("ended without an exit")
			}
		})
	}
	wg.Wait()
}

// From exec to the open connection, with a helper as go-plugin serves it (its P-521 key is most of the time), and its end.
func BenchmarkStart(b *testing.B) {
	dir, err := os.MkdirTemp("", "kl") //nolint:usetesting // socket paths must be short
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	cfg := Config{Name: "probe", Command: helperCommand("stock"), RuntimeDir: dir}
	for b.Loop() {
		p, err := Start(b.Context(), cfg)
		if err != nil {
			b.Fatal(err)
		}
		p.Kill()
		<-p.Done()
	}
}
