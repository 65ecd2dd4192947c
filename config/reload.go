package config

import "github.com/hashicorp/hcl/v2"

// Unreloadable returns a warning for each part of the khelpd block that is different in next and that a running daemon cannot take over:
// it goes on as it is until it is started anew. Helpers and tcp blocks are not looked at, nor is what a daemon can change: log_level,
// autoload, access and autounload. Both configurations must be without errors.
func Unreloadable(running, next *Config) hcl.Diagnostics {
	var diags hcl.Diagnostics
	for _, part := range []struct {
		name     string
		old, new string
		at       *hcl.Range
	}{
		{"control_socket", running.Khelpd.ControlSocket, next.Khelpd.ControlSocket, next.Khelpd.controlSocket},
		{"log_format", running.Khelpd.LogFormat, next.Khelpd.LogFormat, next.Khelpd.logFormat},
	} {
		if part.old == part.new {
			continue
		}
		d := warning(hcl.Range{}, "Not applied by a reload", "%s is %q now and was %q; khelpd goes on with the old one until it is restarted.",
			part.name, part.new, part.old)
		switch {
		case part.at != nil:
			d.Subject = part.at
		case next.Khelpd.Range.Filename != "": // the block says nothing any more
			d.Subject = &next.Khelpd.Range
		default:
			d.Subject = nil
		}
		diags = append(diags, d)
	}
	return diags
}

// Equal reports whether two blocks say the same, wherever they stand.
func (t *TCP) Equal(o *TCP) bool {
	return t.Name == o.Name && t.Listen == o.Listen && t.Upstream == o.Upstream && t.Vnet == o.Vnet && t.Async == o.Async
}
