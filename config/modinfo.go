package config

import (
	"errors"
	"slices"

	"github.com/hashicorp/hcl/v2"

	"github.com/khelp/khelp/shared"
)

// checkModinfo holds what a helper says of itself against what its block says, as the loader does.
func (s *survey) checkModinfo(n *node) hcl.Diagnostics {
	if n.other != "" {
		return hcl.Diagnostics{problem(n.at, "Another helper: EINVAL", "The helper asked for is %q, but it says its name is %q.",
			n.spec.Name, n.other)}
	}
	if !n.known {
		return nil
	}
	var diags hcl.Diagnostics
	if n.info.API != shared.APIGeneration {
		diags = append(diags, n.severe(problem(n.at, "Incompatible helper: EPROGMISMATCH",
			"%s was built for API generation %d, this khelp has %d; only a forced load takes it.", n.spec.Name, n.info.API, shared.APIGeneration)))
	}
	if n.block != nil {
		diags = append(diags, n.checkClasses()...)
		diags = append(diags, n.checkHooks()...)
	}
	return append(diags, n.checkProperties()...)
}

// checkClasses finds classes that are asked for and not declared.
func (n *node) checkClasses() hcl.Diagnostics {
	declared := make([]string, len(n.info.Classes))
	for i, c := range n.info.Classes {
		declared[i] = string(c)
	}
	var diags hcl.Diagnostics
	for i, c := range n.spec.Classes {
		if !slices.Contains(n.info.Classes, c) {
			diags = append(diags, problem(n.block.classes[i], "Unknown class: ENOENT", "%s does not follow the class %q%s",
				n.spec.Name, string(c), butDoes(string(c), declared, "; it follows ")))
		}
	}
	return diags
}

// checkHooks finds hook blocks for points that a helper does not hook.
func (n *node) checkHooks() hcl.Diagnostics {
	var declared []string
	for _, hook := range n.info.Hooks {
		if !slices.Contains(declared, string(hook.Point)) {
			declared = append(declared, string(hook.Point))
		}
	}
	var diags hcl.Diagnostics
	for _, hook := range n.spec.Hooks {
		if p := string(hook.Point); !slices.Contains(declared, p) {
			diags = append(diags, problem(n.block.hooks[hook.Point], "No such hook: EINVAL", "%s has no hook on %s%s",
				n.spec.Name, p, butDoes(p, declared, "; it hooks ")))
		}
	}
	return diags
}

// butDoes ends a sentence about a word that a helper does not have: with those it has or, of many, with a near miss.
func butDoes(name string, declared []string, verb string) string {
	switch {
	case len(declared) == 0:
		return verb + "none."
	case len(declared) > 10:
		return stop(shared.DidYouMean(name, declared))
	default:
		return verb + listOfWords(declared, "and") + "."
	}
}

// checkProperties holds the config block against the schema.
func (n *node) checkProperties() hcl.Diagnostics {
	_, err := shared.CheckProperties(n.info.Properties, n.spec.Config)
	if err == nil {
		return nil
	}
	var diags hcl.Diagnostics
	for _, part := range split(err) {
		d := n.block.diagnose(n.spec.Name, part)
		if d.Subject == nil {
			d.Subject = &n.at
		}
		if p := (*shared.PropertyError)(nil); errors.As(part, &p) {
			if _, given := n.spec.Config[p.Name]; !given { // one that is missing may be given when the helper is loaded
				d = n.severe(d)
			}
		}
		diags = append(diags, d)
	}
	return diags
}
