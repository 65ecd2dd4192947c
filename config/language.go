package config

import (
	"maps"
	"slices"
	"strings"

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

// kindOf names the kind of a block by where it stands: "helper", and "helper.hook" within it.
func kindOf(parent, blockType string) string {
	if parent == topLevel {
		return blockType
	}
	return parent + "." + blockType
}

// language is the whole language, the one table that decides what is unknown, what is not supported and what is decoded. REFERENCE.md
// says what each supported word means.
var language = map[string]blockRule{
	topLevel: {
		blocks: words{"khelpd": supported, "helper": supported, "tcp": supported, "autounload": supported, "access": supported},
	},
	"khelpd": {
		attrs: words{
			"control_socket": supported, "helper_path": supported, "log_level": supported, "log_format": supported, "autoload": supported,
			"metrics": later,
		},
	},
	"autounload": {
		attrs: words{"after": supported, "memory_floor": supported, "under_pressure": supported},
	},
	"access": {
		blocks: words{"allow": supported},
	},
	"access.allow": {
		attrs: words{"actions": supported, "users": supported, "groups": supported},
	},
	"helper": {
		label: "the helper's name",
		attrs: words{
			"command": supported, "sha256": supported, "version": supported, "classes": supported, "requires": supported,
			"load": supported, "timeout": supported, "on_failure": supported, "on_cause": supported, "env": supported,
			"files": later, "lane": later, "spin": later, "while_down": later, "best_effort": later, "reads": later,
		},
		blocks: words{
			"config": supported, "hook": supported, "autounload": supported,
			"restart": later, "limits": later, "sandbox": later,
		},
	},
	"helper.config": {free: true},
	"helper.hook": {
		label: "the hook point, such as \"tcp.est_in\"",
		attrs: words{
			"order": supported, "timeout": supported, "on_failure": supported, "on_cause": supported, "required": supported,
			"when": later,
		},
	},
	"helper.autounload": {
		attrs: words{"policy": supported, "after": supported},
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
	parent, name, nested := strings.Cut(kind, ".")
	switch _, twice := language[name]; {
	case !nested:
		return "in " + article(kind) + " block"
	case twice: // a block of this name stands at the top level too
		return "in " + article(parent) + "'s " + name + " block"
	default:
		return "in " + article(name) + " block"
	}
}

// article puts "a" or "an" before a word.
func article(word string) string {
	if strings.ContainsRune("aeiou", rune(word[0])) {
		return "an " + word
	}
	return "a " + word
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

// place returns where an attribute stands, or nil.
func (b *body) place(name string) *hcl.Range {
	if a, ok := b.attrs[name]; ok {
		return &a.SrcRange
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
			if d.labels(kind, block) {
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
		d.errorf(block.TypeRange, "Unexpected block", "There are only attributes %s: a string, a bool, a number or a list of strings.", in(kind))
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
	if len(known) == 1 {
		return "; there is only " + known[0] + "."
	}
	return "; there are " + listOfWords(known, "and") + "."
}

func (d *decoder) unsupported(at hcl.Range, what, name, kind string) {
	d.errorf(at, "Not supported by this version",
		"The %s %q %s is part of khelp's configuration, but is not supported by this version; take it out.", what, name, in(kind))
}

// labels checks that a block, which stands in one of kind parent, has the labels its kind takes.
func (d *decoder) labels(parent string, b *hclsyntax.Block) bool {
	want := language[kindOf(parent, b.Type)].label
	a := capital(article(b.Type)) + " block"
	switch {
	case want == "" && len(b.Labels) > 0:
		d.errorf(b.LabelRanges[0], "Unexpected label", "%s takes no label.", a)
	case want != "" && len(b.Labels) == 0:
		d.errorf(b.TypeRange, "Missing label", "%s needs a label: %s.", a, want)
	case want != "" && len(b.Labels) > 1:
		d.errorf(b.LabelRanges[1], "Unexpected label", "%s takes one label: %s.", a, want)
	default:
		return true
	}
	return false
}
