package main

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A daemon that is stopped, or stuck, still has a socket that takes connections.
func TestHungDaemonTimesOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "k.sock")
	lis, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	for _, args := range [][]string{
		{"stat"}, {"hooks"}, {"objects"}, {"load", "x"}, {"unload", "x", "--wait", "1h"}, {"info", "x"}, {"hold", "x"}, {"rele", "x"},
		{"restart", "x"}, {"reload"}, {"events"}, {"logs", "x"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		var stdout, stderr strings.Builder
		code := run(ctx, append(args, "--socket", path), strings.NewReader(""), &stdout, &stderr)
		cancel()
		if code != exitTimeout || !strings.Contains(stderr.String(), ": ETIMEDOUT: ") || stdout.Len() > 0 {
			t.Errorf("%v: exit code %d, stdout %q, stderr %q", args, code, stdout.String(), stderr.String())
		}
	}
}

// Completion asks the daemon, and offers what it can without one: it neither fails nor waits.
func TestCompletionWithoutADaemon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "k.sock")
	lis, err := net.Listen("unix", path) // stuck
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	for _, socket := range []string{path, path + ".none"} {
		for _, command := range []string{"stat", "unload", "hold", "rele", "restart", "logs", "load", "info"} {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			var stdout, stderr strings.Builder
			code := run(ctx, []string{"__complete", "--socket", socket, command, ""}, strings.NewReader(""), &stdout, &stderr)
			cancel()
			want := ":4\n"
			if command == "load" || command == "info" { // files
				want = ":0\n"
			}
			if code != exitDone || stdout.String() != want {
				t.Errorf("%s: exit code %d, stdout %q, stderr %q", command, code, stdout.String(), stderr.String())
			}
		}
	}
}

// Scripts that pipe into a program that has gone must not be told that all is well.
func TestOutputThatFails(t *testing.T) {
	var stderr strings.Builder
	t.Setenv(socketEnv, filepath.Join(t.TempDir(), "none.sock"))
	for _, args := range [][]string{{"version"}, {"version", "-o", "json"}} {
		if code := run(t.Context(), args, strings.NewReader(""), brokenWriter{}, &stderr); code != exitFailed {
			t.Errorf("%v: exit code %d, want %d", args, code, exitFailed)
		}
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, net.ErrClosed }
