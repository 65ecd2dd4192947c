package testkit

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// openFiles counts what the process has open, and what memory it shares, by what the kernel calls it.
func openFiles() map[string]int {
	open := map[string]int{}
	links, _ := filepath.Glob("/proc/self/fd/*") // the pattern is good
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && !strings.HasPrefix(target, "/proc/") { // that one is of the listing
			open[target]++
		}
	}
	maps, _ := os.ReadFile("/proc/self/maps")
	for line := range strings.Lines(string(maps)) {
		// address perms offset dev inode path
		if f := strings.Fields(line); len(f) > 5 && strings.HasSuffix(f[1], "s") {
			open["shared memory "+strings.Join(f[5:], " ")]++
		}
	}
	return open
}

// describeFile adds the addresses of a socket to its number.
func describeFile(target string) string {
	if !strings.HasPrefix(target, "socket:") {
		return target
	}
	links, _ := filepath.Glob("/proc/self/fd/*")
	for _, link := range links {
		fd, err := strconv.Atoi(filepath.Base(link))
		if err != nil {
			continue
		}
		if t, err := os.Readlink(link); err != nil || t != target {
			continue
		}
		text := target
		if local, err := unix.Getsockname(fd); err == nil {
			text += " " + address(local)
		}
		if peer, err := unix.Getpeername(fd); err == nil {
			text += " to " + address(peer)
		}
		return text
	}
	return target
}

func address(sa unix.Sockaddr) string {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return fmt.Sprintf("%d.%d.%d.%d:%d", sa.Addr[0], sa.Addr[1], sa.Addr[2], sa.Addr[3], sa.Port)
	case *unix.SockaddrInet6:
		return fmt.Sprintf("[%x]:%d", sa.Addr, sa.Port)
	case *unix.SockaddrUnix:
		return fmt.Sprintf("%q", sa.Name)
	}
	return fmt.Sprintf("%T", sa)
}

// processes finds the children of this process, those that have ended but are not waited for among them, and every other process that
// works in its directory for temporary files: a child's child that has lost its parent.
func processes() map[int]string {
	found := map[int]string{}
	self := os.Getpid()
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == self {
			continue
		}
		state, parent := stat(dir)
		if parent != self && !worksInTemp(dir) {
			continue
		}
		cmdline, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		text := strings.TrimSpace(string(bytes.ReplaceAll(cmdline, []byte{0}, []byte{' '})))
		if state == "Z" {
			text = "has ended, and nobody has waited for it"
		}
		found[pid] = text
	}
	return found
}

// stat returns the state and the parent of a process.
func stat(dir string) (state string, parent int) {
	text, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return "", 0
	}
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:])) // the name before may hold anything
	if len(f) < 2 {
		return "", 0
	}
	parent, _ = strconv.Atoi(f[1])
	return f[0], parent
}

func worksInTemp(dir string) bool {
	if own.temp == "" {
		return false
	}
	env, err := os.ReadFile(filepath.Join(dir, "environ"))
	if err != nil {
		return false
	}
	for v := range bytes.SplitSeq(env, []byte{0}) {
		if path, ok := bytes.CutPrefix(v, []byte("TMPDIR=")); ok {
			return string(path) == own.temp || bytes.HasPrefix(path, []byte(own.temp+"/"))
		}
	}
	return false
}
