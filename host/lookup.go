package host

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/khelp/khelp/shared"
)

// unnamed stands for a helper that nothing is known of.
const unnamed = "unnamed"

// provisionalName is the name under which a program is entered until it has said its own.
func provisionalName(program string) string {
	name := strings.TrimSuffix(filepath.Base(program), ".exe")
	if shared.ValidateName("", name) != nil {
		return unnamed
	}
	return name
}

// nameOf returns the name of a helper that a spec asks for, or what it is called as long as nobody knows.
func nameOf(spec *shared.HelperSpec) string {
	switch {
	case spec.Name != "":
		return spec.Name
	case len(spec.Command) > 0:
		return provisionalName(spec.Command[0])
	default:
		return unnamed
	}
}

// exists reports whether there is anything to start by a spec.
func (h *Host) exists(spec *shared.HelperSpec) error {
	if h.cfg.Attach != nil && h.cfg.Attach(spec.Name) != nil {
		return nil
	}
	_, err := h.command(spec)
	return err
}

// command finds the program of a spec and returns it with its arguments. A name is looked for on the helper path.
func (h *Host) command(spec *shared.HelperSpec) ([]string, error) {
	command := spec.Command
	if len(command) == 0 {
		command = []string{spec.Name}
	}
	if strings.ContainsRune(command[0], '/') || filepath.IsAbs(command[0]) {
		return command, nil
	}
	dirs := h.helperPath()
	for _, dir := range dirs {
		path := filepath.Join(dir, command[0])
		if runtime.GOOS == "windows" && filepath.Ext(path) == "" {
			path += ".exe"
		}
		if _, err := os.Stat(path); err == nil {
			return append([]string{path}, command[1:]...), nil
		} else if !errors.Is(err, os.ErrNotExist) {
			return nil, shared.ErrPermission.Errorf("looking for helper %q: %w", command[0], err)
		}
	}
	return nil, shared.ErrNotExist.Errorf("no helper %q on the helper path (%s)%s", command[0], strings.Join(dirs, ", "),
		shared.DidYouMean(command[0], slices.Concat(h.onPath(), h.offeredNames())))
}

// onPath returns the names of the files on the helper path, for a suggestion.
func (h *Host) onPath() []string {
	var names []string
	for _, dir := range h.helperPath() {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			names = append(names, strings.TrimSuffix(e.Name(), ".exe"))
		}
	}
	return names
}

func (h *Host) helperPath() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.cfg.HelperPath
}

// SetHelperPath changes where helpers are looked for by name, for loads that begin from now on.
func (h *Host) SetHelperPath(dirs []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cfg.HelperPath = slices.Clone(dirs)
}

// SetAutoload changes what may be loaded without an operator asking for it, for loads that begin from now on.
func (h *Host) SetAutoload(scope shared.AutoloadScope) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cfg.Autoload = scope
}
