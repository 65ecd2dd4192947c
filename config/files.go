package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// maxFile is larger than any configuration file, and than what file() reads. It keeps a wrong path, such as /dev/zero, from filling
// the memory.
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

// readFile is os.ReadFile with a bound.
func readFile(name string) ([]byte, error) {
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
