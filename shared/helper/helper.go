package helper

import (
	"context"
	"unsafe"

	"github.com/khelp/khelp/shared"
)

// Class is shared.Class, so that a small helper imports one package.
type Class = shared.Class

// Classes is a list of classes.
type Classes = []Class

// Hook is a function that runs when the host passes a hook point: hhook(9)'s hook_func. What its error means stands in the package's
// documentation.
type Hook[S any] func(ctx context.Context, c *Call, s *S) error

// Hooks gives the function for each point, as "tcp.est_in".
type Hooks[S any] map[shared.HookPoint]Hook[S]

// HookDecl is a hook with all that can be said of it, for the cases that Hooks is too small for: hookinfo of khelp(9).
type HookDecl[S any] struct {
	Point shared.HookPoint
	Func  Hook[S]
	// UData comes with each call, as hook_udata does, and tells several hooks on one point apart.
	UData []byte
	// MaySleep lets the hook wait for things: it runs on a goroutine of its own rather than inline.
	MaySleep bool
}

// Helper is a helper as its author writes it: struct helper of khelp(9), and modinfo_t. S is what it keeps on each object; see the
// package's documentation. Only Name is required.
type Helper[S any] struct {
	// Name is how operators and other helpers call it: [a-z][a-z0-9_-]*, 63 bytes at most.
	Name string
	// Version is a version such as 1.2.0, for other helpers' requirements. Empty: 0.0.0.
	Version string
	// Description is one line for people.
	Description string
	// Classes are the kinds of object it follows, such as "tcp". Required if S is not empty.
	Classes []shared.Class
	// Hooks are its functions by point.
	Hooks Hooks[S]
	// MaySleep lists the points of Hooks whose functions wait for things: files, locks, the network, Host's methods.
	MaySleep []shared.HookPoint
	// Extra are hooks that need user data, or a second function on a point.
	Extra []HookDecl[S]
	// Requires names helpers that must be active first, each with a version constraint if need be: "ertt ~> 1.2".
	Requires []string

	// Config points to a struct that is filled before Init from the operator's config block. Its exported fields are the properties:
	// strings, booleans, integers, floats, time.Duration, []string, and types with MarshalText and UnmarshalText. What they hold at Serve
	// are the defaults. Tags: `khelp:"name,required" doc:"for people"`; the name is the field's in snake case if none is given, and
	// "-" leaves a field out.
	Config any
	// Sections are named texts shipped in the helper, such as "readme", for khelpd info --section.
	Sections map[string]string

	// Init runs once, after Config is filled and before the first hook. Its error refuses the load. ctx has the host's deadline; host is
	// good until the helper ends. (mod_init, MODULE_CMD_INIT)
	Init func(ctx context.Context, host *Host) error
	// Fini runs before the helper is unloaded, when no hook runs any more. Its error refuses, and the helper stays unless the unload is
	// forced. (mod_destroy, MODULE_CMD_FINI)
	Fini func(ctx context.Context) error
	// Autounload says whether an idle helper may leave: nil for yes, NoOpinion, or another error with the reason why not. Without the
	// function the helper has no opinion. (MODULE_CMD_AUTOUNLOAD)
	Autounload func(ctx context.Context) error
	// Stat returns the helper's own figures. It runs beside the hooks, so what it reads needs an atomic or a lock. (MODULE_CMD_STAT)
	Stat func(ctx context.Context) map[string]float64
	// New makes the first S of an object, instead of the zero value. Its error is handled as a failed call. It runs among the hooks, in
	// order. (osd_register's constructor, for want of one in the kernel)
	New Hook[S]
	// Free hears that an object is gone, or the helper leaves it; s is the last committed S. It does not run for a process that is dead
	// already. (osd_destructor_t)
	Free func(ctx context.Context, c *Call, s *S)

	// MaxBytes bounds an S that encodes itself. 0: shared.MaxSlot.
	MaxBytes int
	// DataVersion counts changes of S's layout.
	DataVersion uint32
	// Workers is how many hooks run at once, each object's on one worker. 0: 1, and hooks of Go code alone need no locks.
	Workers int
	// MaxProcs is what GOMAXPROCS is set to unless the environment sets it. 0: Workers, which makes calls fastest; -1: left as Go has it.
	MaxProcs int
}

// Modinfo returns what the helper says of itself to a host. Its error is the sentence with which Serve would stop. It has no side
// effects.
func (h Helper[S]) Modinfo() (shared.Modinfo, error) {
	p, err := h.program()
	if err != nil {
		return shared.Modinfo{}, err
	}
	return p.info, nil
}

// program turns the typed declaration into what the engine runs.
func (h *Helper[S]) program() (*program, error) {
	d := declaration{
		info: shared.Modinfo{
			Name: h.Name, Version: h.Version, API: shared.APIGeneration, Description: h.Description, Classes: h.Classes,
		},
		requires: h.Requires, sections: h.Sections, config: h.Config, mayNap: h.MaySleep,
		maxBytes: h.MaxBytes, dataVersion: h.DataVersion, workers: h.Workers, maxProcs: h.MaxProcs,
	}
	for point, fn := range h.Hooks {
		d.named = append(d.named, newHookEntry(HookDecl[S]{Point: point, Func: fn}))
	}
	for _, decl := range h.Extra {
		d.extra = append(d.extra, newHookEntry(decl))
	}
	if h.New != nil {
		d.new = eraseHook(h.New)
	}
	if free := h.Free; free != nil {
		d.free = func(ctx context.Context, c *Call, p unsafe.Pointer) error {
			free(ctx, c, (*S)(p))
			return nil
		}
	}
	d.init, d.fini, d.autounload, d.stat = h.Init, h.Fini, h.Autounload, h.Stat
	return d.program(stateOf[S]())
}

// eraseHook takes S out of a hook's type. The engine gives it pointers that stateOf[S] has made.
func eraseHook[S any](fn Hook[S]) hookFunc {
	return func(ctx context.Context, c *Call, p unsafe.Pointer) error { return fn(ctx, c, (*S)(p)) }
}

func newHookEntry[S any](d HookDecl[S]) *hookEntry {
	e := &hookEntry{info: shared.HookInfo{Point: d.Point, UData: d.UData, MaySleep: d.MaySleep}}
	if d.Func != nil {
		e.fn = eraseHook(d.Func)
	}
	return e
}
