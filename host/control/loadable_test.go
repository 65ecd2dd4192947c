package control

import (
	"context"
	"slices"
	"testing"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/shared"
)

func TestLoadable(t *testing.T) {
	stat := func(context.Context, string) (host.Stat, error) {
		return host.Stat{Helpers: []host.HelperStat{{Name: "here"}, {Name: "by_path"}}}, nil
	}
	configured := []string{"late", "here", "early"}
	path, _ := serve(t, &fakeHost{stat: stat}, Options{Configured: func() []string { return configured }})
	got, err := dial(t, path).Loadable(t.Context())
	if want := []string{"late", "early"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	if !slices.Equal(configured, []string{"late", "here", "early"}) {
		t.Errorf("the server changed what it was given: %q", configured)
	}
}

func TestLoadableWithoutConfigurationOrHost(t *testing.T) {
	path, _ := serve(t, &fakeHost{stat: func(context.Context, string) (host.Stat, error) { return host.Stat{}, nil }}, Options{})
	if got, err := dial(t, path).Loadable(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("got %q, %v", got, err)
	}
	path, _ = serve(t, &fakeHost{stat: func(context.Context, string) (host.Stat, error) { return host.Stat{}, shared.ErrBusy }}, Options{})
	_, err := dial(t, path).Loadable(t.Context())
	wantIs(t, err, shared.ErrBusy)
}
