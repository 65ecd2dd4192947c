package host_test

import (
	"context"
	"reflect"
	"testing"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/helper"
)

// tuning are the properties of a helper, of each type.
type tuning struct {
	Path   string `khelp:"path,required" doc:"where it writes"`
	Debug  bool
	Rounds int64
	Weight float64
	Peers  []string
}

// putTuned puts a helper on the path whose Init sends the properties that it has got.
func (f *fixture) putTuned() <-chan tuning {
	got := make(chan tuning, 10)
	config := &tuning{Rounds: 5, Weight: 0.5, Peers: []string{"a"}}
	hosttest.Put(f.path, plain{Name: "tuned", Version: "1.0.0", Config: config, Init: func(context.Context, *helper.Host) error {
		got <- *config
		*config = tuning{Rounds: 5, Weight: 0.5, Peers: []string{"a"}} // what it holds when it is served next are the defaults
		return nil
	}})
	return got
}

func TestL11_Properties(t *testing.T) {
	for _, c := range []struct {
		name         string
		config, over map[string]any
		want         tuning
		refused      string
	}{
		{
			name: "defaults", config: map[string]any{"path": "/x"},
			want: tuning{Path: "/x", Rounds: 5, Weight: 0.5, Peers: []string{"a"}},
		},
		{
			name:   "every type",
			config: map[string]any{"path": "/x", "debug": true, "rounds": int64(7), "weight": 2.5, "peers": []any{"b", "c"}},
			want:   tuning{Path: "/x", Debug: true, Rounds: 7, Weight: 2.5, Peers: []string{"b", "c"}},
		},
		{
			name: "numbers that fit", config: map[string]any{"path": "/x", "rounds": 8.0, "weight": 3},
			want: tuning{Path: "/x", Rounds: 8, Weight: 3, Peers: []string{"a"}},
		},
		{
			name: "overridden", config: map[string]any{"path": "/x", "rounds": int64(7), "weight": 2.5}, over: map[string]any{"path": "/y", "rounds": 9},
			want: tuning{Path: "/y", Rounds: 9, Weight: 2.5, Peers: []string{"a"}},
		},
		{name: "a required one only at load time", over: map[string]any{"path": "/y"}, want: tuning{Path: "/y", Rounds: 5, Weight: 0.5, Peers: []string{"a"}}},
		{name: "required", refused: `property "path": is required`},
		{name: "unknown", config: map[string]any{"path": "/x", "round": 3}, refused: `property "round": is unknown; did you mean "rounds"?`},
		{name: "unknown at load time", config: map[string]any{"path": "/x"}, over: map[string]any{"rate": 3}, refused: `property "rate": is unknown`},
		{name: "another type", config: map[string]any{"path": 3}, refused: `property "path"`},
		{name: "another type at load time", config: map[string]any{"path": "/x"}, over: map[string]any{"debug": "yes"}, refused: `property "debug"`},
		{name: "half an int", config: map[string]any{"path": "/x", "rounds": 0.5}, refused: `property "rounds"`},
		{name: "a list of others", config: map[string]any{"path": "/x", "peers": []any{1}}, refused: `property "peers"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t, host.Config{})
			got := f.putTuned()
			spec := shared.HelperSpec{Name: "tuned", Config: c.config}
			err := f.Load(context.Background(), spec, host.LoadOptions{Properties: c.over})
			if c.refused != "" {
				wantErr(t, err, shared.ErrInvalid, c.refused)
				f.want("")
				if len(got) > 0 {
					t.Errorf("Init was asked, with %+v", <-got)
				}
				return
			}
			f.must(err)
			if p := <-got; !reflect.DeepEqual(p, c.want) {
				t.Errorf("Init got %+v, want %+v", p, c.want)
			}
		})
	}
}

// What was said at load time holds for the helper, not for the process; and properties are for who is loaded, not for whom it requires.
func TestL11_OverridesStay(t *testing.T) {
	f := newFixture(t, host.Config{})
	got := f.putTuned()
	spec := shared.HelperSpec{Name: "tuned", Config: map[string]any{"path": "/x", "weight": 1.0}}
	over := host.LoadOptions{Properties: map[string]any{"path": "/y"}}
	want := tuning{Path: "/y", Rounds: 5, Weight: 1, Peers: []string{"a"}}
	f.must(f.Load(context.Background(), spec, over))
	for range 2 {
		if p := <-got; !reflect.DeepEqual(p, want) {
			t.Errorf("Init got %+v, want %+v", p, want)
		}
		f.must(f.Restart(context.Background(), "tuned"))
	}
	<-got
	f.must(f.unload("tuned"))
	f.must(f.Load(context.Background(), spec, host.LoadOptions{}))
	if p := <-got; p.Path != "/x" {
		t.Errorf("path %q, which was said of a load before", p.Path)
	}
}

// A primed helper gets what is said when it is claimed.
func TestL11_OfAPrimedHelper(t *testing.T) {
	f := newFixture(t, host.Config{})
	got := f.putTuned()
	spec := shared.HelperSpec{Name: "tuned", Config: map[string]any{"weight": 1.0}}
	if failed := f.Prime(context.Background(), []shared.HelperSpec{spec}); len(failed) > 0 {
		t.Fatal(failed[0])
	}
	f.must(f.Load(context.Background(), spec, host.LoadOptions{Properties: map[string]any{"path": "/y"}}))
	if p := <-got; p.Path != "/y" || p.Weight != 1 {
		t.Errorf("Init got %+v", p)
	}
	if n := f.path.Starts("tuned"); n != 1 {
		t.Errorf("started %d times", n)
	}
}

// A builtin's properties are held against its schema too.
func TestL11_OfABuiltin(t *testing.T) {
	f := newFixture(t, host.Config{})
	got := map[string]any{}
	f.must(f.OfferBuiltin(host.Builtin{
		Name: "clock", Version: "1.0.0",
		Properties: []shared.Property{{Name: "rate", Type: shared.PropertyInt, Required: true}, {Name: "unit", Type: shared.PropertyString, Default: "ms"}},
		Init:       func(_ context.Context, p map[string]any) error { got = p; return nil },
	}))
	wantErr(t, f.load("clock"), shared.ErrInvalid, `property "rate": is required`)
	f.want("")
	over := host.LoadOptions{Properties: map[string]any{"rate": 3}}
	f.must(f.Load(context.Background(), shared.HelperSpec{Name: "clock"}, over))
	if !reflect.DeepEqual(got, map[string]any{"rate": int64(3), "unit": "ms"}) {
		t.Errorf("Init got %v", got)
	}
}
