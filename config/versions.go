package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/go-version"
)

// constraints has what texts of version constraints mean: files repeat the same few.
type constraints map[string]version.Constraints

// parse reads a constraint.
func (c constraints) parse(text string) (version.Constraints, error) {
	if parsed, seen := c[text]; seen {
		return parsed, nil
	}
	parsed, err := version.NewConstraint(text)
	if err != nil {
		return nil, fmt.Errorf("%q is no version constraint, such as \"~> 1.2\", \">= 1.0, < 2.0\" or \"1.4.1\"", text)
	}
	c[text] = parsed
	return parsed, nil
}

// check returns an error for a text that is no constraint, and for a constraint that nothing meets.
func (c constraints) check(text string) error {
	if _, seen := c[text]; seen {
		return nil
	}
	parsed, err := c.parse(text)
	if err == nil && !satisfiable(parsed) {
		delete(c, text)
		return fmt.Errorf("no version meets %q", text)
	}
	return err
}

// satisfiable reports whether there is a version that meets all constraints. Each of them is a range of versions, so if any version
// meets all, one does that stands in a constraint, or right behind such a one, or the lowest there is.
func satisfiable(all version.Constraints) bool {
	bounds := []*version.Version{version.Must(version.NewVersion("0"))}
	width := 0
	for _, c := range all {
		v, err := version.NewVersion(strings.TrimLeft(c.String(), "<>=!~ "))
		if err != nil {
			return true // the parser knows a form that is not known here
		}
		bounds = append(bounds, v)
		width = max(width, len(v.Segments64()))
	}
	// The highest first, and the constraint that was not met last: with hundreds of constraints a few tries tell.
	slices.SortFunc(bounds, func(a, b *version.Version) int { return b.Compare(a) })
	rest := slices.Clone(all)
	for _, b := range bounds {
		for _, text := range around(b, width) {
			v, err := version.NewVersion(text)
			if err != nil {
				continue
			}
			unmet := slices.IndexFunc(rest, func(c *version.Constraint) bool { return !c.Check(v) })
			if unmet < 0 {
				return true
			}
			rest[0], rest[unmet] = rest[unmet], rest[0]
		}
	}
	return false
}

// around returns a version, written with so many numbers at least, what comes right behind it and, where it counts, the lowest of its
// prereleases.
func around(v *version.Version, width int) []string {
	var numbers []string
	for _, n := range v.Segments64() {
		numbers = append(numbers, strconv.FormatInt(n, 10))
	}
	for len(numbers) < width {
		numbers = append(numbers, "0")
	}
	base := strings.Join(numbers, ".")
	out := []string{base, base + ".1", base + "-0"}
	if pre := v.Prerelease(); pre != "" {
		out = append(out, base+"-"+pre, base+"-"+pre+".0")
	}
	return out
}
