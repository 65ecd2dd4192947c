package control

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/control/controlv1"
	"github.com/khelp/khelp/host/hosttest/testkit"
	"github.com/khelp/khelp/shared"
)

// fill sets every field of a value to something that is not zero, so that a field the conversion forgets is found.
func fill(v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.String:
		v.SetString("s" + strings.Repeat("x", *n%7))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n % 256))
	case reflect.Float64:
		v.SetFloat(float64(*n) / 4)
	case reflect.Interface:
		if v.NumMethod() == 0 {
			v.Set(reflect.ValueOf([]any{"a", true, int64(-1), uint64(1 << 63), 0.5}))
		} // an error has to be one of ours
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(v.Index(i), n)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, n)
		fill(value, n)
		v.SetMapIndex(key, value)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(1700000000, int64(*n)).UTC()))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	default:
		panic("fill: " + v.Type().String())
	}
}

func filled[T any]() T {
	var v T
	n := 0
	fill(reflect.ValueOf(&v).Elem(), &n)
	return v
}

func TestEveryFieldCrosses(t *testing.T) {
	stat, heads, objects := filled[host.Stat](), filled[[]host.HeadStat](), filled[[]host.ObjectStat]()
	path, _ := serve(t, &fakeHost{
		stat:    func(context.Context, string) (host.Stat, error) { return stat, nil },
		hooks:   heads,
		objects: func(host.ObjectFilter) ([]host.ObjectStat, error) { return objects, nil },
	}, Options{Version: filled[Version]()})
	c := dial(t, path)

	gotStat, err := c.Stat(t.Context(), "")
	check(t, err, stat, gotStat)
	gotHeads, err := c.Hooks(t.Context())
	check(t, err, heads, gotHeads)
	gotObjects, err := c.Objects(t.Context(), host.ObjectFilter{})
	check(t, err, objects, gotObjects)
	gotVersion, err := c.Version(t.Context())
	check(t, err, filled[Version](), gotVersion)
}

func check[T any](t *testing.T, err error, want, got T) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%T did not arrive as it was (-sent +got):\n%s", want, diff)
	}
}

func TestObjectsBeyondOneMessage(t *testing.T) {
	const n = 3*objectBatch + 1
	path, _ := serve(t, &fakeHost{objects: func(f host.ObjectFilter) ([]host.ObjectStat, error) {
		if f.Helper != "ertt" {
			return nil, shared.ErrNotExist.Errorf("filter is %q", f.Helper)
		}
		out := make([]host.ObjectStat, n)
		for i := range out {
			out[i].ID = uint64(i + 1)
		}
		return out, nil
	}}, Options{})
	got, err := dial(t, path).Objects(t.Context(), host.ObjectFilter{Helper: "ertt"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range got {
		if got[i].ID != uint64(i+1) {
			t.Fatalf("object %d has id %d", i, got[i].ID)
		}
	}
	if len(got) != n {
		t.Errorf("got %d objects, want %d", len(got), n)
	}
}

// loadBy is Load for who does not ask for the name.
func loadBy(ctx context.Context, c *Client, req LoadRequest) error {
	_, err := c.Load(ctx, req)
	return err
}

func TestLoadCarriesTheRequest(t *testing.T) {
	configured := shared.HelperSpec{Name: "ertt", Command: []string{"/opt/ertt", "-x"}, Timeout: time.Second, Load: shared.LoadBoot}
	h := &fakeHost{}
	path, _ := serve(t, h, Options{Spec: func(name string) (shared.HelperSpec, bool) { return configured, name == "ertt" }})
	c := dial(t, path)
	opts := host.LoadOptions{
		Force: true, Classes: []shared.Class{"tcp", "socket"},
		Properties: map[string]any{"a": "x", "b": true, "c": int64(-5), "d": 1.5, "e": []any{"p", "q"}},
	}
	req := LoadRequest{Classes: opts.Classes, Force: true, Properties: opts.Properties}
	for _, name := range []string{"ertt", "vegas", "/usr/libexec/khelp/../acl"} {
		req.Name = name
		if got, err := c.Load(t.Context(), req); err != nil || got != "itself" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	byHand := configured
	byHand.Load = shared.LoadManual
	wantSpecs := []shared.HelperSpec{byHand, {Name: "vegas"}, {Command: []string{"/usr/libexec/acl"}}}
	if diff := cmp.Diff(wantSpecs, h.specs); diff != "" {
		t.Errorf("specs (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]host.LoadOptions{opts, opts, opts}, h.loads); diff != "" {
		t.Errorf("options (-want +got):\n%s", diff)
	}
}

// Whoever may load may not load any program: a path is asked about once more, by default of the owner.
func TestLoadByPathIsAskedAboutAgain(t *testing.T) {
	h := &fakeHost{}
	asked := 0
	path, _ := serve(t, h, Options{
		Authorize: func(context.Context, Peer, shared.Privilege) error { return nil },
		AuthorizePath: func(_ context.Context, _ Peer, p shared.Privilege) error {
			asked++
			return shared.ErrPermission.Errorf("no %s", p)
		},
	})
	c := dial(t, path)
	if err := loadBy(t.Context(), c, LoadRequest{Name: "ertt"}); err != nil || asked != 0 {
		t.Errorf("by name: %v, asked %d times", err, asked)
	}
	err := loadBy(t.Context(), c, LoadRequest{Name: "/bin/sh"})
	wantIs(t, err, shared.ErrPermission)
	if err == nil || err.Error() != "a load by path has the daemon run any program: no load" || asked != 1 || len(h.specs) != 1 {
		t.Errorf("by path: %v, asked %d times, the host was asked for %v", err, asked, h.specs)
	}
}

func TestLoadRefusesWhatIsNoName(t *testing.T) {
	h := &fakeHost{}
	path, _ := serve(t, h, Options{})
	c := dial(t, path)
	for name, want := range map[string]error{
		"":                        shared.ErrInvalid,
		"./ertt":                  shared.ErrInvalid,
		"a@b":                     shared.ErrInvalid,
		"a.b":                     shared.ErrInvalid,
		"Ertt":                    shared.ErrInvalid,
		strings.Repeat("x", 64):   shared.ErrNameTooLong,
		"ertt\x00\x1b[2J":         shared.ErrInvalid,
		"relative/path/to/helper": shared.ErrInvalid,
	} {
		wantIs(t, loadBy(t.Context(), c, LoadRequest{Name: name}), want)
	}
	wantIs(t, loadBy(t.Context(), c, LoadRequest{Name: "ertt", Classes: []shared.Class{"T"}}), shared.ErrInvalid)
	wantIs(t, loadBy(t.Context(), c, LoadRequest{Name: "ertt", Properties: map[string]any{"x": struct{}{}}}), shared.ErrInvalid)
	if len(h.specs) != 0 {
		t.Errorf("the host was asked for %v", h.specs)
	}
}

func TestUnloadCarriesTheOptions(t *testing.T) {
	h := &fakeHost{}
	path, _ := serve(t, h, Options{})
	c := dial(t, path)
	all := []host.UnloadOptions{{}, filled[host.UnloadOptions](), {Wait: 1500 * time.Millisecond}}
	for _, opts := range all {
		if err := c.Unload(t.Context(), "ertt", opts); err != nil {
			t.Fatal(err)
		}
	}
	wantIs(t, c.Unload(t.Context(), "ertt", host.UnloadOptions{Wait: -1}), shared.ErrInvalid)
	if diff := cmp.Diff(all, h.unload); diff != "" {
		t.Errorf("options (-want +got):\n%s", diff)
	}
}

func TestErrorsCrossWithTheirSentinels(t *testing.T) {
	var answer error
	path, _ := serve(t, &fakeHost{change: func(context.Context) error { return answer }}, Options{})
	c := dial(t, path)
	for code := shared.CodeExist; code <= shared.CodeCanceled; code++ {
		answer = shared.FromCode(code, "held by 12 objects, vegas")
		err := c.Unload(t.Context(), "ertt", host.UnloadOptions{})
		if shared.CodeOf(err) != code || err.Error() != "held by 12 objects, vegas" {
			t.Errorf("code %d came out as %d: %v", code, shared.CodeOf(err), err)
		}
	}
	answer = shared.ErrBusy.Errorf("busy")
	wantIs(t, c.Unload(t.Context(), "ertt", host.UnloadOptions{}), syscall.EBUSY)

	answer = errors.New("no sentinel here")
	if err := c.Unload(t.Context(), "ertt", host.UnloadOptions{}); err == nil || err.Error() != "no sentinel here" || shared.ErrWord(err) != "" {
		t.Errorf("an error without a sentinel came out as %v", err)
	}
	answer = errors.Join(
		&shared.PropertyError{Name: "smoothing", Err: shared.ErrInvalid.Errorf("must be of type int, not string")},
		&shared.PropertyError{Name: "colour", Err: shared.ErrInvalid.Errorf("is unknown")},
	)
	err := loadBy(t.Context(), c, LoadRequest{Name: "ertt"})
	wantIs(t, err, shared.ErrInvalid)
	if props := shared.PropertyErrors(err); len(props) != 2 || props[0].Name != "smoothing" || props[1].Name != "colour" {
		t.Errorf("the properties at fault came out as %v", props)
	}
	if err.Error() != answer.Error() {
		t.Errorf("the text came out as %q, want %q", err, answer)
	}
}

// Every method asks for a privilege, and for one that can be given.
func TestMethodsAskForPrivileges(t *testing.T) {
	desc := controlv1.Control_ServiceDesc
	var methods []string
	for _, m := range desc.Methods {
		methods = append(methods, "/"+desc.ServiceName+"/"+m.MethodName)
	}
	for _, m := range desc.Streams {
		methods = append(methods, "/"+desc.ServiceName+"/"+m.StreamName)
	}
	for _, m := range methods {
		if !slices.Contains(shared.Privileges, privileges[m]) {
			t.Errorf("%s asks for %q", m, privileges[m])
		}
	}
	if len(methods) != len(privileges) {
		t.Errorf("%d methods, %d of them ask for something", len(methods), len(privileges))
	}
}

func TestAuthorizeDecides(t *testing.T) {
	type asked struct {
		peer      Peer
		privilege shared.Privilege
	}
	var got []asked
	answer := error(nil)
	h := &fakeHost{}
	path, _ := serve(t, h, Options{Authorize: func(_ context.Context, p Peer, privilege shared.Privilege) error {
		got = append(got, asked{p, privilege})
		return answer
	}})
	c := dial(t, path)
	ctx := t.Context()
	calls := func() []error {
		_, stat := c.Stat(ctx, "")
		_, hooks := c.Hooks(ctx)
		_, objects := c.Objects(ctx, host.ObjectFilter{})
		_, version := c.Version(ctx)
		return []error{stat, hooks, objects, version, loadBy(ctx, c, LoadRequest{Name: "ertt"}), c.Unload(ctx, "ertt", host.UnloadOptions{})}
	}
	want := []shared.Privilege{"stat", "stat", "stat", "stat", "load", "autoload", "unload"}
	for i, err := range calls() {
		if err != nil {
			t.Errorf("call %d: %v", i, err)
		}
	}
	for i := range want {
		if got[i].privilege != want[i] {
			t.Errorf("question %d is for %q, want %q", i, got[i].privilege, want[i])
		}
		if p := got[i].peer; p.Known != systemHasPeers || p.Known && p.String() != self().String() {
			t.Errorf("question %d is about %v, want %v", i, p, self())
		}
	}
	answer = errors.New("not on a Sunday")
	for i, err := range calls() {
		if !errors.Is(err, shared.ErrPermission) || !strings.Contains(err.Error(), "Sunday") {
			t.Errorf("call %d: refused with %v", i, err)
		}
	}
	if len(h.specs) != 1 || len(h.unload) != 1 {
		t.Errorf("refused calls reached the host: %v, %v", h.specs, h.unload)
	}
}

func TestServeAfterCloseClosesTheListener(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.sock")
	lis, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	srv := newServer(&fakeHost{}, Options{}, usual)
	if err := srv.Close(); err != nil {
		t.Fatal(err)
	}
	if err := srv.Serve(lis); err != nil {
		t.Error(err)
	}
	_, err = Dial(t.Context(), path)
	wantIs(t, err, syscall.ENOENT)
}

func TestShutdownWaitsThenCuts(t *testing.T) {
	entered, release := make(chan struct{}, 1), make(chan struct{})
	path, srv := serve(t, &fakeHost{change: func(ctx context.Context) error {
		entered <- struct{}{}
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}, Options{})
	c := dial(t, path)
	answer := make(chan error, 1)
	go func() { answer <- c.Unload(context.Background(), "ertt", host.UnloadOptions{}) }()
	testkit.Await(t, "the call", entered)

	shut := make(chan error, 1)
	ctx, cut := context.WithCancel(context.Background())
	go func() { shut <- srv.Shutdown(ctx) }()
	select {
	case err := <-shut:
		t.Fatalf("Shutdown did not wait for the call: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	cut()
	wantIs(t, testkit.Await(t, "Shutdown", shut), context.Canceled)
	if err := testkit.Await(t, "the call's answer", answer); err == nil {
		t.Error("the call that was cut reports success")
	}
}

func TestOwnerOnly(t *testing.T) {
	own := self()
	for _, tt := range []struct {
		name string
		peer Peer
		want error
	}{
		{"own uid", own, nil},
		{"root", Peer{UID: 0, Known: true}, nil},
		{"other", Peer{UID: own.UID + 65534, GID: 7, Known: true}, shared.ErrPermission},
	} {
		if err := OwnerOnly(t.Context(), tt.peer, shared.PrivilegeLoad); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
	if err := OwnerOnly(t.Context(), Peer{}, shared.PrivilegeLoad); (err != nil) != systemHasPeers {
		t.Errorf("unknown peer: %v", err)
	}
}

func TestConnectionsAreLimited(t *testing.T) {
	lis, err := Listen(filepath.Join(t.TempDir(), "c.sock"))
	if err != nil {
		t.Fatal(err)
	}
	limited := newLimitListener(lis, bounds{connections: 2}, nil)
	accepted := make(chan net.Conn)
	ended := make(chan error, 1)
	go func() {
		for {
			conn, err := limited.Accept()
			if err != nil {
				ended <- err
				return
			}
			accepted <- conn
		}
	}()
	var first net.Conn
	for i := range 3 {
		client, err := net.Dial("unix", lis.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Close() })
		if i < 2 {
			conn := testkit.Await(t, "a connection within the limit", accepted)
			t.Cleanup(func() { _ = conn.Close() })
			first = conn
		}
	}
	if len(limited.free) != 0 {
		t.Fatalf("%d tokens are left for 2 open connections", len(limited.free))
	}
	for range 2 { // closing twice gives one token back
		_ = first.Close()
	}
	third := testkit.Await(t, "the connection beyond the limit", accepted)
	defer third.Close()
	if len(limited.free) != 0 {
		t.Errorf("%d tokens are left for 2 open connections", len(limited.free))
	}
	if err := limited.Close(); err != nil {
		t.Fatal(err)
	}
	wantIs(t, testkit.Await(t, "the end of Accept", ended), net.ErrClosed)
}
