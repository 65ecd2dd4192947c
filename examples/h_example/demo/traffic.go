package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// sizes of answers and of what is sent, in bytes: less than a segment, and more than any buffer on the way.
var sizes = []int{0, 1, 700, 4 << 10, 64 << 10, 1 << 20}

// traffic is the clients. Each has one connection, which it keeps for all its requests.
type traffic struct {
	clients []*client
	enough  chan struct{} // closed by rest: finish the request under way and rest
	once    sync.Once     // closes enough
	cancel  context.CancelFunc
	all     sync.WaitGroup // the goroutines of the clients
}

// client is one of them. Its goroutine ends with an error, or when it rests.
type client struct {
	base     string
	http     *http.Client
	local    string // address of its end of the connection; set by dial
	answered atomic.Uint64
	arrived  chan struct{} // gets a token after each answer, if there is room
	ended    chan struct{} // closed at the end of the goroutine
	err      error         // what ended it; set before ended is closed
}

// startTraffic starts n clients of the proxy. They go on until rest or close.
func startTraffic(ctx context.Context, proxy string, n int) *traffic {
	ctx, cancel := context.WithCancel(ctx)
	t := &traffic{enough: make(chan struct{}), cancel: cancel}
	for i := range n {
		c := newClient(proxy)
		t.clients = append(t.clients, c)
		t.all.Go(func() {
			defer close(c.ended)
			c.err = c.run(ctx, i, t.enough)
		})
	}
	return t
}

func newClient(proxy string) *client {
	c := &client{base: "http://" + proxy, arrived: make(chan struct{}, 1), ended: make(chan struct{})}
	c.http = &http.Client{Transport: &http.Transport{DialContext: c.dial, MaxConnsPerHost: 1, DisableCompression: true}}
	return c
}

// dial makes the client's one connection. The transport asks for another only if it lost the first.
func (c *client) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if c.local != "" {
		return nil, fmt.Errorf("the connection from %s was lost", c.local)
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c.local = conn.LocalAddr().String()
	return conn, nil
}

// await waits until every client has had n answers.
func (t *traffic) await(ctx context.Context, n uint64) error {
	for i, c := range t.clients {
		for c.answered.Load() < n {
			select {
			case <-c.arrived:
			case <-c.ended:
				return fmt.Errorf("connection %d ended early: %w", i+1, c.err)
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
	return nil
}

// rest lets the clients finish what they are at. Their connections stay open.
func (t *traffic) rest(ctx context.Context) error {
	t.once.Do(func() { close(t.enough) })
	for i, c := range t.clients {
		select {
		case <-c.ended:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if c.err != nil {
			return fmt.Errorf("connection %d: %w", i+1, c.err)
		}
	}
	return nil
}

// close ends the clients and their connections. It may be called twice.
func (t *traffic) close() {
	t.cancel()
	t.all.Wait()
	for _, c := range t.clients {
		c.http.CloseIdleConnections()
	}
}

// perConnection returns how many answers each connection has had, by the client's address. Only for clients at rest.
func (t *traffic) perConnection() map[string]uint64 {
	m := make(map[string]uint64, len(t.clients))
	for _, c := range t.clients {
		m[c.local] = c.answered.Load()
	}
	return m
}

func (t *traffic) answered() uint64 {
	var sum uint64
	for _, c := range t.clients {
		sum += c.answered.Load()
	}
	return sum
}

// run sends one request after another, of every size and both kinds, until it is enough.
func (c *client) run(ctx context.Context, first int, enough <-chan struct{}) error {
	for i := first; ; i++ {
		select {
		case <-enough:
			return nil
		default:
		}
		size := sizes[i%len(sizes)]
		ask := c.fetch
		if i/len(sizes)%2 == 1 {
			ask = c.send
		}
		if err := ask(ctx, size); err != nil {
			return err
		}
		c.answered.Add(1)
		select {
		case c.arrived <- struct{}{}:
		default:
		}
	}
}

// fetch asks for size bytes and reads them.
func (c *client) fetch(ctx context.Context, size int) error {
	answer, err := c.do(ctx, http.MethodGet, "/bytes/"+strconv.Itoa(size), nil)
	if err == nil && len(answer) != size {
		err = fmt.Errorf("got %d bytes, want %d", len(answer), size)
	}
	return err
}

// send sends size bytes and reads how many arrived.
func (c *client) send(ctx context.Context, size int) error {
	answer, err := c.do(ctx, http.MethodPost, "/sum", bytes.NewReader(make([]byte, size)))
	if err == nil && strings.TrimSpace(string(answer)) != strconv.Itoa(size) {
		err = fmt.Errorf("sent %d bytes, the server saw %s", size, answer)
	}
	return err
}

func (c *client) do(ctx context.Context, method, path string, body io.Reader) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, answer)
	}
	return answer, nil
}
