package launch

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/khelp/khelp/host/hosttest/testkit"
	"github.com/khelp/khelp/shared"
)

// write makes an executable file for a test.
func write(t *testing.T, name, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// foreignELF is the header of a program for an architecture that this is not.
func foreignELF() string {
	machine := uint16(183) // EM_AARCH64
	if runtime.GOARCH == "arm64" {
		machine = 62 // EM_X86_64
	}
	head := make([]byte, 64)
	copy(head, "\x7fELF\x02\x01\x01")
	binary.LittleEndian.PutUint16(head[16:], 2) // ET_EXEC
	binary.LittleEndian.PutUint16(head[18:], machine)
	binary.LittleEndian.PutUint32(head[20:], 1)
	binary.LittleEndian.PutUint16(head[52:], 64)
	return string(head)
}

// someCert is a certificate as a handshake carries it.
func someCert(t *testing.T) string {
	t.Helper()
	config, pemText, err := newIdentity()
	if err != nil || !strings.HasPrefix(pemText, "-----BEGIN CERTIFICATE-----") {
		t.Fatal(pemText, err)
	}
	return base64.RawStdEncoding.EncodeToString(config.Certificates[0].Certificate[0])
}

type failure struct {
	name      string
	command   []string
	change    func(*Config)
	reason    Reason
	sentinel  error
	permanent bool
	text      []string // parts of the message
}

func checkFailure(t *testing.T, f failure) {
	t.Helper()
	cfg, _ := testConfig(t, "")
	cfg.Command = f.command
	if f.change != nil {
		f.change(&cfg)
	}
	p, err := Start(t.Context(), cfg)
	if err == nil {
		_ = p.Stop(context.Background(), 0)
		t.Fatal("it started")
	}
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("%T: %v", err, err)
	}
	if e.Reason != f.reason || !errors.Is(err, f.sentinel) || e.Permanent() != f.permanent {
		t.Errorf("reason %s (want %s), is %v: %v, permanent: %v\n%v", e.Reason, f.reason, f.sentinel, errors.Is(err, f.sentinel), e.Permanent(), err)
	}
	if f.reason == ReasonInterpreter && errors.Is(err, syscall.ENOENT) {
		t.Errorf("an existing file is said not to exist: %v", err)
	}
	for _, part := range f.text {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("message lacks %q: %v", part, err)
		}
	}
}

func TestFilesThatCannotBeRun(t *testing.T) {
	self := os.Args[0]
	zeros := strings.Repeat("0", 64)
	for _, f := range []failure{
		{"missing", []string{"/nonexistent/helper"}, nil, ReasonMissing, shared.ErrNotExist, true, []string{"/nonexistent/helper does not exist"}},
		{"directory", []string{t.TempDir()}, nil, ReasonDirectory, shared.ErrNoExec, true, []string{"is a directory"}},
		{"device", []string{"/dev/null"}, nil, ReasonDirectory, shared.ErrNoExec, true, []string{"not a regular file"}},
		{"mode", []string{write(t, "h", "#!/bin/sh\n", 0o644)}, nil, ReasonMode, shared.ErrPermission, true, []string{"not executable", "rw-r--r--"}},
		{"text", []string{write(t, "h", "hello\n", 0o755)}, nil, ReasonFormat, shared.ErrNoExec, true, []string{"no #! line"}},
		{"empty", []string{write(t, "h", "", 0o755)}, nil, ReasonFormat, shared.ErrNoExec, true, []string{"is empty"}},
		{"foreign", []string{write(t, "h", foreignELF(), 0o755)}, nil, ReasonArch, syscall.ENOEXEC, true,
			[]string{"is built for linux/", "this host is " + runtime.GOOS + "/" + runtime.GOARCH}},
		{"damaged", []string{write(t, "h", "\x7fELF", 0o755)}, nil, ReasonFormat, shared.ErrNoExec, true, []string{"damaged"}},
		{"interpreter", []string{write(t, "h", "#!/no/such/python -u\n", 0o755)}, nil, ReasonInterpreter, shared.ErrNoExec, true,
			[]string{`interpreter "/no/such/python"`}},
		{"crlf", []string{write(t, "h", "#!/bin/sh\r\necho\r\n", 0o755)}, nil, ReasonInterpreter, shared.ErrNoExec, true, []string{"CR LF"}},
		{"nested interpreter", []string{write(t, "h", "#!"+write(t, "i", "#!/no/such/python\n", 0o755)+"\n", 0o755)}, nil, ReasonInterpreter,
			shared.ErrNoExec, true, []string{"cannot run its interpreter"}},
		{"sum", []string{self}, func(c *Config) { c.SHA256 = zeros }, ReasonChecksum, shared.ErrPermission, true, []string{zeros + " is demanded", "has sha256 "}},
		{"bad sum", []string{self}, func(c *Config) { c.SHA256 = "abc" }, ReasonConfig, shared.ErrInvalid, true, []string{"64 hexadecimal"}},
		{"no command", nil, nil, ReasonConfig, shared.ErrInvalid, true, nil},
		{"no name", []string{self}, func(c *Config) { c.Name = "" }, ReasonConfig, shared.ErrInvalid, true, nil},
		{"handshake env", []string{self}, func(c *Config) { c.Env = map[string]string{"PLUGIN_CLIENT_CERT": "x"} }, ReasonConfig, shared.ErrInvalid, true, nil},
		{"env name", []string{self}, func(c *Config) { c.Env = map[string]string{"a=b": "x"} }, ReasonConfig, shared.ErrInvalid, true, nil},
		{"runtime dir", []string{self}, func(c *Config) { c.RuntimeDir = "/nonexistent" }, ReasonConfig, shared.ErrNotExist, true, nil},
	} {
		t.Run(f.name, func(t *testing.T) { checkFailure(t, f) })
	}
}

func TestRuntimeDirTooLong(t *testing.T) {
	long := filepath.Join(t.TempDir(), strings.Repeat("d", 90))
	if err := os.Mkdir(long, 0o700); err != nil {
		t.Fatal(err)
	}
	checkFailure(t, failure{
		command: helperCommand("stock"), change: func(c *Config) { c.RuntimeDir = long },
		reason: ReasonConfig, sentinel: shared.ErrInvalid, permanent: true, text: []string{"too long"},
	})
	if left, _ := os.ReadDir(long); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestProgramsThatAreNoHelpers(t *testing.T) {
	soon := func(c *Config) { c.StartTimeout = 300 * time.Millisecond }
	script := func(body string) []string { return []string{write(t, "h", "#!/bin/sh\n"+body, 0o755)} }
	for _, f := range []failure{
		{"true", []string{"/bin/true"}, nil, ReasonNotHelper, shared.ErrNoExec, true, []string{"is not a helper", "exited with status 0"}},
		{"echo", []string{"/bin/echo", "hello"}, nil, ReasonNotHelper, shared.ErrNoExec, true, []string{"exited with status 0", "\n  hello"}},
		{"exit 3", helperCommand("exit"), nil, ReasonExited, shared.ErrHelperGone, false, []string{"status 3 before its handshake", "\n  cannot open /etc/nothing\n  giving up"}},
		{"signal", helperCommand("abort"), nil, ReasonExited, shared.ErrHelperGone, false, []string{"ended by signal 9"}},
		{"127", script("exec /no/such/program\n"), nil, ReasonExited, shared.ErrHelperGone, true, []string{"status 127"}},
		{"cookie", helperCommand("other-cookie"), nil, ReasonExited, shared.ErrHelperGone, false, []string{"status 1", "This binary is a plugin"}},
		{"version", helperCommand("version-9"), nil, ReasonProtocol, shared.ErrIncompatible, true, []string{`khelp protocol version "9", this host speaks 1`}},
		{"core", helperCommand("print", "2|1|unix|/x|grpc|"), nil, ReasonProtocol, shared.ErrIncompatible, true, []string{`core protocol "2"`}},
		{"netrpc", helperCommand("print", "1|1|unix|/x|netrpc|"), nil, ReasonProtocol, shared.ErrIncompatible, true, []string{`"netrpc"`}},
		{"no transport", helperCommand("print", "1|1|unix|/x"), nil, ReasonProtocol, shared.ErrIncompatible, true, []string{`"netrpc"`}},
		{"network", helperCommand("print", "1|1|pigeon|/x|grpc|"), nil, ReasonNotHelper, shared.ErrNoExec, true, []string{"bad handshake"}},
		{"elsewhere", helperCommand("print", "1|1|tcp|192.0.2.1:80|grpc|"), nil, ReasonNotHelper, shared.ErrNoExec, true, []string{"not on this machine"}},
		{"bad cert", helperCommand("print", "1|1|unix|/x|grpc|"+strings.Repeat("?", 60)), nil, ReasonNotHelper, shared.ErrNoExec, true, []string{"server cert"}},
		{"chatter", helperCommand("chatter"), nil, ReasonNotHelper, shared.ErrNoExec, true, []string{"more than 16 lines", "line 16"}},
		{"closed", helperCommand("close-stdout"), nil, ReasonNotHelper, shared.ErrNoExec, true, []string{"closed its standard output"}},
		{"silent", helperCommand("hold"), soon, ReasonTimeout, shared.ErrTimeout, false, []string{"handshake", "300ms"}},
		{"garbage", helperCommand("print", "hello", "|||||"), soon, ReasonTimeout, shared.ErrTimeout, false, []string{"\n  hello\n  |||||"}},
		{"no tls", helperCommand("no-tls"), nil, ReasonNoTLS, shared.ErrIncompatible, true, []string{"mutual TLS"}},
		{"deaf", helperCommand("deaf"), func(c *Config) { c.StartTimeout = time.Second }, ReasonTimeout, shared.ErrTimeout, false, []string{"after its handshake", "1s"}},
		{"dies", helperCommand("dies"), nil, ReasonExited, shared.ErrHelperGone, false, []string{"status 4 after its handshake", "out of cheese"}},
		{"no tls behind it", helperCommand("not-tls"), nil, ReasonConnect, shared.ErrHelperGone, false, []string{"cannot connect", "tls:"}},
		{"nobody there", helperCommand("print", "1|1|unix|/nonexistent/s|grpc|"+someCert(t)), nil, ReasonConnect, shared.ErrHelperGone, false, []string{"/nonexistent/s"}},
	} {
		t.Run(f.name, func(t *testing.T) { checkFailure(t, f) })
	}
}

// A script is a helper like any other; what its shell leaves behind is ended too.
func TestCancelEndsEverything(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	cfg, _ := testConfig(t, "")
	cfg.Command = []string{write(t, "h", "#!/bin/sh\n"+strings.Join(helperCommand("hold"), " ")+" & echo $! > "+pidFile+".new; mv "+pidFile+".new "+pidFile+"; wait\n", 0o755)}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	result := make(chan error, 1)
	go func() {
		_, err := Start(ctx, cfg)
		result <- err
	}()
	var pid int
	testkit.Until(t, "the helper's child runs", func() bool {
		b, err := os.ReadFile(pidFile)
		if err != nil {
			return false
		}
		for _, c := range strings.TrimSpace(string(b)) {
			pid = pid*10 + int(c-'0')
		}
		return true
	})
	cancel()
	err := <-result
	var e *Error
	if !errors.As(err, &e) || e.Reason != ReasonCanceled || !errors.Is(err, shared.ErrCanceled) || !errors.Is(err, context.Canceled) {
		t.Errorf("error: %v", err)
	}
	testkit.Until(t, "the helper's child ends", func() bool { return gone(pid) })
}

func TestStartWithContextAlreadyDone(t *testing.T) {
	cfg, _ := testConfig(t, "stock")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Start(ctx, cfg); !errors.Is(err, shared.ErrCanceled) {
		t.Errorf("error: %v", err)
	}
	late, cancel2 := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel2()
	if _, err := Start(late, cfg); !errors.Is(err, shared.ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error: %v", err)
	}
}
