package main

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/khelp/khelp/config"
	"github.com/khelp/khelp/host/control"
	"github.com/khelp/khelp/shared"
)

// The kinds of parts that a configuration has beside helpers.
const (
	kindTCP     = "tcp"
	kindSetting = "setting" // of the daemon as a whole
)

// setting is one thing that a configuration says of the daemon as a whole.
type setting struct {
	name string
	// fixed settings stay as they are until the daemon is started again.
	fixed bool
	of    func(*config.Config) string // as text, which differs if the setting does
}

// The names of settings that a reload changes.
const (
	settingLogLevel   = "log_level"
	settingAccess     = "access"
	settingAutounload = "autounload"
	settingHelperPath = "helper_path"
	settingAutoload   = "autoload"
)

var settings = []setting{
	{settingLogLevel, false, func(c *config.Config) string { return c.Khelpd.LogLevel }},
	{settingAccess, false, accessText},
	{settingAutounload, false, func(c *config.Config) string {
		a := c.Autounload
		return fmt.Sprintf("after %v, memory_floor %v, under_pressure %q", a.After, a.MemoryFloor, a.UnderPressure)
	}},
	{"control_socket", true, func(c *config.Config) string { return c.Khelpd.ControlSocket }},
	{settingHelperPath, false, func(c *config.Config) string { return fmt.Sprintf("%q", c.Khelpd.HelperPath) }},
	{"log_format", true, func(c *config.Config) string { return c.Khelpd.LogFormat }},
	{settingAutoload, false, func(c *config.Config) string {
		return fmt.Sprintf("path %t, names %q", c.Khelpd.Autoload.Path, c.Khelpd.Autoload.Names)
	}},
}

func accessText(c *config.Config) string {
	if c.Access == nil {
		return "none"
	}
	rules := make([]string, len(c.Access.Rules))
	for i, r := range c.Access.Rules {
		rules[i] = fmt.Sprintf("%v to users %v and groups %v", r.Privileges, r.UIDs, r.GIDs)
	}
	return strings.Join(rules, "; ")
}

// partsOf returns what a configuration says beside helpers, to be sent to a daemon that is to say what it would change.
func partsOf(cfg *config.Config) []control.Part {
	var parts []control.Part
	for i := range cfg.TCP {
		b := &cfg.TCP[i]
		parts = append(parts, control.Part{Kind: kindTCP, Name: b.Name, Attributes: map[string]any{
			"listen": b.Listen, "upstream": b.Upstream, "vnet": b.Vnet, "async": b.Async,
		}})
	}
	for _, s := range settings {
		parts = append(parts, control.Part{Kind: kindSetting, Name: s.name, Attributes: map[string]any{"value": s.of(cfg)}})
	}
	return parts
}

// partsIn is the inverse of partsOf: the tcp blocks and the settings by name. A part that partsOf does not make is ErrInvalid.
func partsIn(parts []control.Part) ([]config.TCP, map[string]string, error) {
	var blocks []config.TCP
	values := map[string]string{}
	for _, p := range parts {
		ok := false
		switch p.Kind {
		case kindTCP:
			b := config.TCP{Name: p.Name}
			ok = attribute(p, "listen", &b.Listen) && attribute(p, "upstream", &b.Upstream) && attribute(p, "vnet", &b.Vnet) &&
				attribute(p, "async", &b.Async)
			blocks = append(blocks, b)
		case kindSetting:
			var value string
			ok = attribute(p, "value", &value) && slices.ContainsFunc(settings, func(s setting) bool { return s.name == p.Name })
			values[p.Name] = value
		}
		if !ok {
			return nil, nil, shared.ErrInvalid.Errorf("this daemon does not know what %s %q is: is it of the same version?", p.Kind, p.Name)
		}
	}
	return blocks, values, nil
}

func attribute[T any](p control.Part, name string, to *T) (ok bool) {
	*to, ok = p.Attributes[name].(T)
	return ok
}

// settingChanges compares settings with those in force. One that is not among these, because it could not be brought in line, has changed
// whatever it is to be. What stays as it is until the daemon is started again is a warning.
func settingChanges(inForce, next map[string]string) (changes []control.PartChange, warnings []string) {
	for _, s := range settings {
		value, said := next[s.name]
		was, known := inForce[s.name]
		switch {
		case !said || known && value == was:
		case s.fixed:
			warnings = append(warnings, s.name+" has changed, which needs a restart of the daemon")
		default:
			changes = append(changes, control.PartChange{Kind: kindSetting, Name: s.name, Action: "update", Reason: s.name + " has changed"})
		}
	}
	return changes, warnings
}

// settingsOf returns the settings of a configuration by name.
func settingsOf(cfg *config.Config) map[string]string {
	values := make(map[string]string, len(settings))
	for _, s := range settings {
		values[s.name] = s.of(cfg)
	}
	return values
}

// sameBlock compares tcp blocks in all but where they stand.
func sameBlock(a, b config.TCP) bool { return tcpDifference(a, b) == "" }

// tcpDifference says what is different in two tcp blocks of one name.
func tcpDifference(was, is config.TCP) string {
	var parts []string
	for _, f := range []struct {
		name    string
		was, is any
	}{
		{"listen", was.Listen, is.Listen}, {"upstream", was.Upstream, is.Upstream}, {"vnet", was.Vnet, is.Vnet}, {"async", was.Async, is.Async},
	} {
		if !reflect.DeepEqual(f.was, f.is) {
			parts = append(parts, fmt.Sprintf("%s is %v, was %v", f.name, f.is, f.was))
		}
	}
	return strings.Join(parts, ", ")
}

// tcpChanges compares tcp blocks with those that are there: what goes comes first.
func tcpChanges(now, next []config.TCP) []control.PartChange {
	var changes []control.PartChange
	named := func(list []config.TCP, name string) int {
		return slices.IndexFunc(list, func(b config.TCP) bool { return b.Name == name })
	}
	for _, b := range now {
		if named(next, b.Name) < 0 {
			reason := "it is not configured any more"
			changes = append(changes, control.PartChange{Kind: kindTCP, Name: b.Name, Action: "remove", Reason: reason})
		}
	}
	for _, b := range next {
		if i := named(now, b.Name); i < 0 {
			changes = append(changes, control.PartChange{Kind: kindTCP, Name: b.Name, Action: "add", Reason: "it is new"})
		} else if diff := tcpDifference(now[i], b); diff != "" {
			changes = append(changes, control.PartChange{Kind: kindTCP, Name: b.Name, Action: "replace", Reason: diff})
		}
	}
	return changes
}
