package control

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/khelp/khelp/shared"
)

func TestListenMakesAPrivateSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dir", "c.sock")
	lis, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" && info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("mode is %v, want a socket with 0600", info.Mode())
	}
	if got := lis.Addr().String(); got != path {
		t.Errorf("address is %s, want %s", got, path)
	}
	for range 2 {
		if err := lis.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there after Close: %v", err)
	}
	if _, err := os.Lstat(filepath.Dir(path)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory that was made is still there after Close: %v", err)
	}
}

func TestListenLeavesTheDirectoriesOfOthers(t *testing.T) {
	base := t.TempDir()
	closed := func(path string) {
		t.Helper()
		lis, err := Listen(path)
		if err == nil {
			err = lis.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	closed(filepath.Join(base, "c.sock"))
	used := filepath.Join(base, "used")
	lis, err := Listen(filepath.Join(used, "c.sock"))
	if err != nil {
		t.Fatal(err)
	}
	closed(filepath.Join(used, "d.sock")) // has not made the directory
	if err := os.WriteFile(filepath.Join(used, "notes"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := lis.Close(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{base, filepath.Join(used, "notes")} {
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("%s has gone: %v", path, err)
		}
	}
}

func TestListenMakesNoMoreThanTheLastDirectory(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "a", "b", "c")
	_, err := Listen(filepath.Join(dir, "c.sock"))
	wantIs(t, err, shared.ErrNotExist)
	if text := err.Error(); !strings.Contains(text, dir+" cannot be made") || !strings.HasSuffix(text, "only "+base+" exists") {
		t.Errorf("the error does not name what is there and what is not: %v", err)
	}
	// A path that cannot be bound leaves no directory behind either.
	_, err = Listen(filepath.Join(base, "d", strings.Repeat("x", 200)))
	wantIs(t, err, shared.ErrInvalid)
	if left, err := os.ReadDir(base); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// Daemons that come and go in a directory that each makes and removes do not disturb each other: none finds it missing.
func TestListenDirectoryHammer(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for range 100 {
				lis, err := Listen(filepath.Join(dir, strconv.Itoa(i)))
				if err == nil {
					err = lis.Close()
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestListenRefusesALiveSocketAndNamesIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.sock")
	lis, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	_, err = Listen(path)
	wantIs(t, err, shared.ErrBusy)
	if !strings.Contains(err.Error(), path) {
		t.Errorf("the error does not name %s: %v", path, err)
	}
	if conn, err := net.Dial("unix", path); err != nil {
		t.Errorf("the live socket was damaged: %v", err)
	} else {
		conn.Close()
	}
}

func TestListenReplacesAStaleSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.sock")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	lis, err := Listen(path)
	if err != nil {
		t.Fatalf("a stale socket is in the way: %v", err)
	}
	lis.Close()
}

func TestListenLeavesOtherFilesAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notes.txt")
	if err := os.WriteFile(path, []byte("dear diary"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Listen(path)
	wantIs(t, err, shared.ErrExist)
	if text, err := os.ReadFile(path); err != nil || string(text) != "dear diary" {
		t.Errorf("the file was touched: %q, %v", text, err)
	}
}

func TestListenRefusesPathsThatCannotBe(t *testing.T) {
	_, err := Listen("")
	wantIs(t, err, shared.ErrInvalid)
	_, err = Listen(filepath.Join(t.TempDir(), strings.Repeat("x", 200)))
	wantIs(t, err, shared.ErrInvalid)
}

func TestCloseLeavesASocketOfAnotherAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.sock")
	first, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	second, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the second socket went with the first listener: %v", err)
	}
}

// Of many that start at once on a stale socket, exactly one gets it.
func TestListenHammer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.sock")
	for range 20 {
		var (
			wg    sync.WaitGroup
			start = make(chan struct{})
			got   = make(chan net.Listener, 8)
		)
		for range cap(got) {
			wg.Go(func() {
				<-start
				lis, err := Listen(path)
				switch {
				case err == nil:
					got <- lis
				case !errors.Is(err, shared.ErrBusy):
					t.Errorf("Listen: %v", err)
				}
			})
		}
		close(start)
		wg.Wait()
		close(got)
		if len(got) != 1 {
			t.Fatalf("%d listeners got the path, want 1", len(got))
		}
		lis, ok := (<-got).(*listener)
		if !ok {
			t.Fatal("Listen returns another type")
		}
		// What kill -9 leaves behind: the socket's file, and nobody that listens.
		if err := lis.UnixListener.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
