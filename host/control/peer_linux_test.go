package control

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/khelp/khelp/host/hosttest/testkit"
	"github.com/khelp/khelp/shared"
)

func self() Peer {
	return Peer{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()), PID: int32(os.Getpid()), Known: true}
}

// dialAs connects with another effective uid, which the kernel keeps by thread.
func dialAs(t *testing.T, uid int, path string) net.Conn {
	t.Helper()
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		conn, err := func() (net.Conn, error) {
			if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
				return nil, errno
			}
			return net.Dial("unix", path)
		}()
		done <- result{conn, err}
	}()
	r := testkit.Await(t, "a connection as another user", done)
	if r.err != nil {
		t.Fatal(r.err)
	}
	return r.conn
}

func TestAnotherUserIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to become another user")
	}
	h := &fakeHost{}
	path, _ := serve(t, h, Options{})
	// Open the doors in front of the check, as an access block does.
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	openDirs(t, path)
	c, err := newClient(dialAs(t, 65534, path), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Stat(t.Context(), "")
	wantIs(t, err, shared.ErrPermission)
	wantIs(t, c.Load(t.Context(), LoadRequest{Name: "ertt"}), unix.EPERM)
	if len(h.specs) != 0 {
		t.Error("a refused call reached the host")
	}
}

func TestSocketIsClosedToOthersByItsMode(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to become another user")
	}
	path, _ := serve(t, &fakeHost{}, Options{})
	openDirs(t, path)
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), 65534, ^uintptr(0)); errno != 0 {
			done <- errno
			return
		}
		_, err := Dial(t.Context(), path)
		done <- err
	}()
	wantIs(t, testkit.Await(t, "Dial as another user", done), shared.ErrPermission)
}

// openDirs lets everybody search the temporary directories above path.
func openDirs(t *testing.T, path string) {
	t.Helper()
	for dir := filepath.Dir(path); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}
