package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclwrite"
)

// Format returns a configuration file in the canonical layout. The source should be free of syntax errors; what is wrong in it is
// laid out as well as it goes, and no word of it changes.
func Format(src []byte) []byte {
	return hclwrite.Format(src)
}

// Formatted is one file as `khelpd fmt` sees it.
type Formatted struct {
	Name   string
	Before []byte
	After  []byte
}

// Changed reports whether the file is not in the canonical layout.
func (f *Formatted) Changed() bool { return !bytes.Equal(f.Before, f.After) }

// FormatFiles formats a file, or all *.hcl files of a directory. It writes nothing: see Formatted.Write. Files with syntax errors are
// left out and told in the diagnostics, for which WriteDiagnostics wants the files; other errors do not matter here.
func FormatFiles(path string) ([]Formatted, map[string]*hcl.File, hcl.Diagnostics) {
	sources, diags := readSources(path)
	files := make(map[string]*hcl.File, len(sources))
	var out []Formatted
	for _, src := range sources {
		file, syntax := parseFile(src)
		files[src.name] = file
		diags = append(diags, syntax...)
		if !syntax.HasErrors() {
			out = append(out, Formatted{Name: src.name, Before: src.text, After: Format(src.text)})
		}
	}
	return out, files, sorted(diags)
}

// Write puts the formatted text into the file, which keeps its owner, its mode and its links. Until that is done, a copy of the old
// text lies beside it; should writing fail half way, the error names the copy.
func (f *Formatted) Write() error {
	if !f.Changed() {
		return nil
	}
	if err := f.write(); err != nil {
		return fmt.Errorf("format %s: %w", f.Name, err)
	}
	return nil
}

func (f *Formatted) write() error {
	file, err := os.OpenFile(f.Name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	backup, err := f.backup()
	if err != nil {
		return errors.Join(err, file.Close())
	}
	_, err = file.Write(f.After)
	if err == nil {
		err = file.Truncate(int64(len(f.After)))
	}
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("%w; the file as it was is in %s", err, backup)
	}
	return os.Remove(backup)
}

func (f *Formatted) backup() (string, error) {
	// Not *.hcl, which would make it part of the configuration.
	b, err := os.CreateTemp(filepath.Dir(f.Name), "."+filepath.Base(f.Name)+".before-fmt-*")
	if err != nil {
		return "", err
	}
	_, err = b.Write(f.Before)
	if err = errors.Join(err, b.Sync(), b.Close()); err != nil {
		return "", errors.Join(err, os.Remove(b.Name()))
	}
	return b.Name(), nil
}
