package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/khelp/khelp/config"
	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/host/hosttest/testkit"
	"github.com/khelp/khelp/host/tcp"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/helper"
	"github.com/khelp/khelp/shared/points/tcpv1"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// helperBinary builds the helper, once.
var helperBinary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(testkit.SharedDir(), "h_example")
	if runtime.GOOS == "windows" {
		path += ".exe"
	}
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
	t.Cleanup(cancel)
	return ctx
}

func TestModinfo(t *testing.T) {
	info, err := example.Modinfo()
	if err != nil {
		t.Fatal(err)
	}
	if !info.NeedsOSD {
		t.Error("it keeps counts, but does not ask for room for them")
	}
	hooked := map[shared.HookPoint]bool{}
	for _, h := range info.Hooks {
		hooked[h.Point] = true
	}
	if len(hooked) != 2 || !hooked[tcpv1.EstIn] || !hooked[tcpv1.EstOut] {
		t.Errorf("it hooks %v, want both established points", hooked)
	}
	values := info.OSD.Schema.Values(info.OSD.Template)
	if len(values) != 2 || values["est_in"] != uint64(0) || values["est_out"] != uint64(0) {
		t.Errorf("a new connection shows %v, want est_in and est_out of 0", values)
	}
}

// TestServed drives the helper through the protocol, but inside the test's process: hook by hook, with no subsystem around it.
func TestServed(t *testing.T) {
	ctx := testContext(t)
	h := hosttest.New(t, host.Config{})
	opts := hhook.Options{Kind: hhook.Observe, Budget: testkit.Patience}
	in := mustHead(t, h, tcpv1.EstIn, opts)
	opts.Async = true
	out := mustHead(t, h, tcpv1.EstOut, opts)
	hosttest.Load(t, h, example, shared.HelperSpec{Timeout: testkit.Patience})

	const objects, rounds = 3, 50
	for i := range objects {
		o, err := h.NewObject(ctx, tcpv1.ClassTCP)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := o.Destroy(context.Background()); err != nil {
				t.Error(err)
			}
		})
		for range rounds + i {
			if _, err := in.Run(ctx, o, nil); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if _, err := out.Run(ctx, o, nil); err != nil {
					t.Fatal(err)
				}
			}
		}
		want := counts{EstIn: uint64(rounds + i), EstOut: 2 * uint64(rounds+i)}
		hosttest.Until(t, "the counts of an object", func() bool { return slot(t, h, o.ID()) == want })
	}
	for _, head := range h.Hooks() {
		for _, hook := range head.Hooks {
			if len(hook.Missed) > 0 || hook.Skipped > 0 {
				t.Errorf("%s: missed %v, skipped %d", head.Point, hook.Missed, hook.Skipped)
			}
		}
	}
}

// TestOtherPoint: the function answers for its two points only.
func TestOtherPoint(t *testing.T) {
	ctx := testContext(t)
	h := hosttest.New(t, host.Config{})
	head := mustHead(t, h, tcpv1.Close, hhook.Options{Kind: hhook.Observe})
	wrong := example
	wrong.Hooks = helper.Hooks[counts]{tcpv1.Close: countSegment}
	hosttest.Load(t, h, wrong, shared.HelperSpec{})
	o, err := h.NewObject(ctx, tcpv1.ClassTCP)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := o.Destroy(ctx); err != nil {
			t.Error(err)
		}
	}()
	if _, err := head.Run(ctx, o, nil); err != nil {
		t.Fatalf("an observer stopped its caller: %v", err)
	}
	if hook := h.Hooks()[0].Hooks[0]; hook.Committed != 0 || len(hook.Missed) != 1 {
		t.Errorf("committed %d, missed %v; want one missed call", hook.Committed, hook.Missed)
	}
}

// TestProcess runs the built helper as a process of its own behind the real TCP subsystem.
func TestProcess(t *testing.T) {
	binary := build(t)
	ctx := testContext(t)
	h := hosttest.New(t, host.Config{})
	subsystem, err := tcp.New(h, tcp.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := subsystem.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if err := h.Load(ctx, shared.HelperSpec{Command: []string{binary}, Timeout: testkit.Patience}, host.LoadOptions{}); err != nil {
		t.Fatal(err)
	}
	proxy, err := subsystem.Listen(ctx, tcp.ProxyOptions{Name: "echo", Listen: "127.0.0.1:0", Upstream: echo(t)})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- proxy.Serve(context.Background()) }()
	t.Cleanup(func() {
		if err := errors.Join(proxy.Close(), <-served); err != nil {
			t.Error(err)
		}
	})

	const connections, messages = 3, 20
	for i := range connections {
		c, err := net.Dial("tcp", proxy.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		for range messages * (i + 1) {
			talk(t, c)
		}
	}
	// A message and its echo travel alone, so each is a segment.
	hosttest.Until(t, "every count to be in", func() bool { return inStep(t, h, connections, messages*(1+2+3)) })
	for i, o := range objects(t, h) {
		want := uint64(messages * (i + 1))
		if got := slot(t, h, o.ID); got != (counts{want, want}) {
			t.Errorf("connection %d (%s) counted %+v, want %d each way", i, o.Name, got, want)
		}
	}
	st, err := h.Stat(ctx, "h_example")
	if err != nil {
		t.Fatal(err)
	}
	if s := st.Helpers[0]; s.PID == 0 || s.State != shared.StateActive || s.Objects != connections || s.Version != example.Version {
		t.Errorf("stat shows %+v", s)
	}
}

// inStep reports whether both points passed n segments and the helper committed them all, on so many connections.
func inStep(t *testing.T, h *host.Host, connections, n int) bool {
	t.Helper()
	both := 0
	for _, head := range h.Hooks() {
		for _, hook := range head.Hooks {
			if len(hook.Missed) > 0 {
				t.Fatalf("%s missed %v", head.Point, hook.Missed)
			}
			if head.Forwarded == uint64(n) && hook.Committed == head.Forwarded {
				both++
			}
		}
	}
	return both == 2 && len(objects(t, h)) == connections
}

// TestConfig: the configuration that comes with the example is a good one, and gives what the walk-through says.
func TestConfig(t *testing.T) {
	cfg, diags := config.Load("khelpd.hcl")
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	if h := cfg.Helper("h_example"); h == nil || h.Spec.Load != shared.LoadBoot {
		t.Errorf("helper block: %+v", h)
	}
	if len(cfg.TCP) != 1 || cfg.TCP[0].Name != "web" || cfg.TCP[0].Upstream != "127.0.0.1:9000" || !cfg.TCP[0].Async {
		t.Errorf("tcp blocks: %+v", cfg.TCP)
	}
}

// TestByHand: a person who starts the helper is told what to do instead.
func TestByHand(t *testing.T) {
	out, err := exec.Command(build(t)).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("it ended with %v, want exit status 1", err)
	}
	if !strings.Contains(string(out), "h_example 1.0.0 is a khelp helper") || !strings.Contains(string(out), "khelpd load") {
		t.Errorf("it said: %s", out)
	}
}

func mustHead(t *testing.T, h *host.Host, point shared.HookPoint, opts hhook.Options) *hhook.Head {
	t.Helper()
	head, err := h.RegisterHead(point, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := head.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return head
}

func objects(t *testing.T, h *host.Host) []host.ObjectStat {
	t.Helper()
	list, err := h.Objects(host.ObjectFilter{Helper: "h_example"})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// slot returns what the host holds for the helper on an object, as its schema shows it.
func slot(t *testing.T, h *host.Host, id uint64) counts {
	t.Helper()
	for _, o := range objects(t, h) {
		if o.ID == id {
			in, _ := o.Slots[0].Values["est_in"].(uint64)
			out, _ := o.Slots[0].Values["est_out"].(uint64)
			return counts{in, out}
		}
	}
	t.Fatalf("object %d is not followed", id)
	return counts{}
}

// build returns the path of the helper's binary.
func build(t *testing.T) string {
	t.Helper()
	path, err := helperBinary()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// talk sends a message and waits for its echo.
func talk(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(testkit.Patience)); err != nil {
		t.Fatal(err)
	}
	message := fmt.Sprintf("%-64s", c.LocalAddr())
	if _, err := io.WriteString(c, message); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, len(message))
	if _, err := io.ReadFull(c, answer); err != nil || string(answer) != message {
		t.Fatalf("echo %q, %v", answer, err)
	}
}

// echo serves a port that sends back what it gets, and returns its address.
func echo(t *testing.T) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := lis.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c) // ends with the connection, however that ends
			}()
		}
	}()
	t.Cleanup(func() {
		lis.Close()
		<-ended
	})
	return lis.Addr().String()
}
