package config

import (
	"fmt"

	"github.com/hashicorp/hcl/v2"

	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/points/tcpv1"
)

// check holds the blocks of all files against each other.
func (c *Config) check() hcl.Diagnostics {
	diags := c.checkListeners()
	diags = append(diags, c.checkAsync()...)
	survey := newSurvey(c)
	survey.all()
	diags = append(diags, survey.checkRequirements()...)
	return append(diags, c.contradictingOrders()...)
}

func (c *Config) checkListeners() hcl.Diagnostics {
	var diags hcl.Diagnostics
	seen := map[string]*TCP{}
	for i := range c.TCP {
		t := &c.TCP[i]
		key, ok := sameListener(t.Listen)
		if !ok {
			continue
		}
		if first := seen[key]; first != nil {
			diags = append(diags, problem(t.listen, "Address in use twice", "tcp %q listens on %s already, at %s.",
				first.Name, first.Listen, place(first.listen)))
			continue
		}
		seen[key] = t
	}
	return diags
}

// checkAsync finds tcp blocks that share a vnet, and so the points in it, but do not agree on whether those are async.
func (c *Config) checkAsync() hcl.Diagnostics {
	var diags hcl.Diagnostics
	firsts := map[string]*TCP{}
	for i := range c.TCP {
		t := &c.TCP[i]
		if t.wrong {
			continue
		}
		first := firsts[t.Vnet]
		if first == nil {
			firsts[t.Vnet] = t
			continue
		}
		if first.Async != t.Async {
			diags = append(diags, disagreement(first, t))
		}
	}
	return diags
}

// disagreement reports two blocks with different async at the second, or at the first if only that one says something.
func disagreement(first, second *TCP) *hcl.Diagnostic {
	at, other := second, first
	if second.async == nil {
		at, other = first, second
	}
	vnet, where := "the default vnet", other.Range
	if at.Vnet != "" {
		vnet = fmt.Sprintf("the vnet %q", at.Vnet)
	}
	how := "by default, at"
	if other.async != nil {
		where, how = *other.async, "written at"
	}
	return problem(*at.async, "Contradicting async", "The tcp blocks on %s share its hook points, but for tcp %q async is %t (%s %s).",
		vnet, other.Name, other.Async, how, place(where))
}

// misspeltPoint warns of a point that a subsystem known here does not have. Points of other subsystems are the embedder's.
func misspeltPoint(p shared.HookPoint, at hcl.Range) *hcl.Diagnostic {
	var points []string
	for _, known := range tcpv1.Points {
		if known == p {
			return nil
		}
		if known.Subsystem() == p.Subsystem() {
			points = append(points, string(known))
		}
	}
	if len(points) == 0 {
		return nil
	}
	near := shared.DidYouMean(string(p), points)
	if near == "" {
		near = "; there are " + listOfWords(points, "and") + "."
	}
	return warning(at, "Unknown hook point", "The subsystem %q has no point %q%s", p.Subsystem(), p.Name(), near)
}
