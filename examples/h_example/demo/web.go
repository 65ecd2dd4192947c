package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// maxAnswer bounds what a request may ask for, in bytes.
const maxAnswer = 64 << 20

// webServer is the server behind the proxy. It knows nothing of khelp.
type webServer struct {
	address  string
	requests atomic.Uint64 // answered

	server *http.Server
	ended  chan error // of Serve
}

// startWeb serves at an address until close.
func startWeb(address string) (*webServer, error) {
	lis, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("web server: %w", err)
	}
	w := &webServer{address: lis.Addr().String(), ended: make(chan error, 1)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /bytes/{n}", w.sendBytes)
	mux.HandleFunc("POST /sum", w.countBytes)
	mux.HandleFunc("GET /clock", w.tick)
	w.server = &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	go func() { w.ended <- w.server.Serve(lis) }()
	return w, nil
}

// close ends the server, its connections with it, and waits for it.
func (w *webServer) close() error {
	err := w.server.Close()
	if served := <-w.ended; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// sendBytes answers GET /bytes/N with N bytes.
func (w *webServer) sendBytes(rw http.ResponseWriter, r *http.Request) {
	n, err := strconv.ParseInt(r.PathValue("n"), 10, 64)
	if err != nil || n < 0 || n > maxAnswer {
		http.Error(rw, fmt.Sprintf("a number from 0 to %d, please", maxAnswer), http.StatusBadRequest)
		return
	}
	w.requests.Add(1) // before the answer, so that no client is ahead of it
	rw.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	_, _ = io.CopyN(rw, letters{}, n) // fails if the client is gone
}

// countBytes answers POST /sum with the length of what was sent.
func (w *webServer) countBytes(rw http.ResponseWriter, r *http.Request) {
	n, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		return
	}
	w.requests.Add(1)
	_, _ = fmt.Fprintln(rw, n) // fails if the client is gone
}

// tick answers GET /clock with the time, once a second, until the client has enough. Watch the counts grow with khelpd objects.
func (w *webServer) tick(rw http.ResponseWriter, r *http.Request) {
	w.requests.Add(1)
	every := time.NewTicker(time.Second)
	defer every.Stop()
	for now := time.Now(); ; {
		_, err := fmt.Fprintln(rw, now.Format(time.TimeOnly))
		if err = errors.Join(err, http.NewResponseController(rw).Flush()); err != nil {
			return
		}
		select {
		case now = <-every.C:
		case <-r.Context().Done():
			return
		}
	}
}

// letters is an endless text.
type letters struct{}

func (letters) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'a' + byte(i%26)
	}
	return len(p), nil
}

// serveOnly serves until ctx ends.
func serveOnly(ctx context.Context, address string, out io.Writer) error {
	w, err := startWeb(address)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "serving http://%s/clock, /bytes/N and POST /sum until interrupted\n", w.address)
	select {
	case <-ctx.Done():
		return w.close()
	case err := <-w.ended:
		return err
	}
}
