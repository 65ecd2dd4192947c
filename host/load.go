package host

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-version"

	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// Dialer connects to a helper that runs already.
type Dialer func(ctx context.Context) (net.Conn, error)

// LoadOptions are what a load may say beside the spec.
type LoadOptions struct {
	Force      bool           // load a helper built for another API generation all the same
	Classes    []shared.Class // each must be among those the helper declares
	Properties map[string]any // override the spec's Config
	NoAutoload bool           // what it requires must be active already: whoever asks may not have helpers autoloaded
	// Dial connects to a helper that runs already, without TLS, instead of starting a process: one served by helper.Run in a test, or one
	// under a debugger. The host does not end its process.
	Dial Dialer
}

// Load starts a helper, asks what it is, initialises it and binds its hooks: modctl(MODCTL_LOAD) and khelp_register_helper. A name is
// looked up on the helper path; a command with a slash is taken as it is. It returns when the helper is active, or with nothing left
// behind.
//
// Errors: ErrExist if a helper of that name is loaded; ErrNotExist if there is no such file, class, requirement or required point;
// ErrNoExec if it is no helper; ErrPermission for a wrong checksum; ErrInvalid for a wrong name, property or order; ErrIncompatible for another protocol, API
// generation or version than asked; ErrTimeout; ErrClosed after Shutdown.
func (h *Host) Load(ctx context.Context, spec shared.HelperSpec, opts LoadOptions) error {
	if err := spec.Validate(); err != nil {
		return err
	}
	ctx, done, err := h.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	named := spec.Name != ""
	if err := h.find(&spec, opts.Dial != nil); err != nil {
		return err
	}
	source := shared.SourceFilesys
	if spec.Load == shared.LoadBoot {
		source = shared.SourceBoot
	}
	hp := h.newHelper(spec, source)
	if err := h.reserve(hp); err != nil {
		return err
	}
	if err = h.load(ctx, hp, named, opts); err != nil {
		h.withdraw(hp)
		hp.log.Debug("load failed", "error", err)
	}
	return err
}

// find fills in the spec's command and, for a command without a name, a provisional name.
func (h *Host) find(spec *shared.HelperSpec, running bool) error {
	if spec.Name == "" {
		spec.Name = strings.TrimSuffix(filepath.Base(spec.Command[0]), ".exe")
		if shared.ValidateName("", spec.Name) != nil {
			spec.Name = "unnamed"
		}
	}
	if running {
		return nil
	}
	command := spec.Command
	if len(command) == 0 {
		command = []string{spec.Name}
	}
	if strings.ContainsRune(command[0], '/') || filepath.IsAbs(command[0]) {
		spec.Command = command
		return nil
	}
	for _, dir := range h.cfg.HelperPath {
		path := filepath.Join(dir, command[0])
		if runtime.GOOS == "windows" && filepath.Ext(path) == "" {
			path += ".exe"
		}
		if _, err := os.Stat(path); err == nil {
			spec.Command = append([]string{path}, command[1:]...)
			return nil
		} else if !errors.Is(err, os.ErrNotExist) {
			return shared.ErrPermission.Errorf("looking for helper %q: %w", command[0], err)
		}
	}
	return shared.ErrNotExist.Errorf("no helper %q on the helper path (%s)%s", command[0], strings.Join(h.cfg.HelperPath, ", "),
		shared.DidYouMean(command[0], h.onPath()))
}

// onPath returns the names of the files on the helper path, for a suggestion.
func (h *Host) onPath() []string {
	var names []string
	for _, dir := range h.cfg.HelperPath {
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

// reserve enters a helper under its name, so that nobody else loads it meanwhile.
func (h *Host) reserve(hp *helper) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return errClosed()
	}
	if err := h.vacantLocked(hp.name); err != nil {
		return err
	}
	h.nextID++
	hp.id = h.nextID
	h.helpers = append(h.helpers, hp)
	return nil
}

// vacantLocked returns ErrExist if there is a helper of that name.
func (h *Host) vacantLocked(name string) error {
	switch hp := h.findLocked(name); {
	case hp == nil:
		return nil
	case hp.state == shared.StateFailed:
		return shared.ErrExist.Errorf("helper %q is loaded already, but it has failed: unload it first (%s)", name, hp.lastErr)
	default:
		return shared.ErrExist.Errorf("helper %q is loaded already", name)
	}
}

// rename gives a helper the name it says it has.
func (h *Host) rename(hp *helper, name string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if hp.name == name {
		return nil
	}
	if err := h.vacantLocked(name); err != nil {
		return err
	}
	hp.name, hp.log = name, h.log.Named(name)
	return nil
}

// withdraw takes a helper out again, with all it held.
func (h *Host) withdraw(hp *helper) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.helpers = slices.DeleteFunc(h.helpers, func(x *helper) bool { return x == hp })
	for _, r := range hp.requires {
		r.dependants = slices.DeleteFunc(r.dependants, func(x *helper) bool { return x == hp })
		r.wakeIdleLocked()
	}
	hp.requires = nil
}

// load does what Load promises for a helper that is entered. Named tells whether its name was asked for, or guessed from its file.
func (h *Host) load(ctx context.Context, hp *helper, named bool, opts LoadOptions) error {
	start, cancel := context.WithTimeout(ctx, h.cfg.StartTimeout)
	defer cancel()
	in, info, err := h.meet(start, hp, named, opts.Dial)
	if err != nil {
		return err
	}
	if err = h.initialise(start, in, info, opts); err != nil {
		err = in.why(err)
		in.abort()
		return err
	}
	hp.inst.Store(in)
	if err = h.activate(hp); err != nil {
		_ = in.finish(start, h.cfg.StopTimeout, true) // the load has failed already, and this helper goes whatever it says
		return errors.Join(err, in.stop(start, h.cfg.StopTimeout))
	}
	hp.log.Info("loaded", "version", hp.info.Version, "pid", in.end.PID(), "sha256", in.end.SHA256())
	return nil
}

// meet starts a helper and asks what it is. One whose name was only guessed is started anew if it says that it has another, so that its
// log has one name from the first line on.
func (h *Host) meet(ctx context.Context, hp *helper, named bool, dialer Dialer) (*instance, *shared.Modinfo, error) {
	for {
		in, err := h.start(ctx, hp, dialer, 1)
		if err != nil {
			return nil, nil, err
		}
		info, err := in.describe(ctx)
		if err == nil && info.Name == hp.name {
			return in, info, nil
		}
		if err == nil && named {
			err = shared.ErrInvalid.Errorf("the helper asked for is %q, but it says its name is %q", hp.name, info.Name)
		}
		if err == nil {
			err = h.rename(hp, info.Name)
		}
		if err != nil {
			err = in.why(err)
		}
		in.abort()
		if err != nil {
			return nil, nil, err
		}
		named = true
	}
}

// initialise holds what a helper says of itself against what was asked for, and has it initialise itself.
func (h *Host) initialise(ctx context.Context, in *instance, info *shared.Modinfo, opts LoadOptions) error {
	hp := in.helper
	if err := checkVersions(hp, info, opts.Force); err != nil {
		return err
	}
	if err := checkHooks(hp, info); err != nil {
		return err
	}
	classes, err := narrow(info, hp.spec.Classes, opts.Classes)
	if err != nil {
		return err
	}
	props := map[string]any{}
	for _, from := range []map[string]any{hp.spec.Config, opts.Properties} {
		for k, v := range from {
			props[k] = v
		}
	}
	if props, err = shared.CheckProperties(info.Properties, props); err != nil {
		return err
	}
	h.mu.Lock()
	hp.info, hp.classes = *info, classes
	for _, r := range slices.Concat(info.Requires, hp.spec.Requires) {
		if !slices.Contains(hp.requireNames, r.Name) {
			hp.requireNames = append(hp.requireNames, r.Name)
		}
	}
	h.mu.Unlock()
	if err := h.require(hp); err != nil {
		return err
	}
	_, err = in.session.Request(ctx, &wire.ControlToHelper{Body: &wire.ControlToHelper_Init{Init: &wire.InitRequest{
		HelperId: uint32(hp.id), Incarnation: in.number, Config: wire.PropertiesToProto(props), BudgetUs: budget(ctx),
	}}})
	if err != nil {
		return wrap(err, "Init")
	}
	return nil
}

// wrap says which request of the host an error answers, and keeps its sentinel.
func wrap(err error, request string) error {
	var sentinel *shared.Error
	if errors.As(err, &sentinel) {
		return sentinel.Errorf("%s: %w", request, err)
	}
	return shared.ErrInvalid.Errorf("%s: %w", request, err)
}

func budget(ctx context.Context) uint64 {
	deadline, ok := ctx.Deadline()
	if !ok {
		return 0
	}
	return uint64(max(time.Until(deadline), 0) / time.Microsecond)
}

// checkVersions holds API generation and version against what host and spec want.
func checkVersions(hp *helper, info *shared.Modinfo, force bool) error {
	if info.API != shared.APIGeneration {
		if !force {
			return shared.ErrIncompatible.Errorf("%s was built for API generation %d, this host has %d", info.Name, info.API, shared.APIGeneration)
		}
		hp.log.Warn("forced load of a helper built for another API generation", "helper_api", info.API, "host_api", shared.APIGeneration)
	}
	return meets(info.Name, info.Version, hp.spec.Version)
}

// checkHooks holds the spec's words on hooks against the hooks that there are.
func checkHooks(hp *helper, info *shared.Modinfo) error {
	var points []string
	for _, hook := range info.Hooks {
		points = append(points, string(hook.Point))
	}
	for _, hook := range hp.spec.Hooks {
		if !slices.Contains(points, string(hook.Point)) {
			return shared.ErrInvalid.Errorf("%s has no hook on %s; it hooks %s", hp.name, hook.Point, strings.Join(points, ", "))
		}
	}
	return nil
}

// meets checks a version against a constraint, if there is one.
func meets(name, have, constraint string) error {
	if constraint == "" {
		return nil
	}
	want, err := version.NewConstraint(constraint)
	if err != nil {
		return shared.ErrInvalid.Errorf("version constraint %q: %w", constraint, err)
	}
	v, err := version.NewVersion(have)
	if err != nil {
		return shared.ErrIncompatible.Errorf("%s has version %q, which cannot be held against %q: %w", name, have, constraint, err)
	}
	if !want.Check(v) {
		return shared.ErrIncompatible.Errorf("%s has version %s, %q is asked for", name, have, constraint)
	}
	return nil
}

// narrow returns the classes the helper shall follow. One asked for and not declared is ErrNotExist.
func narrow(info *shared.Modinfo, asked ...[]shared.Class) ([]shared.Class, error) {
	classes := info.Classes
	for _, want := range asked {
		if len(want) == 0 {
			continue
		}
		for _, c := range want {
			if !slices.Contains(info.Classes, c) {
				return nil, shared.ErrNotExist.Errorf("%s does not follow class %q, only %v", info.Name, string(c), info.Classes)
			}
		}
		classes = want
	}
	return classes, nil
}

// require takes a reference on each helper that must be active first.
func (h *Host) require(hp *helper) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range slices.Concat(hp.info.Requires, hp.spec.Requires) {
		other := h.findLocked(r.Name)
		if other == nil || other.state != shared.StateActive {
			return shared.ErrNotExist.Errorf("%s requires %s, which is not active", hp.name, r.Name)
		}
		if err := meets(r.Name, other.info.Version, r.Constraint); err != nil {
			return err
		}
		if !slices.Contains(hp.requires, other) {
			hp.requires = append(hp.requires, other)
			other.dependants = append(other.dependants, hp)
		}
	}
	return nil
}

// activate binds the hooks of a helper that is initialised, all or none.
func (h *Host) activate(hp *helper) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return errClosed()
	}
	if in := hp.inst.Load(); in != nil && in.dead() != nil {
		return shared.ErrHelperGone.Errorf("%s has died before it was active: %w", hp.name, in.dead())
	}
	if err := hp.bindLocked(); err != nil {
		return err
	}
	hp.state = shared.StateActive
	h.generation++
	return nil
}
