package config

import (
	"fmt"
	"reflect"
	"testing"
)

func TestUnreloadable(t *testing.T) {
	const old = "khelpd {\n  control_socket = \"/run/a.sock\"\n  log_format     = \"json\"\n  log_level      = \"info\"\n}\n"
	for _, tc := range []struct {
		name, next string
		want       []string // "line: detail"
	}{
		{"nothing", old, nil},
		{"elsewhere, and what can be applied", "\n\n" + old[:len(old)-2] +
			"  helper_path = [\"/opt\"]\n  autoload = \"path\"\n}\nhelper \"a\" {\n}\n", nil},
		{"other values", "khelpd {\n  log_format     = \"text\"\n  control_socket = \"/run/b.sock\"\n}\n", []string{
			`3: control_socket is "/run/b.sock" now and was "/run/a.sock"; khelpd goes on with the old one until it is restarted.`,
			`2: log_format is "text" now and was "json"; khelpd goes on with the old one until it is restarted.`,
		}},
		{"no values", "\nkhelpd {\n}\n", []string{
			`2: control_socket is "/run/khelpd/khelpd.sock" now and was "/run/a.sock"; khelpd goes on with the old one until it is restarted.`,
			`2: log_format is "text" now and was "json"; khelpd goes on with the old one until it is restarted.`,
		}},
		{"no block", "", []string{
			`0: control_socket is "/run/khelpd/khelpd.sock" now and was "/run/a.sock"; khelpd goes on with the old one until it is restarted.`,
			`0: log_format is "text" now and was "json"; khelpd goes on with the old one until it is restarted.`,
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			next := parsed(t, "khelpd.hcl", tc.next)
			diags := Unreloadable(parsed(t, "khelpd.hcl", old), next)
			checkRanges(t, next, diags)
			var got []string
			for _, d := range diags {
				line := 0
				if d.Subject != nil {
					line = d.Subject.Start.Line
				}
				got = append(got, fmt.Sprintf("%d: %s", line, d.Detail))
			}
			if diags.HasErrors() || !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got %q, want warnings %q", got, tc.want)
			}
		})
	}
}

// TestTCPEqual changes each exported field in turn, so that a new one cannot be forgotten.
func TestTCPEqual(t *testing.T) {
	const text = "tcp \"web\" {\n  listen   = \"127.0.0.1:80\"\n  upstream = \"127.0.0.1:81\"\n  async    = false\n}\n"
	a := parsed(t, "a.hcl", text).TCP[0]
	b := parsed(t, "b.hcl", "\n"+text).TCP[0]
	if !a.Equal(&b) {
		t.Error("the same block at another place is another one")
	}
	for i := range reflect.TypeFor[TCP]().NumField() {
		field := reflect.TypeFor[TCP]().Field(i)
		if !field.IsExported() || field.Name == "Range" {
			continue
		}
		c := a
		switch v := reflect.ValueOf(&c).Elem().Field(i); v.Kind() {
		case reflect.String:
			v.SetString("other")
		case reflect.Bool:
			v.SetBool(!v.Bool())
		default:
			t.Fatalf("%s is a %s", field.Name, v.Kind())
		}
		if a.Equal(&c) {
			t.Errorf("blocks with another %s are equal", field.Name)
		}
	}
}
