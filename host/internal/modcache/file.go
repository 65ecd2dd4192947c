package modcache

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/khelp/khelp/host/internal/filesum"
)

// file is one file that a command names, as it was once.
type file struct {
	Path   string `json:"path"` // absolute
	Size   int64  `json:"size"`
	MTime  int64  `json:"mtime"` // nanoseconds since 1970
	Inode  uint64 `json:"inode,omitempty"`
	SHA256 string `json:"sha256,omitempty"` // "": not known
}

const (
	// maxScript is up to which size the content of an argument is looked at: a program may well be given a large file to work on.
	maxScript = 16 << 20
	// settling is how long after a change another one may leave the time of change as it is: clocks of file systems are coarse.
	settling = 2 * time.Second
)

var errNotAFile = errors.New("not a regular file")

// identify returns what tells a regular file from others without reading it.
func identify(path string) (file, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return file{}, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return file{}, err
	}
	return identity(path, info)
}

func identity(path string, info fs.FileInfo) (file, error) {
	if !info.Mode().IsRegular() {
		return file{}, errNotAFile
	}
	return file{Path: path, Size: info.Size(), MTime: info.ModTime().UnixNano(), Inode: inode(info)}, nil
}

// hash reads a regular file and returns its identity with its sum, which is left out for a large file unless it is the program. A file
// that changes meanwhile is an error.
func hash(path string, program bool) (file, error) {
	if _, err := identify(path); err != nil { // what is no regular file may wait for a writer, or never end
		return file{}, err
	}
	r, err := os.Open(path)
	if err != nil {
		return file{}, err
	}
	defer func() { _ = r.Close() }()
	before, err := openIdentity(path, r)
	if err != nil || before.Size > maxScript && !program {
		return before, err
	}
	sum, err := filesum.Of(context.Background(), r)
	if err != nil {
		return file{}, err
	}
	after, err := openIdentity(path, r)
	if err != nil {
		return file{}, err
	}
	if after != before {
		return file{}, errors.New("the file changes")
	}
	after.SHA256 = sum
	return after, nil
}

func openIdentity(path string, r *os.File) (file, error) {
	info, err := r.Stat()
	if err != nil {
		return file{}, err
	}
	return identity(path, info)
}

// match returns the entry if it is of this command and holds for the files as they are now, or nil. Where files have another identity, and
// exact has their content looked at, it is a new entry, refreshed.
func (e *entry) match(command []string, now []file, exact bool) (current *entry, refreshed bool) {
	if len(now) != len(e.files) || !slices.Equal(e.command, command) {
		return nil, false
	}
	fresh := &entry{command: e.command, stored: time.Now(), info: e.info}
	for i, was := range e.files {
		is := now[i]
		is.SHA256 = was.SHA256
		same := is == was
		switch {
		case is.Path != was.Path, !same && !exact:
			return nil, false
		case same && e.stored.Sub(time.Unix(0, was.MTime)) > settling:
		case was.SHA256 == "" && same:
		default:
			hashed, err := hash(is.Path, i == 0)
			if err != nil || hashed.SHA256 != was.SHA256 || was.SHA256 == "" {
				return nil, false
			}
			is, refreshed = hashed, true
		}
		fresh.files = append(fresh.files, is)
	}
	if !refreshed {
		return e, false
	}
	return fresh, true
}
