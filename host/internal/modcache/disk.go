package modcache

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/khelp/khelp/shared/wire"
)

// entry is what is known of one command. It is immutable.
type entry struct {
	command []string // with the absolute path of the program
	files   []file   // the program, then the arguments that name files
	stored  time.Time
	info    []byte // wire.Modinfo
}

// header is what stands in a file before the Modinfo.
type header struct {
	Command []string  `json:"command"`
	Stored  time.Time `json:"stored"`
	Files   []file    `json:"files"`
}

// A file is the magic line, a line of JSON, the Modinfo and the SHA-256 of all that.
const (
	magic   = "khelp modinfo 1\n"
	suffix  = ".modinfo"
	tempFor = "new-*.tmp" // a file while it is written
	// maxFile bounds what is read and written: the largest Modinfo, and a command.
	maxFile = wire.MaxFrame + 1<<20
	// tempAge is from when on a temporary file is taken for one that a process that died has left.
	tempAge = time.Hour
)

var errForeign = errors.New("not an entry of the cache")

// encode returns the file of an entry.
func (e *entry) encode() ([]byte, error) {
	head, err := json.Marshal(header{e.command, e.stored, e.files})
	if err != nil {
		return nil, err
	}
	out := slices.Concat([]byte(magic), head, []byte("\n"), e.info)
	sum := sha256.Sum256(out)
	if out = append(out, sum[:]...); len(out) > maxFile {
		return nil, errors.New("the entry is too large")
	}
	return out, nil
}

// parse reads a file. The Modinfo in it is not looked at.
func parse(text []byte) (*entry, error) {
	if len(text) < len(magic)+sha256.Size || !bytes.HasPrefix(text, []byte(magic)) {
		return nil, errForeign
	}
	body, sum := text[:len(text)-sha256.Size], text[len(text)-sha256.Size:]
	if want := sha256.Sum256(body); !bytes.Equal(sum, want[:]) {
		return nil, errForeign
	}
	head, info, ended := bytes.Cut(body[len(magic):], []byte("\n"))
	var h header
	if err := json.Unmarshal(head, &h); err != nil || !ended {
		return nil, errForeign
	}
	if len(h.Command) == 0 || len(h.Files) == 0 || len(h.Files) > len(h.Command) || h.Files[0].SHA256 == "" {
		return nil, errForeign
	}
	return &entry{h.Command, h.Files, h.Stored, info}, nil
}

func (c *Cache) path(key string) string { return filepath.Join(c.dir, key+suffix) }

// read returns the entry in the directory, or nil if there is none that can be read.
func (c *Cache) read(key string) *entry {
	if c.dir == "" {
		return nil
	}
	path := c.path(key)
	// What is not a regular file is none of ours, and may be made to wait for ever.
	if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil || len(text) > maxFile {
		return nil
	}
	e, err := parse(text)
	if err != nil {
		return nil
	}
	return e
}

// write puts an entry into the directory if it can. Readers see the file before or this one, whole; whatever has stood there under the
// name, a link too, is replaced and not written to.
func (c *Cache) write(key string, e *entry) {
	if c.dir == "" {
		return
	}
	text, err := e.encode()
	if err != nil || os.MkdirAll(c.dir, 0o755) != nil {
		return
	}
	f, err := os.CreateTemp(c.dir, tempFor) // made anew, under a name that nobody knows
	if err != nil {
		return
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(0o644), f.Close()) // there are no secrets in it, and validate is run by others
	if err == nil {
		_, missing := os.Lstat(c.path(key))
		if err = os.Rename(f.Name(), c.path(key)); err == nil && errors.Is(missing, fs.ErrNotExist) {
			c.prune()
		}
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
}

// prune removes the oldest files if there are too many, and what processes that died have left.
func (c *Cache) prune() {
	list, err := os.ReadDir(c.dir)
	if err != nil {
		return
	}
	var files []fs.FileInfo
	for _, d := range list {
		info, err := d.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		temp, _ := filepath.Match(tempFor, d.Name())
		switch {
		case strings.HasSuffix(d.Name(), suffix):
			files = append(files, info)
		case temp && time.Since(info.ModTime()) > tempAge:
			_ = os.Remove(filepath.Join(c.dir, d.Name()))
		}
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int {
		return cmp.Or(a.ModTime().Compare(b.ModTime()), strings.Compare(a.Name(), b.Name()))
	})
	for _, info := range files[:max(0, len(files)-maxEntries)] {
		_ = os.Remove(filepath.Join(c.dir, info.Name()))
	}
}
