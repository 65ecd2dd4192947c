package helper

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"unsafe"

	"github.com/hashicorp/go-version"

	"github.com/khelp/khelp/shared"
)

// hookFunc is a hook without its type: p points to an S.
type hookFunc func(ctx context.Context, c *Call, p unsafe.Pointer) error

// hookEntry is one hook of a program. It does not change once it is in the table.
type hookEntry struct {
	info shared.HookInfo
	fn   hookFunc
}

// program is a helper ready to be served: what Helper[S] says, checked and without S. It may be served once.
type program struct {
	info  shared.Modinfo
	state stateType
	codec *codec // nil: nothing is kept on objects
	limit int    // bytes of a slot
	hooks hookTable

	config     *configSchema
	new, free  hookFunc
	init       func(context.Context, *Host) error
	fini       func(context.Context) error
	autounload func(context.Context) error
	stat       func(context.Context) map[string]float64

	workers, maxProcs int
}

// declaration is a Helper[S] without S, not yet checked.
type declaration struct {
	info         shared.Modinfo
	named, extra []*hookEntry
	mayNap       []shared.HookPoint
	requires     []string
	sections     map[string]string
	config       any
	maxBytes     int
	dataVersion  uint32

	new, free  hookFunc
	init       func(context.Context, *Host) error
	fini       func(context.Context) error
	autounload func(context.Context) error
	stat       func(context.Context) map[string]float64

	workers, maxProcs int
}

// program checks the declaration and derives what follows from it. Errors are sentences that say what to change, all of them joined.
func (d *declaration) program(state stateType) (*program, error) {
	p := &program{
		info: d.info, state: state, new: d.new, free: d.free,
		init: d.init, fini: d.fini, autounload: d.autounload, stat: d.stat,
		workers: max(d.workers, 1), maxProcs: d.maxProcs,
	}
	p.info.Classes = slices.Clone(d.info.Classes)
	var errs []error
	for _, step := range []func(*program) error{d.identity, d.declareHooks, d.declareState, d.declareRequires, d.declareConfig, d.declareSections} {
		errs = append(errs, step(p))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if err := p.info.Validate(); err != nil {
		return nil, err
	}
	return p, nil
}

func (d *declaration) identity(p *program) error {
	var errs []error
	if d.info.Name == "" {
		errs = append(errs, shared.ErrInvalid.Errorf("the helper has no name: set Name, such as \"ertt\""))
	} else if err := shared.ValidateName("Name", d.info.Name); err != nil {
		errs = append(errs, err)
	}
	if p.info.Version == "" {
		p.info.Version = "0.0.0"
	}
	if _, err := version.NewVersion(p.info.Version); err != nil {
		errs = append(errs, shared.ErrInvalid.Errorf("Version %q is no version such as 1.2.0", p.info.Version))
	}
	seen := map[shared.Class]bool{}
	for _, c := range d.info.Classes {
		if seen[c] {
			errs = append(errs, shared.ErrExist.Errorf("Classes names %q twice: take one away", string(c)))
		}
		seen[c] = true
		errs = append(errs, c.Validate())
	}
	if d.workers < 0 || d.workers > maxWorkers {
		errs = append(errs, shared.ErrInvalid.Errorf("Workers is %d: it must be from 1 to %d, or 0 for 1", d.workers, maxWorkers))
	}
	return errors.Join(errs...)
}

func (d *declaration) declareHooks(p *program) error {
	slices.SortFunc(d.named, func(a, b *hookEntry) int { return cmp.Compare(a.info.Point, b.info.Point) })
	var errs []error
	points := make([]string, len(d.named))
	for i, e := range d.named {
		points[i] = string(e.info.Point)
	}
	for _, point := range d.mayNap {
		i := slices.Index(points, string(point))
		if i < 0 {
			errs = append(errs, shared.ErrNotExist.Errorf("MaySleep names %q, which is not in Hooks%s", string(point), shared.DidYouMean(string(point), points)))
			continue
		}
		d.named[i].info.MaySleep = true
	}
	type key struct {
		point shared.HookPoint
		udata string
	}
	seen := map[key]bool{}
	entries := append(slices.Clone(d.named), d.extra...)
	for i, e := range entries {
		e.info.Index = uint32(i)
		if err := e.info.Point.Validate(); err != nil {
			errs = append(errs, err)
		}
		if e.fn == nil {
			errs = append(errs, shared.ErrInvalid.Errorf("the hook on %s has no function: give it one, or take it away", e.info.Point))
		}
		k := key{e.info.Point, string(e.info.UData)}
		if seen[k] {
			errs = append(errs, shared.ErrExist.Errorf("there are two functions on %s with the same UData: make them one, or give each a UData of its own in Extra", e.info.Point))
		}
		seen[k] = true
		p.info.Hooks = append(p.info.Hooks, e.info)
	}
	p.hooks.init(entries)
	return errors.Join(errs...)
}

// declareState derives all of osd(9) from S: an S without content needs no slot.
func (d *declaration) declareState(p *program) error {
	c, err := compileCodec(p.state)
	if err != nil {
		return err
	}
	if c.size == 0 {
		return d.declareStateless()
	}
	name := typeName(p.state.typ)
	if len(d.info.Classes) == 0 {
		return shared.ErrInvalid.Errorf("%s is kept on objects, but the helper follows none: set Classes, such as helper.Classes{\"tcp\"}, or make the state struct{}", name)
	}
	p.codec, p.limit = c, c.size
	if c.size < 0 {
		p.limit = cmp.Or(d.maxBytes, shared.MaxSlot)
	}
	if d.maxBytes < 0 || d.maxBytes > shared.MaxSlot {
		return shared.ErrTooLarge.Errorf("MaxBytes is %d: it must be from 1 to %d, or 0 for the most", d.maxBytes, shared.MaxSlot)
	}
	if d.maxBytes != 0 && d.maxBytes < c.size {
		return shared.ErrTooLarge.Errorf("%s takes %d bytes, MaxBytes allows %d: leave MaxBytes away, the size is fixed", name, c.size, d.maxBytes)
	}
	osd := shared.OSDInfo{
		HasNew: d.new != nil, HasFree: d.free != nil,
		MaxBytes: uint32(p.limit), DataVersion: d.dataVersion, Schema: c.schema,
	}
	if !osd.HasNew {
		template, err := c.append(nil, p.state.alloc())
		switch {
		case err != nil:
			return shared.ErrInvalid.Errorf("the zero %s cannot be encoded (%w): give the helper a New, or make MarshalBinary take it", name, err)
		case len(template) > p.limit:
			return shared.ErrTooLarge.Errorf("the zero %s takes %d bytes, the limit is %d: keep less in it", name, len(template), p.limit)
		}
		osd.Template, osd.HasTemplate = template, true
	}
	p.info.NeedsOSD, p.info.OSD = true, osd
	return nil
}

func (d *declaration) declareStateless() error {
	switch {
	case d.new != nil:
		return shared.ErrInvalid.Errorf("New makes the state of objects, but the state type is empty: give it fields, or take New away")
	case d.free != nil:
		return shared.ErrInvalid.Errorf("Free hears of objects that the helper keeps state on, but the state type is empty: give it fields, or take Free away")
	case d.maxBytes != 0 || d.dataVersion != 0:
		return shared.ErrInvalid.Errorf("MaxBytes and DataVersion are about state, but the state type is empty: give it fields, or take them away")
	}
	return nil
}

func (d *declaration) declareRequires(p *program) error {
	var errs []error
	seen := map[string]bool{}
	for _, text := range d.requires {
		r, err := parseRequirement(text)
		switch {
		case err != nil:
			errs = append(errs, err)
		case r.Name == d.info.Name:
			errs = append(errs, shared.ErrDeadlock.Errorf("Requires names the helper itself: %s → %s; take it away", r.Name, r.Name))
		case seen[r.Name]:
			errs = append(errs, shared.ErrExist.Errorf("Requires names %s twice: join the constraints with a comma, as in \"%s >= 1.2, < 2\"", r.Name, r.Name))
		}
		seen[r.Name] = true
		p.info.Requires = append(p.info.Requires, r)
	}
	return errors.Join(errs...)
}

// parseRequirement is shared.ParseRequirement that looks at the constraint too.
func parseRequirement(text string) (shared.Requirement, error) {
	r, err := shared.ParseRequirement(text)
	if err != nil || r.Constraint == "" {
		return r, err
	}
	if _, err := version.NewConstraint(r.Constraint); err != nil {
		return r, shared.ErrInvalid.Errorf("the requirement %q has no version constraint behind the name, such as \"%s ~> 1.2\"", text, r.Name)
	}
	return r, nil
}

func (d *declaration) declareConfig(p *program) error {
	c, err := newConfigSchema(d.config)
	if err != nil {
		return err
	}
	p.config = c
	if c != nil {
		p.info.Properties = c.properties
	}
	return nil
}

func (d *declaration) declareSections(p *program) error {
	for _, name := range slices.Sorted(maps.Keys(d.sections)) {
		if err := shared.ValidateName("section", name); err != nil {
			return err
		}
		p.info.Sections = append(p.info.Sections, shared.Section{Name: name, Data: []byte(d.sections[name])})
	}
	return nil
}
