package helper

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/khelp/khelp/shared"
)

type counts struct{ In, Out uint64 }

func countIn(_ context.Context, _ *Call, s *counts) error  { s.In++; return nil }
func countOut(_ context.Context, _ *Call, s *counts) error { s.Out++; return nil }

func countHelper() Helper[counts] {
	return Helper[counts]{
		Name: "segs", Version: "1.2.0", Description: "counts segments", Classes: Classes{"tcp"},
		Hooks: Hooks[counts]{"tcp.est_out": countOut, "tcp.est_in": countIn},
	}
}

func TestModinfoIsDerivedFromWhatTheAuthorWrote(t *testing.T) {
	type config struct {
		Smoothing int
	}
	h := countHelper()
	h.MaySleep = []shared.HookPoint{"tcp.est_out"}
	h.Extra = []HookDecl[counts]{{Point: "tcp.est_in", Func: countOut, UData: []byte("second")}}
	h.Requires = []string{"clock", "ertt ~> 1.2", "vegas>=1,<2"}
	h.Config = &config{Smoothing: 5}
	h.Sections = map[string]string{"readme": "# segs", "licence": "BSD"}
	h.Free = func(context.Context, *Call, *counts) {}
	h.DataVersion = 3
	got, err := h.Modinfo()
	if err != nil {
		t.Fatal(err)
	}
	want := shared.Modinfo{
		Name: "segs", Version: "1.2.0", API: shared.APIGeneration, Description: "counts segments",
		Classes: []shared.Class{"tcp"}, NeedsOSD: true,
		OSD: shared.OSDInfo{
			Template: make([]byte, 16), HasTemplate: true, HasFree: true, MaxBytes: 16, DataVersion: 3,
			Schema: shared.DataSchema{
				{Name: "in", Type: shared.FieldUint64, Count: 1},
				{Name: "out", Type: shared.FieldUint64, Offset: 8, Count: 1},
			},
		},
		Hooks: []shared.HookInfo{
			{Point: "tcp.est_in", Index: 0},
			{Point: "tcp.est_out", Index: 1, MaySleep: true},
			{Point: "tcp.est_in", Index: 2, UData: []byte("second")},
		},
		Requires:   []shared.Requirement{{Name: "clock"}, {Name: "ertt", Constraint: "~> 1.2"}, {Name: "vegas", Constraint: ">=1,<2"}},
		Properties: []shared.Property{{Name: "smoothing", Type: shared.PropertyInt, Default: int64(5)}},
		Sections:   []shared.Section{{Name: "licence", Data: []byte("BSD")}, {Name: "readme", Data: []byte("# segs")}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestO2_NewTakesTheTemplatesPlace(t *testing.T) {
	h := countHelper()
	h.New = func(_ context.Context, _ *Call, s *counts) error { s.In = 1; return nil }
	info, err := h.Modinfo()
	if err != nil {
		t.Fatal(err)
	}
	if info.OSD.HasTemplate || !info.OSD.HasNew {
		t.Errorf("template %v, New %v: want New alone", info.OSD.HasTemplate, info.OSD.HasNew)
	}
}

func TestEmptyStateNeedsNoOSD(t *testing.T) {
	info, err := Helper[struct{}]{Name: "stateless"}.Modinfo()
	if err != nil {
		t.Fatal(err)
	}
	if info.NeedsOSD || info.OSD.HasTemplate || info.Version != "0.0.0" {
		t.Errorf("%+v", info)
	}
}

// Each contradiction stops the helper with a sentence that says what to change.
func TestContradictions(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Helper[counts])
		is     error
		want   string
	}{
		{"no name", func(h *Helper[counts]) { h.Name = "" }, shared.ErrInvalid, "set Name"},
		{"bad name", func(h *Helper[counts]) { h.Name = "Segs" }, shared.ErrInvalid, `Name "Segs" must match`},
		{"long name", func(h *Helper[counts]) { h.Name = strings.Repeat("a", 64) }, shared.ErrNameTooLong, "the limit is 63"},
		{"bad version", func(h *Helper[counts]) { h.Version = "new" }, shared.ErrInvalid, "no version such as 1.2.0"},
		{"bad class", func(h *Helper[counts]) { h.Classes = Classes{"TCP"} }, shared.ErrInvalid, `class "TCP"`},
		{"class twice", func(h *Helper[counts]) { h.Classes = Classes{"tcp", "tcp"} }, shared.ErrExist, "take one away"},
		{"no class", func(h *Helper[counts]) { h.Classes = nil }, shared.ErrInvalid, "set Classes"},
		{"bad point", func(h *Helper[counts]) { h.Hooks["est_in"] = countIn }, shared.ErrInvalid, "not of the form subsystem.point"},
		{"no function", func(h *Helper[counts]) { h.Hooks["tcp.x"] = nil }, shared.ErrInvalid, "the hook on tcp.x has no function"},
		{"two functions on one point", func(h *Helper[counts]) {
			h.Extra = []HookDecl[counts]{{Point: "tcp.est_in", Func: countOut}}
		}, shared.ErrExist, "two functions on tcp.est_in with the same UData: make them one, or give each a UData"},
		{"sleeper without hook", func(h *Helper[counts]) { h.MaySleep = []shared.HookPoint{"tcp.est_inn"} },
			shared.ErrNotExist, `did you mean "tcp.est_in"?`},
		{"requires itself", func(h *Helper[counts]) { h.Requires = []string{"segs"} }, shared.ErrDeadlock, "Requires names the helper itself: segs → segs; take it away"},
		{"requires twice", func(h *Helper[counts]) { h.Requires = []string{"a", "a > 1"} }, shared.ErrExist, "join the constraints"},
		{"bad requirement", func(h *Helper[counts]) { h.Requires = []string{"ertt new"} }, shared.ErrInvalid, `"ertt ~> 1.2"`},
		{"bad section", func(h *Helper[counts]) { h.Sections = map[string]string{"READ ME": ""} }, shared.ErrInvalid, "section"},
		{"state over MaxBytes", func(h *Helper[counts]) { h.MaxBytes = 8 }, shared.ErrTooLarge, "takes 16 bytes, MaxBytes allows 8"},
		{"MaxBytes over the limit", func(h *Helper[counts]) { h.MaxBytes = shared.MaxSlot + 1 }, shared.ErrTooLarge, "MaxBytes is"},
		{"workers", func(h *Helper[counts]) { h.Workers = 1000 }, shared.ErrInvalid, "Workers is 1000"},
		{"config", func(h *Helper[counts]) { h.Config = counts{} }, shared.ErrInvalid, "pointer to a struct"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := countHelper()
			test.change(&h)
			_, err := h.Modinfo()
			if !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %v with %q", err, test.is, test.want)
			}
		})
	}
}

func TestContradictionsOfStatelessHelpers(t *testing.T) {
	base := Helper[struct{}]{Name: "stateless"}
	for want, change := range map[string]func(*Helper[struct{}]){
		"take New away":  func(h *Helper[struct{}]) { h.New = func(context.Context, *Call, *struct{}) error { return nil } },
		"take Free away": func(h *Helper[struct{}]) { h.Free = func(context.Context, *Call, *struct{}) {} },
		"take them away": func(h *Helper[struct{}]) { h.DataVersion = 1 },
	} {
		h := base
		change(&h)
		if _, err := h.Modinfo(); !errors.Is(err, shared.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want ErrInvalid with %q", err, want)
		}
	}
}

func TestAllThatIsWrongIsSaidAtOnce(t *testing.T) {
	h := countHelper()
	h.Name, h.Version = "Segs", "new"
	h.Requires = []string{"?"}
	_, err := h.Modinfo()
	for _, want := range []string{"Segs", "new", "required helper's name"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not mention %q", err, want)
		}
	}
}

type stubborn struct{}

func (*stubborn) MarshalBinary() ([]byte, error) { return nil, errors.New("nothing there") }
func (*stubborn) UnmarshalBinary([]byte) error   { return nil }

func TestZeroStateThatCannotBeEncodedNeedsNew(t *testing.T) {
	h := Helper[stubborn]{Name: "stubborn", Classes: Classes{"tcp"}}
	if _, err := h.Modinfo(); err == nil || !strings.Contains(err.Error(), "nothing there") || !strings.Contains(err.Error(), "give the helper a New") {
		t.Errorf("got %v", err)
	}
	h.New = func(context.Context, *Call, *stubborn) error { return nil }
	info, err := h.Modinfo()
	if err != nil || info.OSD.MaxBytes != shared.MaxSlot {
		t.Errorf("with New: %v, MaxBytes %d", err, info.OSD.MaxBytes)
	}
}
