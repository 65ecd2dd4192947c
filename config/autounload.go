package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/khelp/khelp/shared"
)

// Autounload is the block `autounload` at the top level: when helpers that nobody loaded by hand leave again. A zero field means the
// default. It answers to module_autotime.
type Autounload struct {
	After         time.Duration // 0: shared.DefaultAutounloadAfter
	MemoryFloor   float64       // share of all memory, above 0 and below 1; 0: shared.DefaultMemoryFloor
	UnderPressure string        // whom pressure may cost: "autoloaded", which is the default, or "unreferenced"
	Range         hcl.Range
}

func (d *decoder) autounload(b *body) {
	a := &d.cfg.Autounload
	if d.second("autounload", a.Range, b.header) {
		a = &Autounload{}
	}
	a.Range = b.header
	a.After = d.duration(b.expr("after"))
	a.MemoryFloor = d.share(b.expr("memory_floor"))
	a.UnderPressure = d.choice(b.expr("under_pressure"), "pressure policy", "autoloaded", "unreferenced")
}

// helperAutounload decodes the block `autounload` of a helper.
func (d *decoder) helperAutounload(b *body, s *shared.HelperSpec) {
	s.Autounload = shared.AutounloadPolicy(d.choice(b.expr("policy"), "autounload policy",
		string(shared.AutounloadIdle), string(shared.AutounloadOnce), string(shared.AutounloadNever)))
	s.AutounloadAfter = d.duration(b.expr("after"))
	if s.Autounload == shared.AutounloadNever && s.AutounloadAfter > 0 {
		d.diags = append(d.diags, warning(b.attrs["after"].SrcRange, "No effect", "With the policy never, after has no effect."))
	}
}

// share returns a part of a whole that is written in percent, above 0 and below 1; or 0.
func (d *decoder) share(e hclsyntax.Expression) float64 {
	const form = "a share is written in percent, such as \"5%\""
	if e == nil {
		return 0
	}
	el, ok := d.value(e)
	if !ok {
		return 0
	}
	if el.val.Type() == cty.Number {
		d.errorf(el.at, "Wrong type", "%s.", capital(form))
		return 0
	}
	text, ok := d.strOf(el, "a string such as \"5%\"")
	if !ok {
		return 0
	}
	number, percent := strings.CutSuffix(text, "%")
	value, good := decimal(number)
	switch {
	case !good:
		d.errorf(el.at, "Bad share", "%q is no share; %s.", text, form)
	case !percent && value > 0 && value < 100:
		if value < 1 {
			value *= 100
		}
		d.errorf(el.at, "Bad share", "%q has no percent sign; did you mean %q?", text, fmt.Sprintf("%.6g%%", value))
	case value <= 0 || value >= 100:
		d.errorf(el.at, "Bad share", "%q must be more than 0%% and less than 100%%.", text)
	default:
		return value / 100
	}
	return 0
}

// decimal reads a number of digits and a point, and nothing else that Go takes for a number.
func decimal(text string) (float64, bool) {
	if strings.Trim(text, "0123456789.") != "" {
		return 0, false
	}
	f, err := strconv.ParseFloat(text, 64)
	return f, err == nil
}
