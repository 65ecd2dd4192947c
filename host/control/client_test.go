package control

import (
	"bytes"
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hosttest/testkit"
	"github.com/khelp/khelp/shared"
)

func TestDialWithoutADaemon(t *testing.T) {
	dir := t.TempDir()
	_, err := Dial(t.Context(), filepath.Join(dir, "none.sock"))
	wantIs(t, err, ErrNotRunning)
	wantIs(t, err, syscall.ENOENT)

	path := filepath.Join(dir, "stale.sock")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	_, err = Dial(t.Context(), path)
	wantIs(t, err, ErrNotRunning)
}

func TestDaemonThatGoesAway(t *testing.T) {
	path, srv := serve(t, &fakeHost{}, Options{})
	c := dial(t, path)
	if _, err := c.Stat(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if err := srv.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := c.Stat(t.Context(), "")
	wantIs(t, err, ErrNotRunning)
}

func TestClientFindsADaemonThatWasStartedAnew(t *testing.T) {
	path, srv := serve(t, &fakeHost{}, Options{})
	c := dial(t, path)
	if _, err := c.Stat(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if err := srv.Close(); err != nil {
		t.Fatal(err)
	}
	lis, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	again := newServer(&fakeHost{}, Options{}, usual)
	ended := make(chan error, 1)
	go func() { ended <- again.Serve(lis) }()
	// The first call may still meet the old connection.
	_, err = c.Stat(t.Context(), "")
	if errors.Is(err, ErrNotRunning) {
		_, err = c.Stat(t.Context(), "")
	}
	if err != nil {
		t.Errorf("Stat of the new daemon: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	if err := testkit.Await(t, "the end of Serve", ended); err != nil {
		t.Error(err)
	}
}

func TestClientThatAsksNothingLeavesNothing(t *testing.T) {
	path, _ := serve(t, &fakeHost{}, Options{})
	if err := dial(t, path).Close(); err != nil { // and once more when the test ends; the leak check sees to the rest
		t.Error(err)
	}
}

func TestCallsEndWithTheirContext(t *testing.T) {
	ended := make(chan error, 1)
	path, _ := serve(t, &fakeHost{change: func(ctx context.Context) error {
		<-ctx.Done()
		ended <- ctx.Err()
		return ctx.Err()
	}}, Options{})
	c := dial(t, path)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	wantIs(t, loadBy(ctx, c, LoadRequest{Name: "ertt"}), shared.ErrTimeout)
	if err := testkit.Await(t, "the host's side of the call", ended); err == nil {
		t.Error("the host's call did not end with the client's")
	}
}

// A daemon that closes connections at once is there all the same, unless it no longer listens.
func TestTurnedAway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.sock")
	lis, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	leave := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		for {
			conn, err := lis.Accept()
			if err != nil {
				ended <- nil
				return
			}
			select {
			case <-leave:
				_ = lis.Close()
			default:
			}
			_ = conn.Close()
		}
	}()
	_, err = dial(t, path).Stat(t.Context(), "")
	wantIs(t, err, shared.ErrOverload)
	if err == nil || err.Error() != "the daemon has closed the connection: too many are open" || errors.Is(err, ErrNotRunning) {
		t.Errorf("a call: %v", err)
	}
	_, err = dial(t, path).Objects(t.Context(), host.ObjectFilter{})
	wantIs(t, err, shared.ErrOverload)
	close(leave)
	_, err = dial(t, path).Stat(t.Context(), "")
	wantIs(t, err, ErrNotRunning)
	if err := testkit.Await(t, "the end of the listener", ended); err != nil {
		t.Error(err)
	}
}

// That connections are too many is logged, but not for each of many.
func TestTooManyAreLogged(t *testing.T) {
	var out bytes.Buffer
	l := newLimitListener(nil, usual, hclog.New(&hclog.LoggerOptions{Output: &out}))
	begin := time.Now()
	for _, at := range []time.Duration{0, 1, time.Second - 1, time.Second} {
		l.refusedLocked(Peer{UID: 4711, GID: 7, Known: true}, begin.Add(at))
	}
	first, second := `peer="uid 4711 gid 7" open=0 refused=1`, `peer="uid 4711 gid 7" open=0 refused=3`
	if got := out.String(); strings.Count(got, "WARN") != 2 || !strings.Contains(got, first) || !strings.Contains(got, second) {
		t.Errorf("the log says\n%s", got)
	}
}
