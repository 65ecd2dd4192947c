package filesum

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"
)

// old gives a file times from long ago, as far as its owner can.
func old(t *testing.T, path string) {
	t.Helper()
	long := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, long, long); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	old(t, path)
}

func of(ctx context.Context, t *testing.T, path string) (string, error) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return Of(ctx, f)
}

func want(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// TestOf: whatever is remembered, a file that has changed has another sum, even if size and time of modification are the same.
func TestOf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for _, text := range []string{"", "one", "two", "one"} {
		write(t, path, text)
		for range 3 {
			if got, err := of(t.Context(), t, path); err != nil || got != want(text) {
				t.Errorf("%q: %s, %v", text, got, err)
			}
		}
	}
}

// TestSettled: a sum is remembered of a file that has not just changed.
func TestSettled(t *testing.T) {
	path, err := os.Executable() // nobody has changed it lately
	if err != nil {
		t.Fatal(err)
	}
	if deadline := time.Now().Add(2 * settled); runtime.GOOS == "linux" {
		for { // or somebody has, with a compiler
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			id, ok := identify(f)
			if ok {
				sum, err := Of(t.Context(), f)
				s, mine := enter(id)
				if err != nil || mine || s.digest != sum {
					t.Errorf("%s, %v; %+v, %v", sum, err, s, mine)
				}
			}
			_ = f.Close()
			if ok {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the file never settles")
			}
			runtime.Gosched()
		}
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := of(t.Context(), t, path); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// TestCanceled: who gives up fails nobody else.
func TestCanceled(t *testing.T) {
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			ctx := t.Context()
			if i%2 == 0 {
				ctx = gone
			}
			if _, err := of(ctx, t, path); err != nil && !(i%2 == 0 && errors.Is(err, context.Canceled)) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
