package helper

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/khelp/khelp/host/hosttest/testkit"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// envRole makes the test binary a helper. Its values are the roles of playRole.
const envRole = "KHELP_TEST_ROLE"

// playRole is main for a helper that a test has started.
func playRole(role string) int {
	h := countHelper()
	limit := controlLimit
	switch role {
	case "segs":
		h.Init = func(ctx context.Context, host *Host) error {
			Logger(ctx).Warn("initialised", "id", host.ID(), "procs", runtime.GOMAXPROCS(0))
			return nil
		}
	case "impatient":
		limit = 50 * time.Millisecond
	case "contradiction":
		h.Name, h.Classes = "Segs", nil
	default:
		fmt.Fprintf(os.Stderr, "no role %q\n", role)
		return 2
	}
	p, err := h.program()
	return serveProcess(p, h.Name, err, &process{out: os.Stdout, errs: os.Stderr, limit: limit})
}

// command starts this test binary in a role, with the environment a host gives and no more.
func command(t *testing.T, role string, env ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append([]string{
		envRole + "=" + role, "TMPDIR=" + os.TempDir(),
		"GORACE=atexit_sleep_ms=0", // or it takes a second to exit under the race detector
	}, env...)
	if dir := os.Getenv("GOCOVERDIR"); dir != "" {
		cmd.Env = append(cmd.Env, "GOCOVERDIR="+dir)
	}
	return cmd
}

func cookie() string { return wire.Handshake.MagicCookieKey + "=" + wire.Handshake.MagicCookieValue }

func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "khelp") //nolint:usetesting // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestStartedByHandItSaysWhatItIs(t *testing.T) {
	cmd := command(t, "segs")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("ended with %v, want exit status 1", err)
	}
	if out.Len() != 0 {
		t.Errorf("standard output: %q", out.String())
	}
	for _, want := range []string{
		"segs 1.2.0 is a khelp helper: counts segments.", "It hooks tcp.est_in, tcp.est_out", "class tcp",
		"khelpd load " + cmd.Path, `helper "segs" {`, fmt.Sprintf("command = [%q]", cmd.Path),
	} {
		if !strings.Contains(errs.String(), want) {
			t.Errorf("%q is not in:\n%s", want, errs.String())
		}
	}
}

func TestByHandFromTheCurrentDirectory(t *testing.T) {
	text := byHand(&shared.Modinfo{Name: "x", Version: "1.0.0"}, "x")
	if !strings.Contains(text, "khelpd load ."+string(filepath.Separator)+"x\n") || strings.Contains(text, "It hooks") {
		t.Errorf("%s", text)
	}
}

func TestContradictionStopsTheProcessWithASentence(t *testing.T) {
	cmd := command(t, "contradiction", cookie())
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("ended with %v, want exit status 1", err)
	}
	if out.Len() != 0 || !strings.Contains(errs.String(), "must match [a-z]") || !strings.Contains(errs.String(), "set Classes") {
		t.Errorf("standard output %q, standard error:\n%s", out.String(), errs.String())
	}
}

func TestWithoutControlStreamTheProcessEnds(t *testing.T) {
	cmd := command(t, "impatient", cookie(), wire.EnvSocketDir+"="+socketDir(t))
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("ended with %v, want exit status 1", err)
	}
	if !strings.Contains(errs.String(), "no host has opened the control stream within 50ms") {
		t.Errorf("standard error: %s", errs.String())
	}
}

// started is a helper process by hand, without go-plugin: what a host in another language would do.
type started struct {
	cmd    *exec.Cmd
	stderr *bufio.Scanner
	client wire.HelperClient
	socket string
}

func startProcess(t *testing.T, env ...string) *started {
	t.Helper()
	s := &started{cmd: command(t, "segs", append(env, cookie(), wire.EnvSocketDir+"="+socketDir(t), wire.EnvProtocolVersions+"=7,1")...)}
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.stderr = bufio.NewScanner(stderr)
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.cmd.Process.Kill() }) // it has ended unless the test has failed
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(strings.TrimSpace(line), "|")
	if len(parts) != 6 || parts[0] != "1" || parts[1] != "1" || parts[4] != "grpc" || parts[5] != "" {
		t.Fatalf("handshake %q", line)
	}
	s.socket = parts[3]
	conn, err := grpc.NewClient(parts[2]+":"+parts[3], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	s.client = wire.NewHelperClient(conn)
	return s
}

// wantExit wants the process to end with status 0, and its socket to be gone.
func (s *started) wantExit(t *testing.T) {
	t.Helper()
	for s.stderr.Scan() {
		t.Logf("stderr: %s", s.stderr.Text())
	}
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("the helper ended with %v, want exit status 0", err)
	}
	if _, err := os.Lstat(s.socket); runtime.GOOS != "windows" && !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its socket is still there: %v", err)
	}
}

func TestProcessEndsWithItsControlStream(t *testing.T) {
	s := startProcess(t)
	if info, err := os.Stat(s.socket); runtime.GOOS != "windows" && (err != nil || info.Mode().Perm() != 0o600) {
		t.Errorf("the socket: %v, %v, want mode 0600", info, err)
	}
	control, err := s.client.Control(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := control.Send(initRequest(nil)); err != nil {
		t.Fatal(err)
	}
	if m, err := control.Recv(); err != nil || m.GetAnswer().GetStatus().Err() != nil {
		t.Fatalf("Init: %v, %v", m, err)
	}
	// One worker, one processor; and the log line is one that hosts can read.
	if !s.stderr.Scan() {
		t.Fatal("no log line")
	}
	var entry map[string]any
	if err := json.Unmarshal(s.stderr.Bytes(), &entry); err != nil {
		t.Fatalf("%s: %v", s.stderr.Text(), err)
	}
	if entry["@level"] != "warn" || entry["@message"] != "initialised" || entry["id"] != 7.0 || entry["procs"] != 1.0 {
		t.Errorf("log line %v", entry)
	}
	if err := control.CloseSend(); err != nil {
		t.Fatal(err)
	}
	s.wantExit(t)
}

func TestProcessEndsOnSIGTERMAndIgnoresInterrupts(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no such signals")
	}
	s := startProcess(t, "GOMAXPROCS=2")
	if err := s.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if info, err := s.client.Describe(t.Context(), &wire.DescribeRequest{Api: 1}); err != nil || info.GetName() != "segs" {
		t.Fatalf("after an interrupt: %v, %v", info, err)
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.wantExit(t)
}

// stockPlugin is khelp's service as a stock go-plugin client knows it: generated code and nothing else.
type stockPlugin struct{ plugin.NetRPCUnsupportedPlugin }

func (stockPlugin) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error {
	return errors.New("not a server")
}
func (stockPlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return wire.NewHelperClient(conn), nil
}

func stockClient(cmd *exec.Cmd) *plugin.Client {
	return plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig: wire.Handshake, Plugins: plugin.PluginSet{"helper": stockPlugin{}}, Cmd: cmd, AutoMTLS: true,
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC}, Logger: hclog.NewNullLogger(), SkipHostEnv: true,
	})
}

func describeByStock(t *testing.T, cmd *exec.Cmd) *shared.Modinfo {
	t.Helper()
	cmd.Env = append(cmd.Env, wire.EnvSocketDir+"="+socketDir(t))
	client := stockClient(cmd)
	defer func() {
		client.Kill()
		if !client.Exited() {
			t.Error("the helper has not ended")
		}
		if cmd.ProcessState.ExitCode() != 0 {
			t.Errorf("asked to shut down, the helper ended with %v", cmd.ProcessState)
		}
	}()
	protocol, err := client.Client()
	if err != nil {
		t.Fatal(err)
	}
	if err := protocol.Ping(); err != nil {
		t.Errorf("health: %v", err)
	}
	raw, err := protocol.Dispense("helper")
	if err != nil {
		t.Fatal(err)
	}
	message, err := raw.(wire.HelperClient).Describe(t.Context(), &wire.DescribeRequest{Api: shared.APIGeneration})
	if err != nil {
		t.Fatal(err)
	}
	info, err := wire.ModinfoFromProto(message)
	if err != nil {
		t.Fatal(err)
	}
	if err := info.Validate(); err != nil {
		t.Errorf("what it says of itself: %v", err)
	}
	return info
}

func TestStockGoPluginClientWithAutoMTLS(t *testing.T) {
	info := describeByStock(t, command(t, "segs"))
	if info.Name != "segs" || len(info.Hooks) != 2 || !info.NeedsOSD || len(info.OSD.Template) != 16 {
		t.Errorf("%+v", info)
	}
}

func TestOnlyTheHostThatStartedItGetsIn(t *testing.T) {
	cmd := command(t, "segs", wire.EnvSocketDir+"="+socketDir(t))
	client := stockClient(cmd)
	defer client.Kill()
	addr, err := client.Start()
	if err != nil {
		t.Fatal(err)
	}
	stranger, _, err := mutualTLS(testCertificate(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, credential := range strangers(stranger) {
		conn, err := grpc.NewClient(addr.Network()+":"+addr.String(), grpc.WithTransportCredentials(credential))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if _, err := wire.NewHelperClient(conn).Describe(ctx, &wire.DescribeRequest{}); err == nil {
			t.Errorf("%s got in", name)
		}
		cancel()
		conn.Close()
	}
}

// A complete helper with typed state is at most 15 lines, and works.
func TestTinyHelper(t *testing.T) {
	source, err := os.ReadFile("testdata/tiny/main.go")
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(source, []byte("\n")); n > 15 {
		t.Errorf("the smallest helper takes %d lines, want at most 15", n)
	}
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	quoted := strings.ReplaceAll("//\t"+strings.ReplaceAll(strings.TrimSpace(string(source)), "\n", "\n//\t"), "//\t\n", "//\n")
	if !bytes.Contains(doc, []byte(quoted)) {
		t.Errorf("the package's documentation shows another program than the one that is tested; want\n%s", quoted)
	}
	binary := filepath.Join(t.TempDir(), "tiny")
	if runtime.GOOS == "windows" {
		binary += ".exe"
	}
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./testdata/tiny").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	info := describeByStock(t, exec.Command(binary))
	if info.Name != "tiny" || info.OSD.Schema[0].Name != "in" {
		t.Errorf("%+v", info)
	}
}
