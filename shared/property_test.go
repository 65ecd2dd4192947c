package shared_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/khelp/khelp/shared"
)

var properties = []shared.Property{
	{Name: "label", Type: shared.PropertyString, Default: "none"},
	{Name: "verbose", Type: shared.PropertyBool},
	{Name: "smoothing", Type: shared.PropertyInt, Default: 5},
	{Name: "factor", Type: shared.PropertyFloat, Default: 2},
	{Name: "ports", Type: shared.PropertyList},
}

func TestCheckPropertiesConverts(t *testing.T) {
	for _, tc := range []struct {
		name   string
		values map[string]any
		want   map[string]any
	}{
		{"defaults alone", nil, map[string]any{"label": "none", "smoothing": int64(5), "factor": float64(2)}},
		{"all given",
			map[string]any{"label": "x", "verbose": true, "smoothing": int64(7), "factor": 0.5, "ports": []any{"80", "443"}},
			map[string]any{"label": "x", "verbose": true, "smoothing": int64(7), "factor": 0.5, "ports": []any{"80", "443"}}},
		{"whole numbers either way",
			map[string]any{"smoothing": 3.0, "factor": int64(4)},
			map[string]any{"label": "none", "smoothing": int64(3), "factor": float64(4)}},
		{"plain ints",
			map[string]any{"smoothing": -3, "factor": -4, "ports": []any{}},
			map[string]any{"label": "none", "smoothing": int64(-3), "factor": float64(-4), "ports": []any{}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := shared.CheckProperties(properties, tc.values)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCheckPropertiesRefusesOtherTypes(t *testing.T) {
	values := map[string]any{
		"string": "5", "bool": true, "int": int64(5), "float": 5.5, "list": []any{"5"},
		"nil": nil, "int32": int32(5), "strings": []string{"5"}, "mixed": []any{"5", int64(5)}, "nan": math.NaN(),
		"inf": math.Inf(1), "huge": 1e300, "map": map[string]any{},
	}
	good := map[string]string{
		"label": "string", "verbose": "bool", "smoothing": "int", "factor": "int float nan inf huge", "ports": "list",
	}
	for _, p := range properties {
		for kind, v := range values {
			_, err := shared.CheckProperties(properties, map[string]any{p.Name: v})
			if strings.Contains(" "+good[p.Name]+" ", " "+kind+" ") {
				if err != nil {
					t.Errorf("%s = %v: %v", p.Name, v, err)
				}
				continue
			}
			var bad *shared.PropertyError
			if !errors.As(err, &bad) || bad.Name != p.Name || !errors.Is(err, shared.ErrInvalid) {
				t.Errorf("%s = %v (%s): %v, want a PropertyError", p.Name, v, kind, err)
			}
		}
	}
	_, err := shared.CheckProperties(properties, map[string]any{"ports": []any{"80", int64(443)}})
	if err == nil || !strings.Contains(err.Error(), "element 1 is int") {
		t.Errorf("a mixed list: %v", err)
	}
}

func TestCheckPropertiesSaysAllThatIsWrong(t *testing.T) {
	schema := append([]shared.Property{{Name: "window", Type: shared.PropertyInt, Required: true, Default: 1}}, properties...)
	_, err := shared.CheckProperties(schema, map[string]any{"smoothin": 5, "verbose": "yes", "zzzzzzzzzzzz": 1})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		`property "window": is required (int)`,
		`property "verbose": must be of type bool, not string`,
		`property "smoothin": is unknown; did you mean "smoothing"?`,
		`property "zzzzzzzzzzzz": is unknown`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in:\n%v", want, err)
		}
	}
	if got := strings.Count(err.Error(), "\n") + 1; got != 4 {
		t.Errorf("%d errors, want 4:\n%v", got, err)
	}
	if strings.Contains(err.Error(), `zzz"; did`) {
		t.Errorf("a suggestion for what is near nothing:\n%v", err)
	}
	_, err = shared.CheckProperties([]shared.Property{{Name: "n", Type: shared.PropertyInt, Default: "five"}}, nil)
	if !errors.Is(err, shared.ErrInvalid) || !strings.Contains(err.Error(), "default must be of type int") {
		t.Errorf("a default of another type: %v", err)
	}
}

// What narrows a type is checked with it, in defaults too.
func TestCheckPropertiesNarrows(t *testing.T) {
	low, high := int64(1), int64(9)
	schema := []shared.Property{
		{Name: "both", Type: shared.PropertyInt, Minimum: &low, Maximum: &high}, {Name: "low", Type: shared.PropertyInt, Minimum: &low},
		{Name: "high", Type: shared.PropertyInt, Maximum: &high}, {Name: "every", Type: shared.PropertyString, Format: shared.FormatDuration},
		{Name: "colour", Type: shared.PropertyString, Format: "from the future"},
	}
	good := map[string]any{"both": 1, "low": int64(1), "high": 9.0, "every": "1m30s", "colour": "red"}
	if _, err := shared.CheckProperties(schema, good); err != nil {
		t.Error(err)
	}
	_, err := shared.CheckProperties(schema, map[string]any{"both": 10, "low": 0, "high": 10, "every": "soon"})
	for _, want := range []string{
		`property "both": must be from 1 to 9, not 10`, `property "low": must be at least 1, not 0`,
		`property "high": must be at most 9, not 10`, `property "every": "soon" is no duration such as 200ms`,
	} {
		if err == nil || !errors.Is(err, shared.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	schema[0].Default = 10
	if _, err := shared.CheckProperties(schema[:1], nil); err == nil || !strings.Contains(err.Error(), "default must be from 1 to 9") {
		t.Errorf("a default out of bounds: %v", err)
	}
}

func TestNamePropertiesKeepsTextAndSentinel(t *testing.T) {
	if err := shared.NameProperties(nil, nil); err != nil {
		t.Errorf("no error is %v", err)
	}
	bad := &shared.PropertyError{Name: "x", Err: shared.ErrInvalid.Errorf("is odd")}
	err := shared.NameProperties(shared.ErrExist.Errorf("twice"), []*shared.PropertyError{bad})
	if found := shared.PropertyErrors(err); err.Error() != "twice" || !errors.Is(err, shared.ErrExist) || len(found) != 1 || found[0] != bad {
		t.Errorf("%v, %v", err, found)
	}
}
