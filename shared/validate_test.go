package shared_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/khelp/khelp/shared"
)

// goodModinfo returns what a well-behaved helper says.
func goodModinfo() *shared.Modinfo {
	return &shared.Modinfo{
		Name: "ertt", Version: "1.2.0", API: shared.APIGeneration, Classes: []shared.Class{"tcp"}, NeedsOSD: true,
		OSD: shared.OSDInfo{
			Template: make([]byte, 8), HasTemplate: true, MaxBytes: 8,
			Schema: shared.DataSchema{{Name: "rtt", Type: shared.FieldUint64}},
		},
		Hooks:      []shared.HookInfo{{Point: "tcp.est_in"}, {Point: "tcp.est_in", UData: []byte("2")}, {Point: "tcp.est_out", Index: 1}},
		Requires:   []shared.Requirement{{Name: "clock", Constraint: "~> 1.0"}},
		Reads:      []string{"clock"},
		Properties: []shared.Property{{Name: "smoothing", Type: shared.PropertyInt, Default: int64(5)}},
		Sections:   []shared.Section{{Name: "readme", Data: []byte("hello")}},
	}
}

func TestModinfoValidate(t *testing.T) {
	if err := goodModinfo().Validate(); err != nil {
		t.Fatal(err)
	}
	minusOne := int64(-1)
	for _, tc := range []struct {
		name  string
		spoil func(*shared.Modinfo)
		want  *shared.Error
		word  string
	}{
		{"no name", func(m *shared.Modinfo) { m.Name = "" }, shared.ErrInvalid, "helper name is empty"},
		{"long name", func(m *shared.Modinfo) { m.Name = strings.Repeat("a", 64) }, shared.ErrNameTooLong, "64 bytes"},
		{"bad class", func(m *shared.Modinfo) { m.Classes = append(m.Classes, "T") }, shared.ErrInvalid, `"T"`},
		{"class twice", func(m *shared.Modinfo) { m.Classes = append(m.Classes, "tcp") }, shared.ErrExist, `class "tcp"`},
		{"classes", func(m *shared.Modinfo) { m.Classes = make([]shared.Class, 65) }, shared.ErrInvalid, "65 classes"},
		{"bad point", func(m *shared.Modinfo) { m.Hooks[0].Point = "tcp" }, shared.ErrInvalid, "subsystem.point"},
		{"hook twice", func(m *shared.Modinfo) { m.Hooks[1].UData = nil }, shared.ErrExist, "tcp.est_in"},
		{"hooks", func(m *shared.Modinfo) { m.Hooks = make([]shared.HookInfo, 257) }, shared.ErrInvalid, "257 hooks"},
		{"OSD without class", func(m *shared.Modinfo) { m.Classes = nil }, shared.ErrInvalid, "no class"},
		{"OSD from nowhere", func(m *shared.Modinfo) { m.OSD.HasTemplate = false }, shared.ErrInvalid, "neither a template nor New"},
		{"slots too large", func(m *shared.Modinfo) { m.OSD.MaxBytes = shared.MaxSlot + 1 }, shared.ErrTooLarge, "65537"},
		{"template too large", func(m *shared.Modinfo) { m.OSD.Template = make([]byte, 9) }, shared.ErrTooLarge, "9 bytes"},
		{"default limit", func(m *shared.Modinfo) { m.OSD.MaxBytes, m.OSD.Template = 0, make([]byte, shared.MaxSlot+1) }, shared.ErrTooLarge, "65536"},
		{"schema", func(m *shared.Modinfo) { m.OSD.Schema[0].Offset = 1 }, shared.ErrInvalid, "does not fit"},
		{"bad requirement", func(m *shared.Modinfo) { m.Requires[0].Name = "../x" }, shared.ErrInvalid, "required helper"},
		{"self-requirement", func(m *shared.Modinfo) { m.Requires[0].Name = "ertt" }, shared.ErrDeadlock, "ertt → ertt"},
		{"bad read", func(m *shared.Modinfo) { m.Reads[0] = "C" }, shared.ErrInvalid, "read from"},
		{"property's name", func(m *shared.Modinfo) { m.Properties[0].Name = "a.b" }, shared.ErrInvalid, "a.b"},
		{"property's type", func(m *shared.Modinfo) { m.Properties[0].Type = "uint" }, shared.ErrInvalid, `unknown type "uint"`},
		{"property's default", func(m *shared.Modinfo) { m.Properties[0].Default = "5" }, shared.ErrInvalid, "default must be of type int"},
		{"property's bounds", func(m *shared.Modinfo) { m.Properties[0].Minimum, m.Properties[0].Maximum = new(int64), &minusOne }, shared.ErrInvalid, "minimum 0 above its maximum -1"},
		{"bounds of no int", func(m *shared.Modinfo) {
			m.Properties[0] = shared.Property{Name: "a", Type: shared.PropertyBool, Minimum: &minusOne}
		}, shared.ErrInvalid, "of type bool, not int"},
		{"format of no string", func(m *shared.Modinfo) { m.Properties[0].Format = shared.FormatDuration }, shared.ErrInvalid, "of type int, not string"},
		{"default out of bounds", func(m *shared.Modinfo) { m.Properties[0].Maximum = &minusOne }, shared.ErrInvalid, "default must be at most -1, not 5"},
		{"property twice", func(m *shared.Modinfo) { m.Properties = append(m.Properties, m.Properties[0]) }, shared.ErrExist, "stands twice"},
		{"section twice", func(m *shared.Modinfo) { m.Sections = append(m.Sections, m.Sections[0]) }, shared.ErrExist, `section "readme"`},
		{"section's name", func(m *shared.Modinfo) { m.Sections[0].Name = "" }, shared.ErrInvalid, "section has no name"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := goodModinfo()
			tc.spoil(m)
			if err := m.Validate(); !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.word) {
				t.Errorf("%v, want %v with %q", err, tc.want, tc.word)
			}
		})
	}
	m := goodModinfo()
	m.Name, m.Reads[0], m.Properties[0].Type = "A", "B", "C"
	if err := m.Validate(); err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("three errors came out as: %v", err)
	}
}

func TestO2_NewAloneIsEnough(t *testing.T) {
	m := goodModinfo()
	m.OSD = shared.OSDInfo{HasNew: true}
	if err := m.Validate(); err != nil {
		t.Errorf("New alone: %v", err)
	}
	m.OSD.HasNew = false
	if err := m.Validate(); !errors.Is(err, shared.ErrInvalid) {
		t.Errorf("neither template nor New: %v", err)
	}
	m.NeedsOSD = false
	if err := m.Validate(); err != nil {
		t.Errorf("no data at all: %v", err)
	}
}

func goodSpec() *shared.HelperSpec {
	return &shared.HelperSpec{
		Name: "ertt", Command: []string{"./ertt", "-v"}, SHA256: strings.Repeat("0aF", 21) + "0", Version: "~> 1.0",
		Classes: []shared.Class{"tcp"}, Requires: []shared.Requirement{{Name: "clock"}}, Load: shared.LoadDemand,
		Timeout: time.Second, OnFailure: shared.Open, OnCause: map[shared.Cause]shared.Action{shared.CauseCrash: shared.Closed},
		Hooks: []shared.HookSpec{{Point: "tcp.est_in", Order: shared.Order{Place: shared.After, Helper: "log"}, OnFailure: shared.Closed}},
	}
}

func TestHelperSpecValidate(t *testing.T) {
	if err := goodSpec().Validate(); err != nil {
		t.Fatal(err)
	}
	if err := (&shared.HelperSpec{Command: []string{"./x"}}).Validate(); err != nil {
		t.Errorf("a command alone: %v", err)
	}
	for _, tc := range []struct {
		name  string
		spoil func(*shared.HelperSpec)
		want  *shared.Error
		word  string
	}{
		{"nothing", func(s *shared.HelperSpec) { *s = shared.HelperSpec{} }, shared.ErrInvalid, "name is empty"},
		{"name", func(s *shared.HelperSpec) { s.Name = "Ertt" }, shared.ErrInvalid, "Ertt"},
		{"long name", func(s *shared.HelperSpec) { s.Name = strings.Repeat("a", 64) }, shared.ErrNameTooLong, "64"},
		{"class", func(s *shared.HelperSpec) { s.Classes = []shared.Class{"a b"} }, shared.ErrInvalid, "a b"},
		{"requirement", func(s *shared.HelperSpec) { s.Requires[0].Name = "" }, shared.ErrInvalid, "required helper"},
		{"timeout", func(s *shared.HelperSpec) { s.Timeout = -1 }, shared.ErrInvalid, "negative"},
		{"sum's length", func(s *shared.HelperSpec) { s.SHA256 = "abc" }, shared.ErrInvalid, "64 hex digits"},
		{"sum's digits", func(s *shared.HelperSpec) { s.SHA256 = strings.Repeat("g", 64) }, shared.ErrInvalid, "'g'"},
		{"load", func(s *shared.HelperSpec) { s.Load = "later" }, shared.ErrInvalid, "boot, demand or manual"},
		{"action", func(s *shared.HelperSpec) { s.OnFailure = "ajar" }, shared.ErrInvalid, "open or closed"},
		{"cause", func(s *shared.HelperSpec) { s.OnCause = map[shared.Cause]shared.Action{"crsh": shared.Open} }, shared.ErrInvalid, "crsh"},
		{"cause's action", func(s *shared.HelperSpec) { s.OnCause[shared.CauseHung] = "shut" }, shared.ErrInvalid, "shut"},
		{"hook's point", func(s *shared.HelperSpec) { s.Hooks[0].Point = "est_in" }, shared.ErrInvalid, "subsystem.point"},
		{"hook twice", func(s *shared.HelperSpec) { s.Hooks = append(s.Hooks, s.Hooks[0]) }, shared.ErrExist, "stands twice"},
		{"hook's timeout", func(s *shared.HelperSpec) { s.Hooks[0].Timeout = -1 }, shared.ErrInvalid, "negative"},
		{"hook's action", func(s *shared.HelperSpec) { s.Hooks[0].OnFailure = "x" }, shared.ErrInvalid, "open or closed"},
		{"hook's order", func(s *shared.HelperSpec) { s.Hooks[0].Order.Helper = "" }, shared.ErrInvalid, `hook "tcp.est_in"`},
		{"hook's place", func(s *shared.HelperSpec) { s.Hooks[0].Order = shared.Order{Place: 9} }, shared.ErrInvalid, "unknown place 9"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := goodSpec()
			tc.spoil(s)
			if err := s.Validate(); !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.word) {
				t.Errorf("%v, want %v with %q", err, tc.want, tc.word)
			}
		})
	}
}

func TestHelperSpecValidateSaysAllThatIsWrongInOneOrder(t *testing.T) {
	s := goodSpec()
	s.Name, s.OnFailure = "E", "x"
	s.OnCause = map[shared.Cause]shared.Action{"c": shared.Open, "b": shared.Open, "a": "y"}
	first := s.Validate().Error()
	if got := strings.Count(first, "\n") + 1; got != 6 {
		t.Errorf("%d errors, want 6:\n%s", got, first)
	}
	for range 10 {
		if again := s.Validate().Error(); again != first {
			t.Fatalf("another order:\n%s\n%s", first, again)
		}
	}
}

func TestHelperSpecHook(t *testing.T) {
	s := goodSpec()
	if h := s.Hook("tcp.est_in"); h.OnFailure != shared.Closed {
		t.Errorf("%+v", h)
	}
	if h := s.Hook("tcp.est_out"); h.Point != "tcp.est_out" || h.OnFailure != shared.ActionDefault || h.Order != (shared.Order{}) {
		t.Errorf("a point the spec says nothing of: %+v", h)
	}
}
