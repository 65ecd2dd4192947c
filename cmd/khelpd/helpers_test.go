//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/khelp/khelp/host/hosttest/testkit"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/helper"
)

// The programs that scripts run, each of them this test binary under another name.
var programs = map[string]func(){
	"khelpd":     main,
	"h_count":    countHelper,
	"h_guard":    guardHelper,
	"h_refuse":   refuseHelper,
	"h_stay":     stayHelper,
	"h_slow":     slowHelper,
	"h_child":    childHelper,
	"h_gate":     gateHelper,
	"h_talk":     talkHelper,
	"h_fussy":    fussyHelper,
	"as":         asUser,
	"not_helper": func() { fmt.Println("hello, I am something else") },
	"activate":   activate,
	"logged":     func() { redirected("logged", 2) },
	"written":    func() { redirected("written", 1, 2) },
	"unread":     unread,
	"leaky":      leaky,
}

// helperNames are those that lie on the helper path of scripts.
var helperNames = []string{"h_count", "h_guard", "h_refuse", "h_stay", "h_slow", "h_child", "h_gate", "h_talk", "h_fussy", "not_helper"}

func init() {
	if slices.Contains(helperNames, filepath.Base(os.Args[0])) {
		testkit.QuickExit() // khelpd gives a helper no GORACE
	}
}

type segments struct{ In, Out uint64 }

// countHelper counts the segments of a connection, with properties of every type that the command line can set.
func countHelper() {
	conf := struct {
		Every   int
		Label   string
		Verbose bool
	}{Every: 1}
	helper.Serve(helper.Helper[segments]{
		Name: "h_count", Version: "1.2.3", Classes: helper.Classes{"tcp"}, Config: &conf,
		Hooks: helper.Hooks[segments]{
			"tcp.est_in":  func(_ context.Context, _ *helper.Call, s *segments) error { s.In++; return nil },
			"tcp.est_out": func(_ context.Context, _ *helper.Call, s *segments) error { s.Out++; return nil },
		},
		Stat: func(context.Context) map[string]float64 {
			verbose := 0.0
			if conf.Verbose {
				verbose = 1
			}
			return map[string]float64{"every": float64(conf.Every), "verbose": verbose, "label_length": float64(len(conf.Label))}
		},
	})
}

// guardHelper turns every connection away.
func guardHelper() {
	helper.Serve(helper.Helper[struct{}]{Name: "h_guard", Version: "0.1.0", Hooks: helper.Hooks[struct{}]{
		"socket.newconn": func(_ context.Context, c *helper.Call, _ *struct{}) error { return c.Reject("nobody comes in") },
	}})
}

// refuseHelper does not want to start.
func refuseHelper() {
	helper.Serve(helper.Helper[struct{}]{Name: "h_refuse", Version: "0.1.0", Init: func(context.Context, *helper.Host) error {
		return errors.New("not today")
	}})
}

// slowHelper takes all the time it is given to start.
func slowHelper() {
	helper.Serve(helper.Helper[struct{}]{Name: "h_slow", Version: "0.1.0", Init: func(ctx context.Context, _ *helper.Host) error {
		<-ctx.Done()
		return ctx.Err()
	}})
}

// stayHelper does not want to end.
func stayHelper() {
	helper.Serve(helper.Helper[struct{}]{Name: "h_stay", Version: "0.1.0", Fini: func(context.Context) error {
		return shared.ErrBusy.Errorf("still writing")
	}})
}

// childHelper requires another, and ships texts.
func childHelper() {
	helper.Serve(helper.Helper[struct{}]{
		Name: "h_child", Version: "2.0.0", Description: "needs h_count", Requires: []string{"h_count ~> 1.0"},
		Sections: map[string]string{"readme": "Read me.\n", "licence": "Do as you like.\n"},
		Config: &struct {
			Depth int `khelp:"depth" doc:"how deep"`
		}{Depth: 3},
		Hooks: helper.Hooks[struct{}]{"socket.close": func(context.Context, *helper.Call, *struct{}) error { return nil }},
	})
}

// gateHelper starts when somebody writes to the pipe that it is told of.
func gateHelper() {
	var conf struct{ Gate string }
	helper.Serve(helper.Helper[struct{}]{
		Name: "h_gate", Version: "0.1.0", Config: &conf, Init: func(context.Context, *helper.Host) error {
			_, err := os.ReadFile(conf.Gate)
			return err
		},
	})
}

// fussyHelper has properties that not every value of their type fits; for what net is only it knows.
func fussyHelper() {
	conf := struct {
		Small uint8
		Every time.Duration
		Net   netip.Prefix
	}{Every: time.Second}
	helper.Serve(helper.Helper[struct{}]{Name: "h_fussy", Version: "0.1.0", Config: &conf})
}

// talkHelper says on stderr what it sees.
func talkHelper() {
	helper.Serve(helper.Helper[struct{}]{
		Name: "h_talk", Version: "0.1.0",
		Init: func(context.Context, *helper.Host) error {
			_, err := fmt.Fprintln(os.Stderr, "good morning")
			return err
		},
		Hooks: helper.Hooks[struct{}]{"socket.newconn": func(context.Context, *helper.Call, *struct{}) error {
			_, err := fmt.Fprintln(os.Stderr, "somebody comes")
			return err
		}},
	})
}

// asUser is the program "as": as UID GID[,GID...] PROGRAM ARGS... is khelpd as another user.
func asUser() {
	err := func() error {
		uid, err := strconv.Atoi(os.Args[1])
		if err != nil {
			return err
		}
		var gids []int
		for _, word := range strings.Split(os.Args[2], ",") {
			gid, err := strconv.Atoi(word)
			if err != nil {
				return err
			}
			gids = append(gids, gid)
		}
		// Not by execve: the way to the program may be closed to others.
		return errors.Join(syscall.Setgroups(gids[1:]), syscall.Setgid(gids[0]), syscall.Setuid(uid))
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, "as:", err)
		os.Exit(125)
	}
	os.Args = os.Args[3:]
	main()
}

// activate is a service manager in small: activate NAME FILE PROGRAM ARGS... listens, writes the address to the file and becomes the
// program, with the socket as descriptor 3.
func activate() {
	err := func() error {
		name, file, argv := os.Args[1], os.Args[2], os.Args[3:]
		lis, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return err
		}
		socket, err := lis.File()
		if err != nil {
			return err
		}
		if err := dup(int(socket.Fd()), 3); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(lis.Addr().String()), 0o600); err != nil {
			return err
		}
		env := append(os.Environ(), "LISTEN_FDS=1", "LISTEN_FDNAMES="+name, "LISTEN_PID="+strconv.Itoa(os.Getpid()))
		return become(argv, env)
	}()
	fmt.Fprintln(os.Stderr, "activate:", err)
	os.Exit(1)
}

// redirected is the programs "logged FILE PROGRAM ARGS...", which becomes the program with stderr going to the file, so that a script can
// read it meanwhile, and "written", with stdout going there too.
func redirected(name string, descriptors ...int) {
	err := func() error {
		f, err := os.Create(os.Args[1])
		if err != nil {
			return err
		}
		for _, fd := range descriptors {
			if err := dup(int(f.Fd()), fd); err != nil {
				return err
			}
		}
		return become(os.Args[2:], os.Environ())
	}()
	fmt.Fprintln(os.Stderr, name+":", err)
	os.Exit(1)
}

// unread PROGRAM ARGS... becomes the program, with stdout and stderr going to a pipe whose reader has ended.
func unread() {
	err := func() error {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		if err := errors.Join(dup(int(w.Fd()), 1), dup(int(w.Fd()), 2), r.Close()); err != nil {
			return err
		}
		return become(os.Args[1:], os.Environ())
	}()
	fmt.Fprintln(os.Stderr, "unread:", err)
	os.Exit(1)
}

// leaky FD PROGRAM ARGS... becomes the program, with a descriptor left open.
func leaky() {
	err := func() error {
		fd, err := strconv.Atoi(os.Args[1])
		if err != nil {
			return err
		}
		if err := dup(0, fd); err != nil {
			return err
		}
		return become(os.Args[2:], os.Environ())
	}()
	fmt.Fprintln(os.Stderr, "leaky:", err)
	os.Exit(1)
}

// become runs another of the programs in this process.
func become(argv, env []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return syscall.Exec(filepath.Join(filepath.Dir(self), argv[0]), argv, env)
}
