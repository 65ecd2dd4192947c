//go:build unix

package main

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/khelp/khelp/config"
	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/host/hosttest/testkit"
	"github.com/khelp/khelp/shared"
)

// startProxies serves blocks until the test ends, which fails if a proxy does by itself.
func startProxies(t *testing.T, blocks ...config.TCP) *proxies {
	t.Helper()
	testkit.CheckLeaks(t)
	failed := func(err error) {
		if err != nil {
			t.Errorf("a proxy ends: %v", err)
		}
	}
	p, err := listenProxies(t.Context(), hosttest.New(t, host.Config{}), blocks, hclog.NewNullLogger(), failed)
	if err != nil {
		t.Fatal(err)
	}
	p.serve()
	t.Cleanup(func() {
		if err := errors.Join(p.drain(context.Background()), p.close(context.Background())); err != nil {
			t.Error(err)
		}
	})
	return p
}

func echo(t *testing.T) string {
	t.Helper()
	e, err := startEcho()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.stop)
	return e.Addr().String()
}

// say sends a word over a connection and wants it back.
func say(conn net.Conn, word string) error {
	if _, err := io.WriteString(conn, word); err != nil {
		return err
	}
	got := make([]byte, len(word))
	_, err := io.ReadFull(conn, got)
	return err
}

// Whatever becomes of the blocks, who connects to an address that stays gets in, and who is in stays.
func TestChangesLoseNoConnection(t *testing.T) {
	upstreams := []string{echo(t), echo(t)}
	p := startProxies(t, config.TCP{Name: "web", Listen: "127.0.0.1:0", Upstream: upstreams[0], Async: true})
	address := p.list[0].lis.Addr().String()
	old, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	var (
		wg    sync.WaitGroup
		stop  atomic.Bool
		calls atomic.Int64
	)
	for range 4 {
		wg.Go(func() {
			for !stop.Load() {
				conn, err := net.Dial("tcp", address)
				if err == nil {
					err = errors.Join(say(conn, "hello"), conn.Close())
				}
				if err != nil {
					t.Errorf("connection %d: %v", calls.Load(), err)
					return
				}
				calls.Add(1)
			}
		})
	}
	for i := range 200 {
		block := config.TCP{Name: "web" + strconv.Itoa(i%3), Listen: address, Upstream: upstreams[i%2], Async: true, Vnet: []string{"", "edge"}[i/2%2]}
		for _, ch := range p.change(t.Context(), []config.TCP{block}) {
			if ch.Err != nil {
				t.Errorf("%s %s: %v", ch.Action, ch.Name, ch.Err)
			}
		}
	}
	testkit.Until(t, "some connections", func() bool { return calls.Load() > 100 || t.Failed() })
	stop.Store(true)
	wg.Wait()
	if err := say(old, "still here"); err != nil {
		t.Errorf("the connection from before: %v", err)
	}
}

func TestChangesOfBlocks(t *testing.T) {
	up := echo(t)
	block := func(name, listen string) config.TCP {
		return config.TCP{Name: name, Listen: listen, Upstream: up, Async: true}
	}
	p := startProxies(t, block("a", "127.0.0.1:0"), block("b", "127.0.0.1:0"))
	a, b := p.list[0].lis.Addr().String(), p.list[1].lis.Addr().String()
	change := func(want error, blocks ...config.TCP) {
		t.Helper()
		for _, ch := range p.change(t.Context(), blocks) {
			if want != nil && ch.Name == "bad" {
				if !errors.Is(ch.Err, want) {
					t.Errorf("%s %s: %v, want %v", ch.Action, ch.Name, ch.Err, want)
				}
			} else if ch.Err != nil {
				t.Errorf("%s %s: %v", ch.Action, ch.Name, ch.Err)
			}
		}
	}
	reaches := func(address string) {
		t.Helper()
		conn, err := net.Dial("tcp", address)
		if err == nil {
			err = errors.Join(say(conn, "hello"), conn.Close())
		}
		if err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
	if got := p.change(t.Context(), []config.TCP{block("a", "127.0.0.1:0"), block("b", "127.0.0.1:0")}); len(got) != 0 {
		t.Errorf("nothing has changed, but: %v", got)
	}
	change(nil, block("a", b), block("b", a)) // they swap
	reaches(a)
	reaches(b)
	change(shared.ErrBusy, block("bad", up), block("a", b))
	if got := p.blocks(); len(got) != 1 || got[0].Name != "a" {
		t.Errorf("blocks are %v", got)
	}
	if _, err := net.Dial("tcp", a); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the block that has gone still listens: %v", err)
	}
	wrong := block("a", b)
	wrong.Name, wrong.Async = "bad", false // its vnet has points that are async
	change(shared.ErrBusy, wrong)
	if got := p.blocks(); len(got) != 0 {
		t.Errorf("blocks are %v", got)
	}
	testkit.Until(t, "the points to go", func() bool { return len(hookPoints(p)) == 0 })
	change(nil, wrong) // now it is the first there
}

func hookPoints(p *proxies) []string {
	var points []string
	for _, head := range p.host.Hooks() {
		points = append(points, string(head.Point))
	}
	return slices.Compact(points)
}
