package khelp_test

import (
	"path"
	"slices"
	"strings"
	"testing"
)

// made builds a graph from lines "package: import import". Paths that begin with
// ./ are below the module; a foreign path without a dot is the standard library's.
func made(lines ...string) graph {
	g := graph{}
	full := func(p string) string {
		if rel, ok := strings.CutPrefix(p, "./"); ok {
			return module + "/" + rel
		}
		return p
	}
	add := func(p string) listed {
		info, ok := g[p]
		if !ok {
			info = listed{ImportPath: p, Standard: !strings.Contains(strings.Split(p, "/")[0], ".")}
			g[p] = info
		}
		return info
	}
	for _, l := range lines {
		from, imports, _ := strings.Cut(l, ":")
		info := add(full(from))
		for _, imp := range strings.Fields(imports) {
			add(full(imp))
			info.Imports = append(info.Imports, full(imp))
		}
		g[info.ImportPath] = info
	}
	return g
}

func TestLayout_CheckerFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	const grpc = "google.golang.org/grpc"
	tests := []struct {
		name  string
		graph graph
		want  []string // a part of each violation, in order
	}{
		{
			name: "what the design draws",
			graph: made("./shared: errors", "./shared/wire: ./shared "+grpc, "./shared/helper: ./shared/wire ./shared",
				"./host/osd: ./shared", "./host/hhook: ./host/osd ./shared", "./host: ./host/hhook ./host/osd ./shared/wire",
				"./host/control: ./host", "./plugins/ertt: ./shared/helper", "./cmd/khelpd: ./host ./config ./shared/helper",
				"./config: ./shared github.com/hashicorp/hcl/v2", "./examples/h_kv/server: ./host", "./examples/h_kv: ./shared/helper"),
		},
		{
			name:  "an edge outside the table",
			graph: made("./shared/points/tcpv1: ./shared/wire"),
			want:  []string{"shared/points/tcpv1 imports shared/wire: no edge from shared/points/* to shared/wire"},
		},
		{
			name:  "upwards",
			graph: made("./host/osd: ./host/hhook"),
			want:  []string{"host/osd imports host/hhook: no edge", "host/osd must not reach host/hhook"},
		},
		{
			name:  "a dependency in shared",
			graph: made("./shared: github.com/google/go-cmp/cmp"),
			want:  []string{"shared imports github.com/google/go-cmp/cmp: it keeps to the standard library"},
		},
		{
			name:  "gRPC below a head, by way of another module",
			graph: made("./host/hhook: example.org/x", "example.org/x: "+grpc+"/codes"),
			want:  []string{"host/hhook must not reach google.golang.org/grpc (heads know no gRPC): host/hhook -> example.org/x -> google.golang.org/grpc/codes"},
		},
		{
			name:  "a path that only begins alike",
			graph: made("./host/hhook: google.golang.org/grpcx"),
		},
		{
			name:  "a room that is none",
			graph: made("./utils: fmt"),
			want:  []string{"utils is in no room"},
		},
		{
			name:  "a helper with an engine",
			graph: made("./plugins/acl: ./host/hosttest", "./host/hosttest: ./host"),
			want:  []string{"plugins/acl imports host/hosttest: no edge", "plugins/acl must not reach host "},
		},
		{
			name:  "an example on both sides",
			graph: made("./examples/h_kv: ./shared/helper ./host"),
			want:  []string{"examples/h_kv is helper and host at once"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := tt.graph.violations()
			if len(got) != len(tt.want) {
				t.Fatalf("violations %q, want %d", got, len(tt.want))
			}
			for i, want := range tt.want {
				if !strings.Contains(got[i], want) {
					t.Errorf("violation %d is %q, want %q in it", i, got[i], want)
				}
			}
		})
	}
}

// A table with a typing error in it allows or forbids nothing.
func TestLayout_TablesNameRooms(t *testing.T) {
	t.Parallel()
	known := func(r string) bool { return slices.Contains(rooms, r) }
	for _, r := range rooms {
		if top := strings.Split(r, "/")[0]; !slices.Contains(topLevel, top) {
			t.Errorf("room %s is below no top-level directory", r)
		}
		if _, err := path.Match(r, ""); err != nil {
			t.Errorf("room %s: %v", r, err)
		}
	}
	for _, e := range edges {
		if !known(e.from) || !known(e.to) || e.why == "" {
			t.Errorf("edge %+v: unknown room or no reason", e)
		}
		for _, b := range bans {
			if b.from == e.from && b.to == e.to {
				t.Errorf("%s to %s is both allowed (%s) and forbidden (%s)", e.from, e.to, e.why, b.why)
			}
		}
	}
	for _, b := range bans {
		foreign := strings.Contains(strings.Split(b.to, "/")[0], ".")
		if !known(b.from) || !foreign && !known(b.to) || b.why == "" {
			t.Errorf("ban %+v: unknown room or no reason", b)
		}
	}
}
