package config

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/khelp/khelp/shared"
)

// Check holds a configuration without errors against what is known of its helpers: names, versions, API generations, classes, hooks,
// properties, and requirements and orders as far as they can be seen. Nothing is started. What it finds is an error if it must make a
// load fail that nobody has to ask for, or any load, and otherwise a warning.
//
// known returns what a helper says of itself, if that is known; nil knows nothing. It is asked for each helper block by its spec, and by
// name alone for those that are required, not configured and may be autoloaded. builtins are the names of the helpers that are in the
// program. Of files, Check looks only whether they are on the helper path.
func (c *Config) Check(known func(shared.HelperSpec) (shared.Modinfo, bool), builtins []string) hcl.Diagnostics {
	s := newSurvey(c)
	s.look, s.known = true, known
	for _, name := range builtins {
		s.builtins[name] = true
	}
	s.all()
	s.findNeeded()
	var diags hcl.Diagnostics
	for _, n := range s.nodes {
		diags = append(diags, s.checkModinfo(n)...)
		diags = append(diags, s.checkUnmet(n)...)
	}
	diags = append(diags, s.checkRequirements()...)
	diags = append(diags, s.checkOrders()...)
	return sorted(diags)
}

// survey is the helpers of a configuration, and those they require, with what is known of them.
type survey struct {
	cfg         *Config
	known       func(shared.HelperSpec) (shared.Modinfo, bool) // nil: nothing is known
	look        bool                                           // for helpers that are not configured
	builtins    map[string]bool
	constraints constraints

	nodes  []*node        // the configured ones first, in their order
	byName map[string]int // of nodes; -1: there is no such helper
	onPath []string       // names of the files on the helper path, for suggestions; read when the first is made
	hints  int            // how many suggestions were looked for
}

// node is one helper.
type node struct {
	spec   shared.HelperSpec
	block  *Helper        // nil: not configured
	info   shared.Modinfo // if known
	known  bool
	other  string    // the name it says it has, if that is not the one asked for
	at     hcl.Range // of its block, or of the requirement that it is here for
	needs  []need
	needed bool // it loads without an operator who could load something else before, or give it properties
}

// need is one requirement of a helper.
type need struct {
	shared.Requirement
	at   hcl.Range // where it is written, or the helper's block
	own  bool      // the helper says so itself
	node int       // who is required; -1: there is no such helper
}

func newSurvey(c *Config) *survey {
	s := &survey{cfg: c, builtins: map[string]bool{}, constraints: constraints{}, byName: make(map[string]int, len(c.Helpers))}
	for i := range c.Helpers {
		h := &c.Helpers[i]
		if _, twice := s.byName[h.Spec.Name]; !twice {
			s.byName[h.Spec.Name] = i
		}
		s.nodes = append(s.nodes, &node{spec: h.Spec, block: h, at: h.Range})
	}
	return s
}

// all finds out about all helpers. Those that are found to be required join the nodes and have their turn.
func (s *survey) all() {
	met := 0
	for met < len(s.nodes) {
		s.meet(s.nodes[met])
		met++
	}
}

// meet finds out what a helper is and whom it requires.
func (s *survey) meet(n *node) {
	if s.known != nil {
		n.info, n.known = s.known(n.spec)
	}
	if n.known && n.info.Name != n.spec.Name {
		n.known, n.other = false, n.info.Name
	}
	for i, r := range n.spec.Requires { // only a block has some
		at := n.block.requires[i]
		n.needs = append(n.needs, need{Requirement: r, at: at, node: s.find(r.Name, at)})
	}
	if !n.known {
		return
	}
	for _, r := range n.info.Requires {
		n.needs = append(n.needs, need{Requirement: r, at: n.at, own: true, node: s.find(r.Name, n.at)})
	}
}

// find returns the node of a helper that is required at a place, a new one if the helper is not configured but can be had.
func (s *survey) find(name string, at hcl.Range) int {
	i, seen := s.byName[name]
	if seen {
		return i
	}
	i = -1
	if s.builtins[name] || s.look && s.mayLoad(name) && s.file(name) {
		i = len(s.nodes)
		s.nodes = append(s.nodes, &node{spec: shared.HelperSpec{Name: name}, at: at})
	}
	s.byName[name] = i
	return i
}

// mayLoad reports whether a helper that is not configured may be autoloaded.
func (s *survey) mayLoad(name string) bool { return s.cfg.Khelpd.Autoload.Allows(name, false) }

// file reports whether a helper is on the helper path.
func (s *survey) file(name string) bool {
	return slices.ContainsFunc(s.cfg.Khelpd.HelperPath, func(dir string) bool {
		path := filepath.Join(dir, name)
		if runtime.GOOS == "windows" {
			path += ".exe"
		}
		_, err := os.Stat(path)
		return err == nil
	})
}

// findNeeded marks the helpers that load at the start or on demand, and those they require.
func (s *survey) findNeeded() {
	var mark func(n *node)
	mark = func(n *node) {
		if n.needed {
			return
		}
		n.needed = true
		for _, r := range n.needs {
			if r.node >= 0 {
				mark(s.nodes[r.node])
			}
		}
	}
	for _, n := range s.nodes {
		if n.block != nil && n.spec.Load != shared.LoadManual {
			mark(n)
		}
	}
}

// severe makes what is wrong with a helper a warning if an operator who loads it can still help it.
func (n *node) severe(d *hcl.Diagnostic) *hcl.Diagnostic {
	if !n.needed {
		d.Severity = hcl.DiagWarning
	}
	return d
}

// suggest returns a hint if a helper that can be had has a name like this one.
func (s *survey) suggest(name string) string {
	if s.hints++; len(name) < 3 || s.hints > maxWritten { // it is near to everything short; nobody will look at more
		return ""
	}
	names := make([]string, 0, len(s.nodes)+len(s.builtins))
	for _, n := range s.nodes {
		names = append(names, n.spec.Name)
	}
	for b := range s.builtins {
		names = append(names, b)
	}
	slices.Sort(names)
	if s.onPath == nil {
		s.onPath = filesOn(s.cfg.Khelpd.HelperPath)
	}
	for _, file := range s.onPath {
		if s.mayLoad(file) {
			names = append(names, file)
		}
	}
	return shared.DidYouMean(name, names)
}

// filesOn returns the names of the helpers that may lie in some directories. The result is not nil.
func filesOn(dirs []string) []string {
	names := []string{}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // it need not be there
		}
		for _, e := range entries {
			if name := strings.TrimSuffix(e.Name(), ".exe"); shared.ValidateName("", name) == nil {
				names = append(names, name)
			}
		}
	}
	return names
}
