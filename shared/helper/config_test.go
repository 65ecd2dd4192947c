package helper

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/khelp/khelp/shared"
)

type settings struct {
	Upstream  string `khelp:",required" doc:"where to"`
	Smoothing int    `khelp:"smooth" doc:"how much"`
	Small     uint8
	Ratio     float64
	Verbose   bool
	Every     time.Duration
	Names     []string
	Net       netip.Prefix
	Skipped   chan int `khelp:"-"`
	hidden    int
}

func TestL11_PropertiesAreDerivedFromConfig(t *testing.T) {
	c, err := newConfigSchema(&settings{
		Smoothing: 5, Ratio: 0.5, Every: time.Minute, Names: []string{"a"}, Net: netip.MustParsePrefix("10.0.0.0/8"),
	})
	if err != nil {
		t.Fatal(err)
	}
	zero, most := int64(0), int64(255)
	want := []shared.Property{
		{Name: "upstream", Type: shared.PropertyString, Required: true, Doc: "where to"},
		{Name: "smooth", Type: shared.PropertyInt, Default: int64(5), Doc: "how much"},
		{Name: "small", Type: shared.PropertyInt, Minimum: &zero, Maximum: &most},
		{Name: "ratio", Type: shared.PropertyFloat, Default: 0.5},
		{Name: "verbose", Type: shared.PropertyBool},
		{Name: "every", Type: shared.PropertyString, Default: "1m0s", Format: shared.FormatDuration},
		{Name: "names", Type: shared.PropertyList, Default: []any{"a"}},
		{Name: "net", Type: shared.PropertyString, Default: "10.0.0.0/8"},
	}
	if diff := cmp.Diff(want, c.properties); diff != "" {
		t.Error(diff)
	}
}

// Bounds are those of the type, and none where they are int64's own.
func TestL11_BoundsOfIntegers(t *testing.T) {
	c, err := newConfigSchema(&struct {
		I   int
		I8  int8
		I32 int32
		I64 int64
		U   uint
		U32 uint32
		U64 uint64
	}{})
	if err != nil {
		t.Fatal(err)
	}
	show := func(n *int64) string {
		if n == nil {
			return "-"
		}
		return strconv.FormatInt(*n, 10)
	}
	var got []string
	for _, p := range c.properties {
		got = append(got, p.Name+" "+show(p.Minimum)+" "+show(p.Maximum))
	}
	want := []string{"i - -", "i8 -128 127", "i32 -2147483648 2147483647", "i64 - -", "u 0 -", "u32 0 4294967295", "u64 0 -"}
	if strconv.IntSize == 32 {
		want[0], want[4] = "i -2147483648 2147483647", "u 0 4294967295"
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestL11_ConfigIsDecoded(t *testing.T) {
	s := settings{Smoothing: 5, Ratio: 0.5, hidden: 1}
	c, err := newConfigSchema(&s)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.decode(map[string]any{
		"upstream": "here", "small": int64(255), "verbose": true, "every": "2s", "names": []any{"x", "y"}, "net": "::/0", "ratio": int64(2),
	}); err != nil {
		t.Fatal(err)
	}
	want := settings{
		Upstream: "here", Smoothing: 5, Small: 255, Ratio: 2, Verbose: true, Every: 2 * time.Second,
		Names: []string{"x", "y"}, Net: netip.MustParsePrefix("::/0"), hidden: 1,
	}
	compare := []cmp.Option{cmp.AllowUnexported(settings{}), cmpopts.EquateComparable(netip.Prefix{})}
	if diff := cmp.Diff(want, s, compare...); diff != "" {
		t.Error(diff)
	}

	// A second decode starts from the defaults, and a bad one leaves them.
	if err := c.decode(map[string]any{"upstream": "there", "small": int64(256), "every": "soon", "net": "x", "nmaes": []any{}}); err == nil {
		t.Error("bad values were taken")
	}
	if diff := cmp.Diff(settings{Smoothing: 5, Ratio: 0.5, hidden: 1}, s, compare...); diff != "" {
		t.Error(diff)
	}
}

func TestL11_BadValuesNameTheirProperty(t *testing.T) {
	for name, test := range map[string]struct {
		values map[string]any
		want   string
	}{
		"missing":  {map[string]any{}, `property "upstream": is required`},
		"unknown":  {map[string]any{"upstream": "x", "smoth": int64(1)}, `did you mean "smooth"?`},
		"type":     {map[string]any{"upstream": true}, "must be of type string, not bool"},
		"overflow": {map[string]any{"upstream": "x", "small": int64(-1)}, `property "small": must be from 0 to 255, not -1`},
		"duration": {map[string]any{"upstream": "x", "every": "soon"}, `property "every": "soon" is no duration such as 200ms`},
		"text":     {map[string]any{"upstream": "x", "net": "x"}, `property "net"`},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := newConfigSchema(&settings{})
			if err != nil {
				t.Fatal(err)
			}
			err = c.decode(test.values)
			var property *shared.PropertyError
			if !errors.As(err, &property) || !errors.Is(err, shared.ErrInvalid) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want a PropertyError with %q", err, test.want)
			}
		})
	}
	var none *configSchema
	if err := none.decode(map[string]any{"x": "y"}); !errors.Is(err, shared.ErrInvalid) {
		t.Errorf("a property for a helper without any: %v", err)
	}
}

func TestConfigContradictions(t *testing.T) {
	for want, config := range map[string]any{
		"required and has the default 5": &struct {
			N int `khelp:",required"`
		}{5},
		"properties are strings": &struct{ M map[string]string }{},
		"unknown option \"optional\"": &struct {
			N int `khelp:",optional"`
		}{},
		"are both the property \"a\"": &struct {
			A int
			B int `khelp:"a"`
		}{},
		"is not exported": &struct {
			a int `khelp:"a"`
		}{},
		"must match": &struct {
			N int `khelp:"Bad Name"`
		}{},
		"pointer to a struct": "text",
	} {
		if _, err := newConfigSchema(config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
