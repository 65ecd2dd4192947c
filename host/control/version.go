package control

import (
	"runtime"
	"runtime/debug"

	"github.com/khelp/khelp/shared"
)

// Version says what a program was built from.
type Version struct {
	Version  string // of the khelp module, "devel" when built from a work tree
	Revision string // of the source, if the build recorded it
	Go       string // version of Go
	API      uint32 // generation of the interface to helpers
}

// modulePath is the path of the khelp module.
const modulePath = "github.com/khelp/khelp"

// BuildVersion reads the version out of the running program: of khelp itself, also when another module embeds it.
func BuildVersion() Version {
	v := Version{Version: "devel", Go: runtime.Version(), API: shared.APIGeneration}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	module := info.Main
	for _, dep := range info.Deps {
		if dep.Path == modulePath {
			module = *dep
		}
	}
	if module.Path == modulePath && module.Version != "" && module.Version != "(devel)" {
		v.Version = module.Version
	}
	if info.Main.Path == modulePath {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				v.Revision = s.Value
			}
		}
	}
	return v
}
