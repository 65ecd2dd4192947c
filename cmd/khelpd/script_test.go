//go:build unix

package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/khelp/khelp/host/hosttest/testkit"
)

func TestMain(m *testing.M) { testscript.Main(testkit.Checked(m), programs) }

func TestScripts(t *testing.T) {
	// A daemon does not reload by a signal that it was started to ignore, as what runs under nohup is; one that is caught here is not ignored.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	t.Cleanup(func() { signal.Stop(hangups) })
	// testscript's own directory stays behind when not all scripts are run; t.TempDir's is too long for sockets.
	root, err := os.MkdirTemp("", "s") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(root, 0o711); err != nil { // for scripts that act as another user
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(root); err != nil {
			t.Error(err)
		}
	})
	testscript.Run(t, testscript.Params{
		WorkdirRoot:         root,
		Dir:                 "testdata/script",
		Setup:               setup,
		RequireExplicitExec: true,
		Condition: func(name string) (bool, error) {
			if name == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", name)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exit":     cmdExit,
			"waitfor":  cmdWaitfor,
			"sigterm":  cmdSignal(syscall.SIGTERM),
			"sighup":   cmdSignal(syscall.SIGHUP),
			"connect":  cmdConnect,
			"exchange": cmdExchange,
			"hangup":   cmdHangup,
			"refused":  cmdRefused,
			"rejected": cmdRejected,
			"listens":  cmdListens,
			"setsum":   cmdSetsum,
			"setenv":   cmdSetenv,
			"notified": cmdNotified,

			"killhelper":  cmdKillhelper,
			"inherits":    cmdInherits,
			"noprocesses": cmdNoprocesses,
		},
	})
}

// world is what a script has around it.
type world struct {
	notify *net.UnixConn // NOTIFY_SOCKET

	mu    sync.Mutex // protects the following fields
	conns map[string]net.Conn
}

type worldKey struct{}

func worldOf(ts *testscript.TestScript) *world {
	w, ok := ts.Value(worldKey{}).(*world)
	if !ok {
		ts.Fatalf("setup has not run")
	}
	return w
}

// setup gives a script an echo server, a helper path of its own, a place for temporary files and a service manager's ear, and checks
// in the end that nothing of it is left.
func setup(env *testscript.Env) error {
	t, ok := env.T().(interface {
		Errorf(format string, args ...any)
		Failed() bool
	})
	if !ok {
		return fmt.Errorf("%T is no test", env.T())
	}
	khelpd, err := exec.LookPath("khelpd")
	if err != nil {
		return err
	}
	helpers := filepath.Join(env.WorkDir, "helpers")
	if err := os.MkdirAll(helpers, 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "") // the work directory is too long for sockets
	if err != nil {
		return err
	}
	for _, name := range helperNames {
		// Under a path of its own a helper that outlives its daemon can be told from those of other scripts.
		if err := link(filepath.Join(filepath.Dir(khelpd), name), filepath.Join(helpers, name)); err != nil {
			return err
		}
	}
	w := &world{conns: map[string]net.Conn{}}
	echo, err := startEcho()
	if err != nil {
		return err
	}
	notify := filepath.Join(env.WorkDir, "n.sock")
	if w.notify, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notify, Net: "unixgram"}); err != nil {
		return err
	}
	env.Values[worldKey{}] = w
	env.Setenv("HELPERS", helpers)
	env.Setenv("TMPDIR", tmp)
	env.Setenv("ECHO", echo.Addr().String())
	env.Setenv("KHELPD_SOCKET", filepath.Join(env.WorkDir, "k.sock"))
	env.Setenv("NOTIFY", notify)
	env.Setenv("KHELPD_CACHE", filepath.Join(env.WorkDir, "cache"))
	env.Setenv("GORACE", "atexit_sleep_ms=0") // or every program takes a second to exit under the race detector
	env.Defer(func() {
		for _, c := range w.conns {
			_ = c.Close()
		}
		_ = w.notify.Close()
		echo.stop()
		if t.Failed() {
			return // the script's daemon is still there; it is killed after this
		}
		awaitNoProcesses(t.Errorf, env.WorkDir)
		if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
			t.Errorf("temporary files are left: %v, %v", left, err)
		}
		if err := os.RemoveAll(tmp); err != nil {
			t.Errorf("%v", err)
		}
	})
	return nil
}

func link(from, to string) error {
	if os.Link(from, to) == nil {
		return nil
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}

// processesUnder finds the processes whose program lies in a directory, with their command lines, where /proc tells.
func processesUnder(dir string) map[int]string {
	found := map[int]string{}
	entries, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, e := range entries {
		cmdline, err := os.ReadFile(e)
		if err != nil || !bytes.HasPrefix(cmdline, []byte(dir+"/")) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(e))); err == nil {
			found[pid] = strings.ReplaceAll(string(cmdline), "\x00", " ")
		}
	}
	return found
}

func awaitNoProcesses(fail func(string, ...any), dir string) {
	eventually(fail, "all processes of the script to end", func() error {
		if left := processesUnder(dir); len(left) > 0 {
			return fmt.Errorf("left: %v", left)
		}
		return nil
	})
}

// echoServer sends back what it gets.
type echoServer struct {
	net.Listener
	wg sync.WaitGroup
}

func startEcho() (*echoServer, error) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	e := &echoServer{Listener: lis}
	e.wg.Go(func() {
		for {
			conn, err := lis.Accept()
			if err != nil {
				return
			}
			e.wg.Go(func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			})
		}
	})
	return e, nil
}

// stop waits for the connections to end, which they do when khelpd has.
func (e *echoServer) stop() {
	_ = e.Close()
	e.wg.Wait()
}
