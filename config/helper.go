package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/big"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/khelp/khelp/shared"
)

func (d *decoder) helper(block *hclsyntax.Block, b *body) {
	h := Helper{Range: b.header, hooks: map[shared.HookPoint]hcl.Range{}, orders: map[shared.HookPoint]hcl.Range{}}
	h.Spec.Name = block.Labels[0]
	named := d.name(block, "helper name")
	if first := d.cfg.Helper(h.Spec.Name); named && first != nil {
		d.duplicate(block, first.Range)
	}
	s := &h.Spec
	s.Command = d.command(b.expr("command"))
	s.SHA256 = d.checked(b.expr("sha256"), "Bad checksum", shared.ValidateSHA256)
	if e := b.expr("version"); e != nil {
		s.Version, h.version = d.checked(e, "Bad version constraint", d.constraints.check), e.Range()
	}
	for _, w := range d.distinct(b.expr("classes")) {
		if err := shared.Class(w.text).Validate(); err != nil {
			d.errorf(w.at, "Bad class", "%s", sentence(err.Error()))
			continue
		}
		s.Classes = append(s.Classes, shared.Class(w.text))
		h.classes = append(h.classes, w.at)
	}
	d.requirements(b.expr("requires"), &h)
	s.Load = d.load(b.expr("load"))
	s.Timeout = d.duration(b.expr("timeout"))
	s.OnFailure = d.action(b.expr("on_failure"))
	s.OnCause = d.causes(b.expr("on_cause"))
	s.Env = d.env(b.expr("env"))
	d.parts(b, &h)
	if named {
		d.cfg.Helpers = append(d.cfg.Helpers, h)
	}
}

// parts decodes the blocks within a helper block.
func (d *decoder) parts(b *body, h *Helper) {
	for _, block := range b.blocks {
		header := block.DefRange()
		content := d.open(kindOf("helper", block.Type), header, block.Body)
		switch block.Type {
		case "config":
			if d.once(block, h.config) {
				h.config = &header
			}
			d.properties(content, h)
		case "autounload":
			if d.once(block, h.autounload) {
				h.autounload = &header
				d.helperAutounload(content, &h.Spec)
			} else {
				d.helperAutounload(content, &shared.HelperSpec{}) // what is wrong in it is reported all the same
			}
		case "hook":
			point := shared.HookPoint(block.Labels[0])
			if first, twice := h.hooks[point]; twice {
				d.duplicate(block, first)
			} else {
				h.hooks[point] = header
			}
			d.hook(block, content, h)
		}
	}
}

// once reports a block that a helper has already.
func (d *decoder) once(block *hclsyntax.Block, first *hcl.Range) bool {
	if first != nil {
		d.errorf(block.DefRange(), "Second "+block.Type+" block", "A helper has one %s block; the first is at %s.", block.Type, place(*first))
	}
	return first == nil
}

// command returns the program and its arguments. A program with a slash in it is a path.
func (d *decoder) command(e hclsyntax.Expression) []string {
	words, good := d.strs(e)
	if e == nil || !good {
		return nil
	}
	if len(words) == 0 || words[0].text == "" {
		at := e.Range()
		if len(words) > 0 {
			at = words[0].at
		}
		d.errorf(at, "No program", "The first element of command is the program to run; leave command out to find the helper by its name.")
		return nil
	}
	var out []string
	for _, w := range words {
		if strings.ContainsRune(w.text, 0) {
			d.errorf(w.at, "Bad command", "A command has no NUL byte in it.")
			return nil
		}
		out = append(out, w.text)
	}
	if strings.ContainsAny(out[0], "/"+string(filepath.Separator)) {
		out[0] = d.path(out[0])
	}
	return out
}

// requirements decodes entries such as "ertt" or "ertt ~> 1.2".
func (d *decoder) requirements(e hclsyntax.Expression, h *Helper) {
	words, _ := d.strs(e)
	seen := map[string]bool{}
	for _, w := range words {
		r, err := shared.ParseRequirement(w.text)
		if err == nil && r.Constraint != "" {
			err = d.constraints.check(r.Constraint)
		}
		switch {
		case err != nil:
			d.errorf(w.at, "Bad requirement", "%s", sentence(err.Error()))
		case r.Name == h.Spec.Name:
			d.errorf(w.at, "Circular requirement: EDEADLK", "%s requires itself: %s → %s.", r.Name, r.Name, r.Name)
		case seen[r.Name]:
			d.errorf(w.at, "Stands twice", "%q stands in this list already; several constraints are written as one: \"%s >= 1.0, < 2.0\".",
				r.Name, r.Name)
		default:
			seen[r.Name] = true
			h.Spec.Requires = append(h.Spec.Requires, r)
			h.requires = append(h.requires, w.at)
		}
	}
}

// load decodes when a helper loads; the default is boot.
func (d *decoder) load(e hclsyntax.Expression) shared.LoadWhen {
	word := d.choice(e, "load value", string(shared.LoadBoot), string(shared.LoadDemand), string(shared.LoadManual))
	return cmp.Or(shared.LoadWhen(word), shared.LoadBoot)
}

func (d *decoder) causes(e hclsyntax.Expression) map[shared.Cause]shared.Action {
	var names []string
	for _, c := range shared.Causes {
		names = append(names, string(c))
	}
	var out map[shared.Cause]shared.Action
	for _, p := range d.pairs(e) {
		cause := d.oneOf(p.key.at, p.key.text, "cause", names)
		action := d.oneOf(p.value.at, p.value.text, "action", []string{string(shared.Open), string(shared.Closed)})
		if cause == "" || action == "" {
			continue
		}
		if out == nil {
			out = map[shared.Cause]shared.Action{}
		}
		out[shared.Cause(cause)] = shared.Action(action)
	}
	return out
}

func (d *decoder) env(e hclsyntax.Expression) map[string]string {
	var out map[string]string
	for _, p := range d.pairs(e) {
		switch {
		case p.key.text == "" || strings.ContainsAny(p.key.text, "=\x00"):
			d.errorf(p.key.at, "Bad variable name", "The name of an environment variable is not empty and has no \"=\" and no NUL byte in it.")
		case strings.ContainsRune(p.value.text, 0):
			d.errorf(p.value.at, "Bad variable value", "The value of an environment variable has no NUL byte in it.")
		default:
			if out == nil {
				out = map[string]string{}
			}
			out[p.key.text] = p.value.text
		}
	}
	return out
}

func (d *decoder) hook(block *hclsyntax.Block, b *body, h *Helper) {
	spec := shared.HookSpec{Point: shared.HookPoint(block.Labels[0])}
	if err := spec.Point.Validate(); err != nil {
		d.errorf(block.LabelRanges[0], "Bad hook point", "%s", sentence(err.Error()))
	} else if w := misspeltPoint(spec.Point, block.LabelRanges[0]); w != nil {
		d.diags = append(d.diags, w)
	}
	if e := b.expr("order"); e != nil {
		d.checked(e, "Bad order", func(text string) error {
			if text == "" {
				return errors.New("order is empty; leave it out, or write first, last, before NAME or after NAME")
			}
			order, err := shared.ParseOrder(text)
			if err != nil {
				return fmt.Errorf("%w%s", err, orderHint(text))
			}
			spec.Order = order
			h.orders[spec.Point] = e.Range()
			return nil
		})
	}
	spec.Timeout = d.duration(b.expr("timeout"))
	spec.OnFailure = d.action(b.expr("on_failure"))
	spec.OnCause = d.causes(b.expr("on_cause"))
	spec.Required = d.flag(b.expr("required"), false)
	h.Spec.Hooks = append(h.Spec.Hooks, spec)
}

// orderHint proposes the word that an order probably begins with, unless it does begin with one.
func orderHint(text string) string {
	words := []string{"first", "last", "before", "after"}
	verb, _, _ := strings.Cut(strings.TrimSpace(text), " ")
	switch {
	case verb == "before" || verb == "after":
		return fmt.Sprintf("; write \"%s NAME\"", verb)
	case slices.Contains(words, verb):
		return ""
	default:
		return shared.DidYouMean(verb, words)
	}
}

// properties decodes a config block, whose attributes are the helper's own.
func (d *decoder) properties(b *body, h *Helper) {
	if h.Spec.Config == nil {
		h.Spec.Config = map[string]any{}
		h.properties = map[string]hcl.Range{}
	}
	for _, name := range slices.Sorted(maps.Keys(b.attrs)) {
		attr := b.attrs[name]
		if err := shared.ValidateName("property", name); err != nil {
			d.errorf(attr.NameRange, "Bad property name", "%s", sentence(err.Error()))
		}
		if v, ok := d.property(attr.Expr); ok {
			h.Spec.Config[name] = v
			h.properties[name] = attr.SrcRange
		}
	}
}

// property returns a string, a bool, an int64, a float64 or a []any of strings.
func (d *decoder) property(e hclsyntax.Expression) (any, bool) {
	if _, diags := hcl.ExprList(e); !diags.HasErrors() {
		return d.list(e)
	}
	el, ok := d.value(e)
	if !ok {
		return nil, false
	}
	switch t := el.val.Type(); {
	case t == cty.String:
		return el.val.AsString(), true
	case t == cty.Bool:
		return el.val.True(), true
	case t == cty.Number:
		return d.number(el)
	case t.IsTupleType() || t.IsListType():
		return d.list(e)
	default:
		d.wrongType(el, "a string, a bool, a number or a list of strings")
		return nil, false
	}
}

func (d *decoder) list(e hclsyntax.Expression) (any, bool) {
	words, good := d.strs(e)
	out := make([]any, 0, len(words))
	for _, w := range words {
		out = append(out, w.text)
	}
	return out, good
}

// number returns an int64 for a whole number and a float64 for any other.
func (d *decoder) number(el element) (any, bool) {
	n := el.val.AsBigFloat()
	if n.IsInt() {
		if i, accuracy := n.Int64(); accuracy == big.Exact {
			return i, true
		}
		d.errorf(el.at, "Number out of range", "A whole number has at most 64 bits: it lies between -9223372036854775808 and 9223372036854775807.")
		return nil, false
	}
	f, _ := n.Float64()
	if math.IsInf(f, 0) || f == 0 {
		d.errorf(el.at, "Number out of range", "A fraction has at most 64 bits: it lies between 5e-324 and 1.7e308.")
		return nil, false
	}
	return f, true
}
