// Package modcache keeps what helpers say of themselves, so that a host, and a tool that starts nothing, knows a helper's Modinfo
// without running it: in memory, and in a directory that several processes may share.
//
// An entry belongs to a command: the absolute path of the program and its arguments. It holds as long as the program, and each argument
// that names a regular file (an interpreter's script), are the files they were: of the same size, time of change and inode, or, for who
// asks exactly, of the same content.
package modcache

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// maxEntries is how many entries are kept, in memory and, each, in the directory.
const maxEntries = 1024

// Cache keeps Modinfo by command. Make it with Open. It is safe for concurrent use by goroutines, and by processes that share its
// directory. It has nothing to close.
type Cache struct {
	dir string // "": memory only

	mu      sync.Mutex        // protects the following field; never held while a file is read
	entries map[string]*entry // by key; entries are immutable
}

// Open returns the cache in a directory, which is made when there is something to store; with "" it is in memory only. So it is too, and
// that is no error, if the directory cannot be used.
func Open(dir string) *Cache { return &Cache{dir: dir, entries: map[string]*entry{}} }

// Lookup returns what is known of the helper that a command starts, and the SHA-256 of its program in hex. The caller owns the Modinfo,
// which has passed Validate.
//
// A file that is not the one it was by size, time and inode makes the entry worthless; with exact its content decides, which is read for
// that, so that a copy or a touch costs nothing but the time.
func (c *Cache) Lookup(command []string, exact bool) (info *shared.Modinfo, sum string, ok bool) {
	key, command, files := inspect(command)
	if files == nil {
		return nil, "", false
	}
	for _, from := range []func(key string) *entry{c.recall, c.read} {
		e := from(key)
		if e == nil {
			continue
		}
		current, refreshed := e.match(command, files, exact)
		if current == nil {
			continue
		}
		info, err := decode(current.info)
		if err != nil {
			continue
		}
		c.remember(key, current)
		if refreshed {
			c.write(key, current)
		}
		return info, current.files[0].SHA256, true
	}
	return nil, "", false
}

// Store keeps what the helper that a command starts says of itself; sum is the SHA-256, in hex, of the program that was run. Nothing is
// kept if the program has another sum by now, which Store reads it for unless it knows all this already, or if info cannot be encoded.
func (c *Cache) Store(command []string, sum string, info *shared.Modinfo) {
	key, command, files := inspect(command)
	if files == nil {
		return
	}
	sum = strings.ToLower(sum)
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(wire.ModinfoToProto(info))
	if err != nil || c.knows(key, command, files, sum, encoded) {
		return
	}
	e := &entry{command: command, stored: time.Now(), info: encoded}
	for i, f := range files {
		hashed, err := hash(f.Path, i == 0)
		if err != nil || i == 0 && hashed.SHA256 != sum {
			return
		}
		e.files = append(e.files, hashed)
	}
	c.remember(key, e)
	c.write(key, e)
}

// knows reports whether there is such an entry already, and sees to it that it is both here and in the directory.
func (c *Cache) knows(key string, command []string, files []file, sum string, info []byte) bool {
	for i, from := range []func(key string) *entry{c.read, c.recall} {
		e := from(key)
		if e == nil {
			continue
		}
		current, refreshed := e.match(command, files, false)
		if current == nil || current.files[0].SHA256 != sum || !bytes.Equal(current.info, info) {
			continue
		}
		c.remember(key, current)
		if inDir := i == 0; refreshed || !inDir {
			c.write(key, current)
		}
		return true
	}
	return false
}

// recall returns the entry in memory, or nil.
func (c *Cache) recall(key string) *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.entries[key]
}

// remember keeps an entry in memory.
func (c *Cache) remember(key string, e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries[key] == nil && len(c.entries) >= maxEntries {
		for other := range c.entries { // whichever: it is in the directory too, or is asked for again
			delete(c.entries, other)
			break
		}
	}
	c.entries[key] = e
}

// inspect returns the key of a command, the command with the absolute path of its program, and the files it names, without their sums. A
// command without a program has none.
func inspect(command []string) (key string, words []string, files []file) {
	words = absolute(command)
	for i, word := range words {
		f, err := identify(word)
		switch {
		case err == nil:
			files = append(files, f)
		case i == 0:
			return "", nil, nil
		}
	}
	sum := sha256.Sum256([]byte(strings.Join(words, "\x00"))) // no word of a command can have a NUL byte in it
	return hex.EncodeToString(sum[:]), words, files
}

// absolute returns the command with the absolute path of its program, or nil if there is none.
func absolute(command []string) []string {
	if len(command) == 0 || command[0] == "" || strings.ContainsRune(strings.Join(command, ""), 0) {
		return nil
	}
	path, err := filepath.Abs(command[0])
	if err != nil {
		return nil
	}
	return append([]string{path}, command[1:]...)
}

// decode reads a Modinfo, which somebody else may have written.
func decode(encoded []byte) (*shared.Modinfo, error) {
	var m wire.Modinfo
	if err := proto.Unmarshal(encoded, &m); err != nil {
		return nil, err
	}
	info, err := wire.ModinfoFromProto(&m)
	if err == nil {
		err = info.Validate()
	}
	if err != nil {
		return nil, err
	}
	return info, nil
}
