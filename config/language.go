package config

import (
	"maps"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/khelp/khelp/shared"
)

// support says how far this version goes with a word of the language.
type support uint8

const (
	unknown support = iota
	supported
	later // part of the language, not of this version: an error that says so
)

// words maps names of attributes or blocks to how far they are supported.
type words map[string]support

// blockRule is what may stand in one kind of block.
type blockRule struct {
	label  string // what the one label is, for messages; "" if the block takes none
	attrs  words
	blocks words
	free   bool // any attribute may stand here
}

// topLevel is the kind of a file's own body.
const topLevel = ""

// language is the whole language, the one table that decides what is unknown, what is not supported and what is decoded. Kinds of
// blocks have one meaning wherever they stand.
var language = map[string]blockRule{
	topLevel: {
		blocks: words{"khelpd": supported, "helper": supported, "tcp": supported, "autounload": later, "access": later},
	},
	"khelpd": {
		attrs: words{
			"control_socket": supported, "helper_path": supported, "log_level": supported, "log_format": supported,
			"metrics": later, "autoload": later,
		},
	},
	"helper": {
		label: "the helper's name",
		attrs: words{
			"command": supported, "sha256": supported, "version": supported, "classes": supported, "requires": supported,
			"load": supported, "timeout": supported, "on_failure": supported, "on_cause": supported, "env": supported,
			"files": later, "lane": later, "spin": later, "while_down": later, "best_effort": later, "reads": later,
		},
		blocks: words{
			"config": supported, "hook": supported,
			"autounload": later, "restart": later, "limits": later, "sandbox": later,
		},
	},
	"config": {free: true},
	"hook": {
		label: "the hook point, such as \"tcp.est_in\"",
		attrs: words{
			"order": supported, "timeout": supported, "on_failure": supported, "on_cause": supported, "required": supported,
			"when": later,
		},
	},
	"tcp": {
		label: "the proxy's name",
		attrs: words{"listen": supported, "upstream": supported, "vnet": supported, "async": supported},
	},
}

// known returns the words that this version supports, sorted.
func (w words) known() []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(w)) {
		if w[name] == supported {
			names = append(names, name)
		}
	}
	return names
}

// in says in a message where something stands.
func in(kind string) string {
	if kind == topLevel {
		return "at the top level"
	}
	return "in a " + kind + " block"
}

// body is a block's content that was found in order: attributes and blocks that are known and supported.
type body struct {
	header hcl.Range
	attrs  map[string]*hclsyntax.Attribute
	blocks []*hclsyntax.Block
}

// expr returns an attribute's expression, or nil.
func (b *body) expr(name string) hclsyntax.Expression {
	if a, ok := b.attrs[name]; ok {
		return a.Expr
	}
	return nil
}

// open holds a block's content against the language.
func (d *decoder) open(kind string, header hcl.Range, content *hclsyntax.Body) *body {
	rule := language[kind]
	out := &body{header: header, attrs: make(map[string]*hclsyntax.Attribute, len(content.Attributes))}
	for name, attr := range content.Attributes {
		if rule.free || rule.attrs[name] == supported {
			out.attrs[name] = attr
			continue
		}
		d.strayAttribute(kind, rule, attr)
	}
	for _, block := range content.Blocks {
		switch {
		case d.incomplete(block):
			// The parser has said so. What stands in it may belong elsewhere.
		case rule.blocks[block.Type] == supported:
			if d.labels(block) {
				out.blocks = append(out.blocks, block)
			}
		default:
			d.strayBlock(kind, rule, block)
		}
	}
	return out
}

// incomplete reports whether the parser lost a block's header or its end.
func (d *decoder) incomplete(b *hclsyntax.Block) bool {
	at := func(r hcl.Range) string { return string(r.SliceBytes(d.src.text)) }
	return at(b.OpenBraceRange) != "{" || at(b.CloseBraceRange) != "}"
}

func (d *decoder) strayAttribute(kind string, rule blockRule, attr *hclsyntax.Attribute) {
	name := attr.Name
	switch {
	case rule.attrs[name] == later:
		d.unsupported(attr.NameRange, "attribute", name, kind)
	case rule.blocks[name] == supported:
		d.errorf(attr.NameRange, "Block expected", "%s is a block %s: write %s { … } without \"=\".", name, in(kind), name)
	case rule.blocks[name] == later:
		d.unsupported(attr.NameRange, "block", name, kind)
	default:
		d.errorf(attr.NameRange, "Unknown attribute", "There is no attribute %q %s%s", name, in(kind),
			elsewhere(name, kind, rule.attrs.known()))
	}
}

func (d *decoder) strayBlock(kind string, rule blockRule, block *hclsyntax.Block) {
	name := block.Type
	switch {
	case rule.blocks[name] == later:
		d.unsupported(block.TypeRange, "block", name, kind)
	case rule.free:
		d.errorf(block.TypeRange, "Unexpected block", "%s takes attributes only: a string, a bool, a number or a list of strings.", kind)
	case rule.attrs[name] == supported:
		d.errorf(block.TypeRange, "Attribute expected", "%s is an attribute %s: write %s = ….", name, in(kind), name)
	case rule.attrs[name] == later:
		d.unsupported(block.TypeRange, "attribute", name, kind)
	default:
		d.errorf(block.TypeRange, "Unknown block", "There is no block %q %s%s", name, in(kind),
			elsewhere(name, kind, rule.blocks.known()))
	}
}

// elsewhere ends a sentence about an unknown word: with a near miss, or with where the word belongs, or with what there is.
func elsewhere(name, kind string, known []string) string {
	for _, other := range slices.Sorted(maps.Keys(language)) {
		rule := language[other]
		if other != kind && (rule.attrs[name] != unknown || rule.blocks[name] != unknown) {
			return "; it belongs " + in(other) + "."
		}
	}
	if near := shared.DidYouMean(name, known); near != "" || len(known) == 0 {
		return stop(near)
	}
	return "; there are " + listOfWords(known, "and") + "."
}

func (d *decoder) unsupported(at hcl.Range, what, name, kind string) {
	d.errorf(at, "Not supported by this version",
		"The %s %q %s is part of khelp's configuration, but is not supported by this version; take it out.", what, name, in(kind))
}

// labels checks that a block has the labels its kind takes.
func (d *decoder) labels(b *hclsyntax.Block) bool {
	want := language[b.Type].label
	switch {
	case want == "" && len(b.Labels) > 0:
		d.errorf(b.LabelRanges[0], "Unexpected label", "A %s block takes no label.", b.Type)
	case want != "" && len(b.Labels) == 0:
		d.errorf(b.TypeRange, "Missing label", "A %s block needs a label: %s.", b.Type, want)
	case want != "" && len(b.Labels) > 1:
		d.errorf(b.LabelRanges[1], "Unexpected label", "A %s block takes one label: %s.", b.Type, want)
	default:
		return true
	}
	return false
}
