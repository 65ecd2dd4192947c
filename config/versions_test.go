package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/go-version"
	"pgregory.net/rapid"
)

func TestSatisfiable(t *testing.T) {
	for text, want := range map[string]bool{
		"1.0": true, "~> 1.2": true, ">= 1.0, < 2.0": true, "> 1.0, < 1.0.0.1": true, ">= 1.0, <= 1.0": true, "< 0.1": true, "!= 1.0": true,
		">= 2.0, < 1.0": false, "> 1.0, < 1.0": false, "1.0, != 1.0": false, "~> 1.2, >= 2": false, "1.0, 1.1": false, "< 0": false,
		"~> 1.2, ~> 1.4": true, "~> 1.2.3, >= 1.2.0.0, != 1.2.3": true,
		">= 1.0.0-beta1": true, "> 1.0.0-beta1, < 1.0.0-beta2": true, "1.0.0-beta1, ~> 2.0": false,
	} {
		parsed, err := version.NewConstraint(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := satisfiable(parsed); got != want {
			t.Errorf("%q: %t, want %t", text, got, want)
		}
	}
}

// TestSatisfiableModel: if any of many versions meets some constraints, they are satisfiable.
func TestSatisfiableModel(t *testing.T) {
	var versions []*version.Version
	for i := range 4 * 4 * 4 {
		for _, rest := range []string{"", ".1", "-alpha", "-beta.2"} {
			versions = append(versions, version.Must(version.NewVersion(fmt.Sprintf("%d.%d.%d%s", i/16, i/4%4, i%4, rest))))
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		var parts []string
		for range rapid.IntRange(1, 4).Draw(t, "parts") {
			op := rapid.SampledFrom([]string{"", "=", "!=", ">", "<", ">=", "<=", "~>"}).Draw(t, "op")
			text := strings.Repeat(fmt.Sprintf("%d.", rapid.IntRange(0, 3).Draw(t, "n")), rapid.IntRange(1, 3).Draw(t, "width"))
			parts = append(parts, op+" "+strings.TrimSuffix(text, ".")+rapid.SampledFrom([]string{"", "", "", "-alpha", "-b"}).Draw(t, "pre"))
		}
		all, err := version.NewConstraint(strings.Join(parts, ", "))
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range versions {
			if all.Check(v) && !satisfiable(all) {
				t.Fatalf("%s meets %s, which is called unsatisfiable", v, all)
			}
		}
	})
}
