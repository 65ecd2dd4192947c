package config

import (
	"github.com/hashicorp/hcl/v2"

	"github.com/khelp/khelp/shared"
)

// What stands in Khelpd where the configuration says nothing.
const (
	DefaultControlSocket = "/run/khelpd/khelpd.sock"
	DefaultLogLevel      = "info"
	DefaultLogFormat     = "text"
)

// Config is a whole configuration, merged from all its files. It always comes with the files that were read, so that diagnostics can
// show lines of them, also when there were errors; the rest is usable only when there were none.
type Config struct {
	Khelpd     Khelpd
	Autounload Autounload
	Access     *Access  // nil: nothing is said, and only the daemon's own user may ask for anything
	Helpers    []Helper // in the order of files and of blocks within them, which is the order in which they load
	TCP        []TCP    // likewise
	Files      map[string]*hcl.File
}

// Khelpd is the block `khelpd`: the daemon itself. Defaults are filled in.
type Khelpd struct {
	ControlSocket string   // path of the Unix socket
	HelperPath    []string // directories, absolute, searched in this order
	LogLevel      string   // trace, debug, info, warn or error
	LogFormat     string   // text or json
	Autoload      shared.AutoloadScope
	Range         hcl.Range
}

// Helper is one block `helper`, with the places of its parts for errors that are found later (see Config.Diagnose).
type Helper struct {
	// Spec is complete: Name is the block's label, Load is set, a relative path in Command[0] has become an absolute one.
	Spec shared.HelperSpec

	Range hcl.Range // the block's header

	config     *hcl.Range                     // the config block's header, if there is one
	properties map[string]hcl.Range           // the attributes within it
	hooks      map[shared.HookPoint]hcl.Range // the headers of the hook blocks
	orders     map[shared.HookPoint]hcl.Range
	requires   []hcl.Range // parallel to Spec.Requires
	classes    []hcl.Range // parallel to Spec.Classes
	version    hcl.Range   // if Spec.Version is set
	autounload *hcl.Range
}

// TCP is one block `tcp`: a proxy from Listen to Upstream. It answers to no kernel function; it is the subsystem whose points helpers
// hook.
type TCP struct {
	Name     string // the block's label
	Listen   string // host:port
	Upstream string // host:port
	Vnet     string // "" is the default vnet
	Async    bool   // est_in, est_out and close do not wait; true where the configuration says nothing
	Range    hcl.Range

	listen hcl.Range
	async  *hcl.Range // nil: not written
	wrong  bool       // vnet or async was, and has been reported
}

// Helper returns the helper block with a label, or nil.
func (c *Config) Helper(name string) *Helper {
	for i := range c.Helpers {
		if c.Helpers[i].Spec.Name == name {
			return &c.Helpers[i]
		}
	}
	return nil
}

// Load reads a configuration from a file, or from all files *.hcl of a directory in the order of their names, and checks what can be
// checked without any helper; Check goes on from there. Files must be regular ones: no pipes, no devices. Diagnostics may be warnings
// only: ask HasErrors. The Config is never nil, for WriteDiagnostics.
//
// Paths in the configuration are relative to the file they stand in; those in the Config are absolute.
func Load(path string) (*Config, hcl.Diagnostics) {
	sources, diags := readSources(path)
	return parse(sources, diags)
}

// Parse is Load for one file that has been read already. The name is shown in diagnostics, and relative paths are relative to its
// directory.
func Parse(filename string, src []byte) (*Config, hcl.Diagnostics) {
	return parse([]source{{name: filename, text: src}}, nil)
}

func parse(sources []source, diags hcl.Diagnostics) (*Config, hcl.Diagnostics) {
	cfg := &Config{
		Khelpd: Khelpd{ControlSocket: DefaultControlSocket, LogLevel: DefaultLogLevel, LogFormat: DefaultLogFormat},
		Files:  map[string]*hcl.File{},
	}
	for _, src := range sources {
		file, syntax := parseFile(src)
		cfg.Files[src.name] = file
		diags = append(diags, syntax...)
		d := newDecoder(cfg, src, syntax.HasErrors())
		d.file(file)
		diags = append(diags, d.diags...)
	}
	diags = append(diags, cfg.check()...)
	return cfg, sorted(diags)
}
