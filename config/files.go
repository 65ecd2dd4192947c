package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// maxFile is larger than any configuration file, and than what file() reads. It keeps a wrong path from filling the memory.
const maxFile = 4 << 20

// source is one file before it is parsed.
type source struct {
	name string // as the user would write it
	text []byte
}

// readSources reads a file, or the *.hcl files of a directory in the order of their names. Hidden files are left out: editors put
// their copies there.
func readSources(path string) ([]source, hcl.Diagnostics) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) && path == "-" {
		err = errors.New("a configuration is read from a file or a directory, not from standard input")
	}
	if err != nil {
		return nil, hcl.Diagnostics{unreadable(path, err)}
	}
	names := []string{path}
	if info.IsDir() {
		if names, err = filesIn(path); err != nil {
			return nil, hcl.Diagnostics{unreadable(path, err)}
		}
	}
	var sources []source
	var diags hcl.Diagnostics
	for _, name := range names {
		text, err := readFile(name)
		if err != nil {
			diags = append(diags, unreadable(name, err))
			continue
		}
		sources = append(sources, source{name, text})
	}
	return sources, diags
}

func filesIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if name := e.Name(); filepath.Ext(name) == ".hcl" && !strings.HasPrefix(name, ".") && !e.IsDir() {
			names = append(names, filepath.Join(dir, name))
		}
	}
	if len(names) == 0 {
		return nil, errors.New("the directory has no *.hcl file in it")
	}
	return names, nil
}

// readFile is os.ReadFile with a bound, for regular files only: others may never end, and cannot be read again.
func readFile(name string) ([]byte, error) {
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() { // opening a pipe may block already
		return nil, fmt.Errorf("it is %s; only regular files are read", kind(info.Mode()))
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("the file is larger than %d MiB", maxFile>>20)
	}
	return text, nil
}

// kind names what is not a regular file.
func kind(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "a directory"
	case mode&fs.ModeNamedPipe != 0:
		return "a pipe"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	case mode&fs.ModeDevice != 0:
		return "a device"
	default:
		return "something special"
	}
}

// unreadable is the one diagnostic without a place: there is no line to show.
func unreadable(path string, err error) *hcl.Diagnostic {
	// The path stands in the summary already.
	if pe := (*os.PathError)(nil); errors.As(err, &pe) {
		err = pe.Err
	}
	return &hcl.Diagnostic{
		Severity: hcl.DiagError,
		Summary:  "Cannot read " + path,
		Detail:   sentence(err.Error()),
	}
}
