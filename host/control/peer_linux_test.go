package control

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/khelp/khelp/host/hosttest/testkit"
	"github.com/khelp/khelp/shared"
)

func self() Peer {
	return Peer{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()), PID: int32(os.Getpid()), Known: true}
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

// programs are what other users run in these tests.
var programs = testkit.Programs{"call": call, "hog": hog}

// call SOCKET asks for the helpers, loads one and prints the words of the errors, or "ok".
func call() {
	c, err := Dial(context.Background(), os.Args[1])
	if err != nil {
		fmt.Println("dial:", err)
		return
	}
	defer c.Close()
	_, stat := c.Stat(context.Background(), "")
	for _, err := range []error{stat, loadBy(context.Background(), c, LoadRequest{Name: "ertt"})} {
		if err == nil {
			fmt.Println("ok")
		} else {
			fmt.Println(shared.ErrWord(err)+":", err)
		}
	}
}

// hog SOCKET opens as many connections as it can hold and prints how many of them the server keeps. It ends with its input.
func hog() {
	var kept []net.Conn
	for range 2 * usual.stranger {
		conn, err := net.Dial("unix", os.Args[1])
		if err != nil {
			fmt.Println(err)
			return
		}
		// A server that keeps a connection speaks first.
		if _, err := conn.Write([]byte(hello)); err == nil {
			if _, err = conn.Read(make([]byte, 1)); err == nil {
				kept = append(kept, conn)
			}
		}
	}
	fmt.Println(len(kept))
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// asUser is the command of a program that runs as another user.
func asUser(t *testing.T, cred syscall.Credential, program, path string) *exec.Cmd {
	t.Helper()
	// The test binary itself may lie where others have no way.
	binary := filepath.Join(testkit.SharedDir(), "call")
	if _, err := os.Stat(binary); err != nil {
		text, err := os.ReadFile(os.Args[0])
		if err == nil {
			err = os.WriteFile(binary, text, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), binary, testkit.Command(program, path)[1:]...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &cred}
	return cmd
}

// callAs runs the program as another user and returns the lines that it prints.
func callAs(t *testing.T, path string, cred syscall.Credential) []string {
	t.Helper()
	cmd := asUser(t, cred, "call", path)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to become another user")
	}
}

func TestOtherUsers(t *testing.T) {
	needRoot(t)
	many := make([]uint32, 3*fewGroups) // more than the first guess at their number
	for i := range many {
		many[i] = uint32(70000 + i)
	}
	rules := []shared.AccessRule{
		{Privileges: []shared.Privilege{shared.PrivilegeStat}, GIDs: []uint32{60004}},
		{Privileges: []shared.Privilege{shared.PrivilegeStat, shared.PrivilegeLoad}, UIDs: []uint32{60002}},
		{Privileges: []shared.Privilege{shared.PrivilegeStat}, GIDs: many[len(many)-1:]},
	}
	h := &fakeHost{}
	path, srv := serve(t, h, Options{Authorize: Allow(rules)})
	openDirs(t, path)
	_ = srv
	if err := os.Chmod(path, Public); err != nil {
		t.Fatal(err)
	}
	const refused = "EPERM: %s is refused to uid %d gid %d"
	for _, tt := range []struct {
		name string
		cred syscall.Credential
		want [2]string
	}{
		{"stranger", syscall.Credential{Uid: 60001, Gid: 60001}, [2]string{fmt.Sprintf(refused, "stat", 60001, 60001), fmt.Sprintf(refused, "load", 60001, 60001)}},
		{"by uid", syscall.Credential{Uid: 60002, Gid: 60001}, [2]string{"ok", "ok"}},
		{"by primary group", syscall.Credential{Uid: 60001, Gid: 60004}, [2]string{"ok", fmt.Sprintf(refused, "load", 60001, 60004)}},
		{"by supplementary group", syscall.Credential{Uid: 60001, Gid: 60001, Groups: []uint32{60003, 60004}}, [2]string{"ok", fmt.Sprintf(refused, "load", 60001, 60001)}},
		{"by the last of many groups", syscall.Credential{Uid: 60001, Gid: 60001, Groups: many}, [2]string{"ok", fmt.Sprintf(refused, "load", 60001, 60001)}},
		{"root in a strange group", syscall.Credential{Uid: 0, Gid: 60001}, [2]string{"ok", "ok"}},
	} {
		got := callAs(t, path, tt.cred)
		if len(got) != 2 || !strings.HasPrefix(got[0], tt.want[0]) || !strings.HasPrefix(got[1], tt.want[1]) {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	if len(h.specs) != 2 {
		t.Errorf("%d loads reached the host, want 2", len(h.specs))
	}
}

// Without access rules the mode keeps others out, and behind that their uid does.
func TestAnotherUserIsRefused(t *testing.T) {
	needRoot(t)
	path, _ := serve(t, &fakeHost{}, Options{})
	openDirs(t, path)
	cred := syscall.Credential{Uid: 65534, Gid: 65534}
	if got := callAs(t, path, cred); len(got) != 1 || !strings.Contains(got[0], "permission denied") {
		t.Errorf("with mode 0600: %q", got)
	}
	if err := os.Chmod(path, Public); err != nil {
		t.Fatal(err)
	}
	if got := callAs(t, path, cred); len(got) != 2 || !strings.HasPrefix(got[0], "EPERM: stat is refused to uid 65534") {
		t.Errorf("with mode 0666: %q", got)
	}
}

// One user cannot take all the connections: beyond a few they are closed at once, and others and the owner get in.
func TestStrangersCannotLockOthersOut(t *testing.T) {
	needRoot(t)
	path, _ := serve(t, &fakeHost{}, Options{Authorize: Allow(nil)})
	openDirs(t, path)
	if err := os.Chmod(path, Public); err != nil {
		t.Fatal(err)
	}
	for _, uid := range []uint32{60001, 60002} {
		cmd := asUser(t, syscall.Credential{Uid: uid, Gid: uid}, "hog", path)
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = stdin.Close()
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
		})
		line, err := bufio.NewReader(stdout).ReadString('\n')
		if want := fmt.Sprintln(usual.stranger); err != nil || line != want {
			t.Errorf("uid %d keeps %q connections (%v), want %q", uid, line, err, want)
		}
	}
	if _, err := dial(t, path).Stat(t.Context(), ""); err != nil {
		t.Errorf("the owner: %v", err)
	}
}
