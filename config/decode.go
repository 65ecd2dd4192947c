package config

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/khelp/khelp/shared"
)

// decoder turns one file into parts of a Config. It belongs to one goroutine.
type decoder struct {
	cfg    *Config
	src    source
	dir    string // absolute, of the file
	eval   *hcl.EvalContext
	broken bool // the parser found errors: what is missing may be missing for that
	diags  hcl.Diagnostics

	constraints constraints
}

func newDecoder(cfg *Config, src source, broken bool) *decoder {
	dir, err := filepath.Abs(filepath.Dir(src.name))
	if err != nil { // no working directory: relative paths stay relative
		dir = filepath.Dir(src.name)
	}
	return &decoder{cfg: cfg, src: src, dir: dir, eval: evalContext(dir), broken: broken, constraints: constraints{}}
}

func (d *decoder) errorf(at hcl.Range, summary, format string, args ...any) {
	d.diags = append(d.diags, problem(at, summary, format, args...))
}

// file decodes all blocks of a file.
func (d *decoder) file(f *hcl.File) {
	all, ok := f.Body.(*hclsyntax.Body)
	if !ok {
		return
	}
	for _, block := range d.open(topLevel, all.SrcRange, all).blocks {
		content := d.open(block.Type, block.DefRange(), block.Body)
		switch block.Type {
		case "khelpd":
			d.khelpd(content)
		case "autounload":
			d.autounload(content)
		case "access":
			d.access(content)
		case "helper":
			d.helper(block, content)
		case "tcp":
			d.tcp(block, content)
		}
	}
}

// path makes a path absolute; it is relative to the file it stands in.
func (d *decoder) path(p string) string {
	if filepath.IsAbs(p) {
		return filepath.Clean(p)
	}
	return filepath.Join(d.dir, p)
}

func checkPath(p string) error {
	switch {
	case p == "":
		return errors.New("the path is empty")
	case strings.ContainsRune(p, 0):
		return errors.New("a path has no NUL byte in it")
	}
	return nil
}

func (d *decoder) khelpd(b *body) {
	k := &d.cfg.Khelpd
	if d.second("khelpd", k.Range, b.header) {
		// What is wrong in this one is reported all the same, but the first one counts.
		k = &Khelpd{}
	}
	k.Range = b.header
	if e := b.expr("control_socket"); e != nil {
		if p := d.checked(e, "Bad path", d.checkSocket); p != "" {
			k.ControlSocket = d.path(p)
		}
	}
	for _, w := range d.distinct(b.expr("helper_path")) {
		if err := checkPath(w.text); err != nil {
			d.errorf(w.at, "Bad path", "%s", sentence(err.Error()))
			continue
		}
		k.HelperPath = append(k.HelperPath, d.path(w.text))
	}
	k.LogLevel = cmp.Or(d.choice(b.expr("log_level"), "log level", "trace", "debug", "info", "warn", "error"), k.LogLevel)
	k.LogFormat = cmp.Or(d.choice(b.expr("log_format"), "log format", "text", "json"), k.LogFormat)
	k.Autoload = d.scope(b.expr("autoload"))
}

// second reports a block of which there is one already, in this or another file. A block that is not there has no first place.
func (d *decoder) second(kind string, first, header hcl.Range) bool {
	if first.Filename == "" {
		return false
	}
	d.errorf(header, "Second "+kind+" block", "The %s block stands once in all files together; the first is at %s.", kind, place(first))
	return true
}

// scope decodes which helpers may be autoloaded: the words configured or path, or a list of names.
func (d *decoder) scope(e hclsyntax.Expression) (s shared.AutoloadScope) {
	if e == nil {
		return s
	}
	if _, diags := hcl.ExprList(e); diags.HasErrors() { // not written as a list
		el, ok := d.value(e)
		switch {
		case !ok:
			return s
		case el.val.Type() == cty.String:
			s.Path = d.scopeWord(el) == "path"
			return s
		case !iterable(el.val):
			d.wrongType(el, "configured or path in quotes, or a list of strings")
			return s
		}
	}
	for _, w := range d.distinct(e) {
		if err := shared.ValidateName("helper name", w.text); err != nil {
			d.errorf(w.at, "Bad name", "%s", sentence(err.Error()))
			continue
		}
		s.Names = append(s.Names, w.text)
	}
	return s
}

func (d *decoder) scopeWord(el element) string {
	words := []string{"configured", "path"}
	text := el.val.AsString()
	if slices.Contains(words, text) {
		return text
	}
	d.errorf(el.at, "Unknown autoload scope", "There is no autoload scope %q%s", text,
		cmp.Or(shared.DidYouMean(text, words), fmt.Sprintf("; it must be configured or path, or a list of names such as [%q].", text)))
	return ""
}

// maxSocketPath is what fits into sockaddr_un's sun_path on Linux, with the NUL at its end.
const maxSocketPath = 107

func (d *decoder) checkSocket(p string) error {
	if err := checkPath(p); err != nil {
		return err
	}
	if full := d.path(p); len(full) > maxSocketPath {
		return shared.ErrNameTooLong.Errorf("the path of a Unix socket has at most %d bytes; %s has %d", maxSocketPath, full, len(full))
	}
	return nil
}

func (d *decoder) tcp(block *hclsyntax.Block, b *body) {
	t := TCP{Name: block.Labels[0], Range: b.header}
	if !d.name(block, "name of a tcp block") {
		return
	}
	if i := slices.IndexFunc(d.cfg.TCP, func(o TCP) bool { return o.Name == t.Name }); i >= 0 {
		d.duplicate(block, d.cfg.TCP[i].Range)
	}
	d.require(b, "tcp", "listen", "upstream")
	if e := b.expr("listen"); e != nil {
		t.Listen = d.checked(e, "Bad address", checkListen)
		t.listen = e.Range()
	}
	t.Upstream = d.checked(b.expr("upstream"), "Bad address", checkUpstream)
	before := len(d.diags)
	t.Vnet = d.checked(b.expr("vnet"), "Bad name", func(name string) error {
		if name == "" { // the default vnet
			return nil
		}
		return shared.ValidateName("vnet", name)
	})
	t.Async = d.flag(b.expr("async"), true)
	t.async = b.place("async")
	t.wrong = len(d.diags) > before
	d.cfg.TCP = append(d.cfg.TCP, t)
}

// name checks a block's label.
func (d *decoder) name(block *hclsyntax.Block, what string) bool {
	if err := shared.ValidateName(what, block.Labels[0]); err != nil {
		d.errorf(block.LabelRanges[0], "Bad name", "%s", sentence(err.Error()))
		return false
	}
	return true
}

func (d *decoder) duplicate(block *hclsyntax.Block, first hcl.Range) {
	d.errorf(block.DefRange(), "Duplicate "+block.Type, "%s %q is defined already, at %s.", block.Type, block.Labels[0], place(first))
}

// require reports attributes that must be there and are not.
func (d *decoder) require(b *body, kind string, names ...string) {
	for _, name := range names {
		if b.attrs[name] == nil && !d.broken {
			d.errorf(b.header, "Missing attribute", "%s block needs the attribute %q.", capital(article(kind)), name)
		}
	}
}
