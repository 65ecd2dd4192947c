// Package filesum takes SHA-256 sums of programs, and of one that is started often only once: half of what a start costs is reading tens of
// megabytes. Who must not be deceived about a file's content, not even by its owner, reads it for himself.
package filesum

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"sync"
	"time"
)

// maxKnown is how many sums are remembered.
const maxKnown = 256

// How long a file must have been as it is for its times to tell a change: the clock they are taken from ticks slowly.
const (
	settled       = 2 * time.Second        // with a file system of which nothing is known; some keep two seconds only
	settledFinely = 100 * time.Millisecond // with those that keep nanoseconds, of a clock that ticks a hundred times a second at least
)

// sums are those of files, and those that are just being taken.
var sums = struct {
	mu    sync.Mutex // protects the following field
	known map[identity]*sum
}{known: map[identity]*sum{}}

// sum is one sum, or will be when ready is closed.
type sum struct {
	ready  chan struct{}
	digest string
	err    error
}

// Of returns the sum in hex of an open file, from where it is opened, if its identity, times of change included, is that of a file whose
// sum is known, or is just being taken by somebody else; else it reads the file to its end, unless ctx ends before.
func Of(ctx context.Context, file *os.File) (string, error) {
	id, ok := identify(file)
	if !ok {
		return Read(ctx, file)
	}
	for {
		s, mine := enter(id)
		if mine {
			return take(ctx, file, id, s)
		}
		select {
		case <-s.ready:
			if s.err == nil {
				return s.digest, nil
			}
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// enter returns what is known of a file, or a sum that the caller is to take.
func enter(id identity) (s *sum, mine bool) {
	sums.mu.Lock()
	defer sums.mu.Unlock()
	if s := sums.known[id]; s != nil {
		return s, false
	}
	if len(sums.known) >= maxKnown {
		for other := range sums.known { // whichever: it is read again
			delete(sums.known, other)
			break
		}
	}
	s = &sum{ready: make(chan struct{})}
	sums.known[id] = s
	return s, true
}

// take reads the file and tells who waits. A sum of which it is not sure what it is of is nobody else's.
func take(ctx context.Context, file *os.File, id identity, s *sum) (string, error) {
	digest, err := Read(ctx, file)
	s.digest, s.err = digest, err
	if now, ok := identify(file); err == nil && (!ok || now != id) {
		s.err = errors.New("the file changes")
	}
	if s.err != nil {
		sums.mu.Lock()
		if sums.known[id] == s {
			delete(sums.known, id)
		}
		sums.mu.Unlock()
	}
	close(s.ready)
	return digest, err
}

// Read reads a file to its end, unless ctx ends before, and returns the sum in hex.
func Read(ctx context.Context, file io.Reader) (string, error) {
	h := sha256.New()
	buf := make([]byte, 128<<10)
	for {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		n, err := file.Read(buf)
		h.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			return hex.EncodeToString(h.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
	}
}
