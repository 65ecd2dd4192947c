package config

import (
	"slices"
	"strconv"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// Sizes that no configuration reaches. They keep the recursive parser within its stack.
const (
	maxNesting   = 100    // brackets within each other
	maxOperators = 10_000 // in one file
)

// parseFile parses one file. The file returned is never nil, but its body is when the text was not fit to be parsed at all.
func parseFile(src source) (*hcl.File, hcl.Diagnostics) {
	// Errors of the tokenizer come again from the parser.
	tokens, _ := hclsyntax.LexConfig(src.text, src.name, hcl.InitialPos)
	if problem := tooDeep(tokens); problem != nil {
		return &hcl.File{Bytes: src.text}, hcl.Diagnostics{problem}
	}
	file, diags := hclsyntax.ParseConfig(src.text, src.name, hcl.InitialPos)
	if file == nil {
		return &hcl.File{Bytes: src.text}, diags
	}
	if whole, ok := file.Body.(*hclsyntax.Body); ok && diags.HasErrors() {
		if body, more := parseItems(src, tokens, whole); more.HasErrors() {
			file.Body, file.Nav, diags = body, navigation{body}, more
		}
	}
	return file, diags
}

// parseItems parses each item of a file's top level by itself. HCL's parser holds its tongue after the first syntax error, and loses
// all that follows a missing brace; this way each block tells its own.
func parseItems(src source, tokens hclsyntax.Tokens, whole *hclsyntax.Body) (*hclsyntax.Body, hcl.Diagnostics) {
	out := &hclsyntax.Body{Attributes: hclsyntax.Attributes{}, SrcRange: whole.SrcRange, EndRange: whole.EndRange}
	var diags hcl.Diagnostics
	starts := itemStarts(tokens)
	for i, start := range starts {
		end := len(src.text)
		if i+1 < len(starts) {
			end = starts[i+1].Byte
		}
		file, itemDiags := hclsyntax.ParseConfig(src.text[start.Byte:end], src.name, start)
		diags = append(diags, itemDiags...)
		if file == nil {
			continue
		}
		if item, ok := file.Body.(*hclsyntax.Body); ok {
			for name, attr := range item.Attributes {
				out.Attributes[name] = attr
			}
			out.Blocks = append(out.Blocks, item.Blocks...)
		}
	}
	return out, diags
}

// navigation tells hcl's writer of diagnostics which block a place is in, by the method it looks for.
type navigation struct{ root *hclsyntax.Body }

func (n navigation) ContextString(offset int) string {
	for _, b := range n.root.Blocks {
		if !b.Range().ContainsOffset(offset) {
			continue
		}
		text := b.Type
		for _, label := range b.Labels {
			text += " " + strconv.Quote(label)
		}
		return text
	}
	return ""
}

// itemStarts finds where the items of the top level begin: behind a newline outside of all brackets, and where a line begins, without
// indentation, with what can only be a block of the top level: there a brace is missing.
func itemStarts(tokens hclsyntax.Tokens) []hcl.Pos {
	starts := []hcl.Pos{hcl.InitialPos}
	depth, lineStart := 0, false
	for i, t := range tokens {
		if i > 0 && t.Type != hclsyntax.TokenEOF && (lineStart || beginsBlock(tokens[i:])) {
			depth = 0
			starts = append(starts, t.Range.Start)
		}
		switch {
		case opens(t.Type):
			depth++
		case closes(t.Type):
			depth = max(0, depth-1)
		}
		lineStart = depth == 0 && t.Type == hclsyntax.TokenNewline
	}
	return starts
}

func beginsBlock(tokens hclsyntax.Tokens) bool {
	t := tokens[0]
	if t.Type != hclsyntax.TokenIdent || t.Range.Start.Column != 1 || len(tokens) < 2 {
		return false
	}
	next := tokens[1].Type
	return slices.Contains([]string{"khelpd", "helper", "tcp", "access"}, string(t.Bytes)) &&
		(next == hclsyntax.TokenOBrace || next == hclsyntax.TokenOQuote)
}

func opens(t hclsyntax.TokenType) bool {
	switch t {
	case hclsyntax.TokenOBrace, hclsyntax.TokenOParen, hclsyntax.TokenOBrack, hclsyntax.TokenOQuote, hclsyntax.TokenOHeredoc,
		hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl:
		return true
	}
	return false
}

func closes(t hclsyntax.TokenType) bool {
	switch t {
	case hclsyntax.TokenCBrace, hclsyntax.TokenCParen, hclsyntax.TokenCBrack, hclsyntax.TokenCQuote, hclsyntax.TokenCHeredoc,
		hclsyntax.TokenTemplateSeqEnd:
		return true
	}
	return false
}

// operator reports whether a token makes an expression deeper without a bracket.
func operator(t, last hclsyntax.TokenType) bool {
	switch t {
	case hclsyntax.TokenBang, hclsyntax.TokenMinus, hclsyntax.TokenPlus, hclsyntax.TokenStar, hclsyntax.TokenSlash,
		hclsyntax.TokenPercent, hclsyntax.TokenQuestion, hclsyntax.TokenDot, hclsyntax.TokenAnd, hclsyntax.TokenOr,
		hclsyntax.TokenEqualOp, hclsyntax.TokenNotEqual, hclsyntax.TokenLessThan, hclsyntax.TokenLessThanEq,
		hclsyntax.TokenGreaterThan, hclsyntax.TokenGreaterThanEq:
		return true
	case hclsyntax.TokenTemplateControl: // %{ if } and %{ for } nest until their end
		return true
	case hclsyntax.TokenOBrack: // an index on an index
		return last == hclsyntax.TokenCBrack
	}
	return false
}

// tooDeep finds what would make the parser, or the evaluation of an expression, recurse without bound: both end the process when the
// stack is full, and no recover helps. The tokenizer does not recurse.
func tooDeep(tokens hclsyntax.Tokens) *hcl.Diagnostic {
	depth, operators := 0, 0
	last := hclsyntax.TokenNil
	for _, t := range tokens {
		switch {
		case opens(t.Type):
			depth++
		case closes(t.Type):
			depth = max(0, depth-1)
		}
		if operator(t.Type, last) {
			operators++
		}
		last = t.Type
		if depth > maxNesting {
			return problem(t.Range, "Nested too deeply", "More than %d brackets stand within each other here.", maxNesting)
		}
		if operators > maxOperators {
			return problem(t.Range, "Too many operators", "A configuration file may have %d operators.", maxOperators)
		}
	}
	return nil
}
