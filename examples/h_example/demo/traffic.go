package main

import (
	"bufio"
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
	"time"
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

// client is one of them. Its goroutine ends with an error, or when it rests. It speaks HTTP over a connection of its own rather than
// through http.Client, which takes a new connection whenever it sees fit.
type client struct {
	conn     net.Conn
	reader   *bufio.Reader // of conn
	answered atomic.Uint64
	arrived  chan struct{} // gets a token after each answer, if there is room
	ended    chan struct{} // closed at the end of the goroutine
	err      error         // what ended it; set before ended is closed
}

// startTraffic starts n clients of the proxy. They go on until rest or close.
func startTraffic(ctx context.Context, proxy string, n int) (*traffic, error) {
	ctx, cancel := context.WithCancel(ctx)
	t := &traffic{enough: make(chan struct{}), cancel: cancel}
	for i := range n {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", proxy)
		if err != nil {
			t.close()
			return nil, err
		}
		c := &client{conn: conn, reader: bufio.NewReader(conn), arrived: make(chan struct{}, 1), ended: make(chan struct{})}
		t.clients = append(t.clients, c)
		t.all.Go(func() {
			defer close(c.ended)
			defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })() // wakes it; fails once conn is closed
			c.err = c.run(i, t.enough)
		})
	}
	return t, nil
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
		_ = c.conn.Close() // nothing is lost by a failure, and the second time it is one
	}
}

// perConnection returns how many answers each connection has had, by the client's address. Only for clients at rest.
func (t *traffic) perConnection() map[string]uint64 {
	m := make(map[string]uint64, len(t.clients))
	for _, c := range t.clients {
		m[c.conn.LocalAddr().String()] = c.answered.Load()
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
func (c *client) run(first int, enough <-chan struct{}) error {
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
		if err := ask(size); err != nil {
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
func (c *client) fetch(size int) error {
	answer, err := c.do(http.MethodGet, "/bytes/"+strconv.Itoa(size), nil)
	if err == nil && len(answer) != size {
		err = fmt.Errorf("got %d bytes, want %d", len(answer), size)
	}
	return err
}

// send sends size bytes and reads how many arrived.
func (c *client) send(size int) error {
	answer, err := c.do(http.MethodPost, "/sum", bytes.NewReader(make([]byte, size)))
	if err == nil && strings.TrimSpace(string(answer)) != strconv.Itoa(size) {
		err = fmt.Errorf("sent %d bytes, the server saw %s", size, answer)
	}
	return err
}

func (c *client) do(method, path string, body io.Reader) ([]byte, error) {
	req, err := http.NewRequest(method, "http://"+c.conn.RemoteAddr().String()+path, body)
	if err != nil {
		return nil, err
	}
	answer, err := c.roundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	return answer, nil
}

func (c *client) roundTrip(req *http.Request) ([]byte, error) {
	if err := req.Write(c.conn); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(c.reader, req)
	if err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(resp.Body)
	switch err = errors.Join(err, resp.Body.Close()); {
	case err != nil:
		return nil, err
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s: %s", resp.Status, answer)
	case resp.Close:
		return nil, errors.New("the server ends the connection")
	}
	return answer, nil
}
