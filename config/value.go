package config

import (
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/khelp/khelp/shared"
)

// Each function below turns one expression into one Go type. A nil expression, of an attribute that is not there, and one that is
// wrong, which is reported at its own place, give the zero value or false.

// element is a value with its place: an attribute's, a list element's, a map key's or a map value's.
type element struct {
	val cty.Value
	at  hcl.Range
}

// value evaluates an expression.
func (d *decoder) value(e hclsyntax.Expression) (element, bool) {
	at := e.Range()
	if word, ok := bareWord(e); ok {
		d.errorf(at, "Missing quotes", "A string stands in quotes: %q.", word)
		return element{}, false
	}
	val, diags := e.Value(d.eval)
	d.diags = append(d.diags, diags...)
	if diags.HasErrors() {
		return element{}, false
	}
	return element{val, at}, d.usable(val, at)
}

func (d *decoder) usable(val cty.Value, at hcl.Range) bool {
	switch {
	case !val.IsWhollyKnown():
		if !d.broken { // else it is what the parser puts where it found an error
			d.errorf(at, "Value not known", "This value cannot be known before khelp runs.")
		}
		return false
	case val.IsNull():
		d.errorf(at, "Null is no value", "Leave the attribute out to have its default.")
		return false
	}
	return true
}

// bareWord recognises a string whose quotes were forgotten, such as boot or tcp.est_in.
func bareWord(e hclsyntax.Expression) (string, bool) {
	t, ok := e.(*hclsyntax.ScopeTraversalExpr)
	if !ok {
		return "", false
	}
	var parts []string
	for _, step := range t.Traversal {
		switch step := step.(type) {
		case hcl.TraverseRoot:
			parts = append(parts, step.Name)
		case hcl.TraverseAttr:
			parts = append(parts, step.Name)
		default:
			return "", false
		}
	}
	return strings.Join(parts, "."), true
}

// wrongType reports a value of another type than the one wanted, which is described as "a string" or the like.
func (d *decoder) wrongType(el element, want string) {
	tip := ""
	source := string(el.at.SliceBytes(d.src.text))
	short := len(source) < 40 && !strings.ContainsAny(source, "[{(")
	switch got := el.val.Type(); {
	case want == "a string" && (got == cty.Number || got == cty.Bool) && short: // free text
		tip = fmt.Sprintf(": write %q", source)
	case want == listOfStrings && got == cty.String && short:
		tip = ": write [" + source + "]"
	case want == "true or false" && got == cty.String:
		tip = ": write it without quotes"
	}
	d.errorf(el.at, "Wrong type", "This must be %s, not %s%s.", want, typeWord(el.val.Type()), tip)
}

const listOfStrings = "a list of strings"

func typeWord(t cty.Type) string {
	switch {
	case t == cty.String:
		return "a string"
	case t == cty.Number:
		return "a number"
	case t == cty.Bool:
		return "a bool"
	case t.IsTupleType() || t.IsListType() || t.IsSetType():
		return "a list"
	default:
		return "a map"
	}
}

// str returns a string.
func (d *decoder) str(e hclsyntax.Expression, want string) (string, bool) {
	if e == nil {
		return "", false
	}
	el, ok := d.value(e)
	if !ok {
		return "", false
	}
	return d.strOf(el, want)
}

func (d *decoder) strOf(el element, want string) (string, bool) {
	if el.val.Type() != cty.String {
		d.wrongType(el, want)
		return "", false
	}
	return el.val.AsString(), true
}

// checked returns a string that a check finds in order.
func (d *decoder) checked(e hclsyntax.Expression, summary string, check func(string) error) string {
	text, ok := d.str(e, "a string in quotes")
	if !ok {
		return ""
	}
	if err := check(text); err != nil {
		d.errorf(e.Range(), summary, "%s", sentence(err.Error()))
		return ""
	}
	return text
}

// choice returns one of some words, or "".
func (d *decoder) choice(e hclsyntax.Expression, name string, options ...string) string {
	text, ok := d.str(e, listOfWords(options, "or")+" in quotes")
	if !ok {
		return ""
	}
	return d.oneOf(e.Range(), text, name, options)
}

func (d *decoder) oneOf(at hcl.Range, text, name string, options []string) string {
	for _, o := range options {
		if text == o {
			return text
		}
	}
	d.errorf(at, "Unknown "+name, "There is no %s %q%s", name, text, hint(text, options))
	return ""
}

// flag returns a bool, or the default.
func (d *decoder) flag(e hclsyntax.Expression, otherwise bool) bool {
	if e == nil {
		return otherwise
	}
	el, ok := d.value(e)
	if !ok {
		return otherwise
	}
	if el.val.Type() != cty.Bool {
		d.wrongType(el, "true or false")
		return otherwise
	}
	return el.val.True()
}

// duration returns a duration above zero, or zero.
func (d *decoder) duration(e hclsyntax.Expression) time.Duration {
	if e == nil {
		return 0
	}
	el, ok := d.value(e)
	if !ok {
		return 0
	}
	if el.val.Type() == cty.Number {
		n := string(el.at.SliceBytes(d.src.text))
		if len(n) > 20 {
			n = "5"
		}
		d.errorf(el.at, "Wrong type", "A duration is a string with a unit, such as \"%sms\" or \"%ss\".", n, n)
		return 0
	}
	text, ok := d.strOf(el, "a string such as \"200ms\"")
	if !ok {
		return 0
	}
	v, err := time.ParseDuration(text)
	switch {
	case err != nil:
		d.errorf(el.at, "Bad duration", "%q is no duration%s", text, durationHint(text))
	case v <= 0:
		d.errorf(el.at, "Bad duration", "%q must be more than zero.", text)
	default:
		return v
	}
	return 0
}

// durationHint proposes a duration for one that was nearly right: "5 sec", "5S", "10".
func durationHint(text string) string {
	const form = "; it is a number and a unit (ns, us, ms, s, m, h), such as \"200ms\" or \"1m30s\"."
	compact := strings.ToLower(strings.ReplaceAll(text, " ", ""))
	number := strings.TrimRight(compact, "abcdefghijklmnopqrstuvwxyz")
	units := map[string]string{
		"": "s", "sec": "s", "secs": "s", "second": "s", "seconds": "s", "msec": "ms", "msecs": "ms", "millis": "ms", "milliseconds": "ms",
		"min": "m", "mins": "m", "minute": "m", "minutes": "m", "hour": "h", "hours": "h", "hr": "h", "usec": "us", "s": "s", "ms": "ms",
		"m": "m", "h": "h",
	}
	unit, ok := units[compact[len(number):]]
	if v, err := time.ParseDuration(number + unit); ok && err == nil && v > 0 {
		return fmt.Sprintf("; did you mean \"%s%s\"?", number, unit)
	}
	return form
}

// elements returns a list's elements with their places.
func (d *decoder) elements(e hclsyntax.Expression) ([]element, bool) {
	if e == nil {
		return nil, false
	}
	if list, diags := hcl.ExprList(e); !diags.HasErrors() {
		var out []element
		good := true
		for _, item := range list {
			el, ok := d.value(item.(hclsyntax.Expression))
			good = good && ok
			if ok {
				out = append(out, el)
			}
		}
		return out, good
	}
	el, ok := d.value(e)
	if !ok {
		return nil, false
	}
	if !iterable(el.val) {
		d.wrongType(el, listOfStrings)
		return nil, false
	}
	var out []element
	for it := el.val.ElementIterator(); it.Next(); {
		_, v := it.Element()
		if !d.usable(v, el.at) {
			return nil, false
		}
		out = append(out, element{v, el.at})
	}
	return out, true
}

// iterable reports whether a value is a list of some kind.
func iterable(v cty.Value) bool {
	return v.CanIterateElements() && !v.Type().IsMapType() && !v.Type().IsObjectType()
}

// word is a string with its place.
type word struct {
	text string
	at   hcl.Range
}

// strs returns a list of strings. The second result is false if any of it was wrong.
func (d *decoder) strs(e hclsyntax.Expression) ([]word, bool) {
	elements, good := d.elements(e)
	var out []word
	for _, el := range elements {
		text, ok := d.strOf(el, "a string")
		good = good && ok
		if ok {
			out = append(out, word{text, el.at})
		}
	}
	return out, good
}

// distinct is strs for a list in which a string may stand once.
func (d *decoder) distinct(e hclsyntax.Expression) []word {
	words, _ := d.strs(e)
	seen := map[string]bool{}
	var out []word
	for _, w := range words {
		if seen[w.text] {
			d.errorf(w.at, "Stands twice", "%q stands in this list already.", w.text)
			continue
		}
		seen[w.text] = true
		out = append(out, w)
	}
	return out
}

// pair is an entry of a map of strings.
type pair struct{ key, value word }

// pairs returns a map of strings in the order in which it is written.
func (d *decoder) pairs(e hclsyntax.Expression) []pair {
	if e == nil {
		return nil
	}
	items, diags := hcl.ExprMap(e)
	if diags.HasErrors() {
		return d.computedPairs(e)
	}
	var out []pair
	seen := map[string]hcl.Range{}
	for _, item := range items {
		key, ok := d.mapKey(item.Key)
		value, ok2 := d.str(item.Value.(hclsyntax.Expression), "a string")
		if !ok || !ok2 {
			continue
		}
		if first, twice := seen[key.text]; twice {
			d.errorf(key.at, "Stands twice", "%q stands in this map already, at %s.", key.text, place(first))
			continue
		}
		seen[key.text] = key.at
		out = append(out, pair{key, word{value, item.Value.Range()}})
	}
	return out
}

// computedPairs is pairs for a map that is not written as one, such as a conditional.
func (d *decoder) computedPairs(e hclsyntax.Expression) []pair {
	el, ok := d.value(e)
	if !ok {
		return nil
	}
	if t := el.val.Type(); !t.IsObjectType() && !t.IsMapType() {
		d.wrongType(el, "a map of strings, such as { name = \"value\" }")
		return nil
	}
	var out []pair
	for it := el.val.ElementIterator(); it.Next(); {
		key, val := it.Element()
		if !d.usable(val, el.at) {
			continue
		}
		if text, ok := d.strOf(element{val, el.at}, "a string"); ok {
			out = append(out, pair{word{key.AsString(), el.at}, word{text, el.at}})
		}
	}
	return out
}

func (d *decoder) mapKey(e hcl.Expression) (word, bool) {
	val, diags := e.Value(d.eval)
	d.diags = append(d.diags, diags...)
	if diags.HasErrors() || !d.usable(val, e.Range()) {
		return word{}, false
	}
	text, ok := d.strOf(element{val, e.Range()}, "a string")
	return word{text, e.Range()}, ok
}

// action returns open, closed or, if nothing is said, the default.
func (d *decoder) action(e hclsyntax.Expression) shared.Action {
	return shared.Action(d.choice(e, "action", string(shared.Open), string(shared.Closed)))
}
