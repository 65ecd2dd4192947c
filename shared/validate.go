package shared

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// validateSpec is HelperSpec.Validate.
func validateSpec(s *HelperSpec) error {
	var errs []error
	add := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	if s.Name != "" || len(s.Command) == 0 {
		add(ValidateName("helper name", s.Name))
	}
	for _, c := range s.Classes {
		add(c.Validate())
	}
	for _, r := range s.Requires {
		add(ValidateName("required helper's name", r.Name))
	}
	if s.Timeout < 0 {
		add(ErrInvalid.Errorf("timeout %v is negative", s.Timeout))
	}
	if sum := s.SHA256; sum != "" {
		add(ValidateSHA256(sum))
	}
	switch s.Load {
	case "", LoadBoot, LoadDemand, LoadManual:
	default:
		add(ErrInvalid.Errorf("load %q must be boot, demand or manual", string(s.Load)))
	}
	add(s.Limits.Validate())
	add(s.Autounload.Validate())
	if s.AutounloadAfter < 0 {
		add(ErrInvalid.Errorf("autounload after %v is negative", s.AutounloadAfter))
	}
	add(validatePolicy(s.OnFailure, s.OnCause))
	seen := map[HookPoint]bool{}
	for _, h := range s.Hooks {
		add(h.Point.Validate())
		if seen[h.Point] {
			add(ErrExist.Errorf("hook %q stands twice", string(h.Point)))
		}
		seen[h.Point] = true
		if h.Timeout < 0 {
			add(ErrInvalid.Errorf("hook %q: timeout %v is negative", string(h.Point), h.Timeout))
		}
		if err := h.Order.Validate(); err != nil {
			add(fmt.Errorf("hook %q: %w", string(h.Point), err))
		}
		add(validatePolicy(h.OnFailure, h.OnCause))
	}
	return errors.Join(errs...)
}

func validatePolicy(a Action, byCause map[Cause]Action) error {
	errs := []error{a.Validate()}
	for _, cause := range slices.Sorted(maps.Keys(byCause)) {
		if !slices.Contains(Causes, cause) {
			errs = append(errs, ErrInvalid.Errorf("unknown cause %q", string(cause)))
		}
		errs = append(errs, byCause[cause].Validate())
	}
	return errors.Join(errs...)
}

// Validate returns ErrInvalid unless a is open, closed or the default.
func (a Action) Validate() error {
	switch a {
	case ActionDefault, Open, Closed:
		return nil
	default:
		return ErrInvalid.Errorf("action %q must be open or closed", string(a))
	}
}

// ValidateSHA256 returns ErrInvalid unless sum is 64 hex digits.
func ValidateSHA256(sum string) error {
	if len(sum) != 64 {
		return ErrInvalid.Errorf("sha256 %q must be 64 hex digits, not %d characters", sum, len(sum))
	}
	for _, c := range sum {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			return ErrInvalid.Errorf("sha256 %q must be 64 hex digits; %q is none", sum, c)
		}
	}
	return nil
}

// Validate checks what a helper says of itself, as untrusted input: names, sizes, doubles, contradictions. All that is wrong is
// joined into one error.
func (m *Modinfo) Validate() error {
	var errs []error
	add := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	add(ValidateName("helper name", m.Name))
	if err := m.validateCounts(); err != nil { // before anything is done for each of them
		return errors.Join(append(errs, err)...)
	}
	for i, c := range m.Classes {
		add(c.Validate())
		if slices.Contains(m.Classes[:i], c) {
			add(ErrExist.Errorf("class %q stands twice", string(c)))
		}
	}
	add(m.validateHooks())
	add(m.validateOSD())
	for i, r := range m.Requires {
		add(ValidateName("required helper's name", r.Name))
		if slices.ContainsFunc(m.Requires[:i], func(other Requirement) bool { return other.Name == r.Name }) {
			add(ErrExist.Errorf("%s is required twice", r.Name))
		}
		if r.Name == m.Name {
			add(ErrDeadlock.Errorf("%s requires itself: %s → %s", m.Name, m.Name, m.Name))
		}
	}
	for _, name := range m.Reads {
		add(ValidateName("name of a helper to read from", name))
	}
	add(validateProperties(m.Properties))
	sections := map[string]bool{}
	for _, s := range m.Sections {
		if s.Name == "" {
			add(ErrInvalid.Errorf("a section has no name"))
		}
		if sections[s.Name] {
			add(ErrExist.Errorf("section %q stands twice", s.Name))
		}
		sections[s.Name] = true
	}
	return errors.Join(errs...)
}

// validateCounts bounds the lists.
func (m *Modinfo) validateCounts() error {
	for _, list := range []struct {
		what       string
		have, most int
	}{
		{"classes", len(m.Classes), MaxClasses},
		{"hooks", len(m.Hooks), MaxHooks},
		{"requirements", len(m.Requires), MaxModinfoRequires},
		{"helpers to read from", len(m.Reads), MaxModinfoRequires},
		{"properties", len(m.Properties), MaxProperties},
		{"sections", len(m.Sections), MaxSections},
		{"fields in the data schema", len(m.OSD.Schema), MaxFields},
	} {
		if list.have > list.most {
			return ErrInvalid.Errorf("%d %s, the limit is %d", list.have, list.what, list.most)
		}
	}
	return nil
}

// validateProperties checks a schema: names, doubles, types, what narrows them, and that defaults are of them.
func validateProperties(schema []Property) error {
	var errs []error
	seen := make(map[string]bool, len(schema))
	for _, p := range schema {
		err := ValidateName("property", p.Name)
		switch {
		case err != nil:
		case seen[p.Name]:
			err = ErrExist.Errorf("stands twice")
		case !p.Type.known():
			err = ErrInvalid.Errorf("has the unknown type %q", string(p.Type))
		default:
			err = p.validateLimits()
			if err == nil && p.Default != nil {
				if _, err = p.convert(p.Default); err != nil {
					err = fmt.Errorf("default %w", err)
				}
			}
		}
		seen[p.Name] = true
		if err != nil {
			errs = append(errs, &PropertyError{p.Name, err})
		}
	}
	return errors.Join(errs...)
}

func (m *Modinfo) validateHooks() error {
	type function struct {
		point HookPoint
		index uint32
		udata string
	}
	seen := map[function]bool{}
	for _, h := range m.Hooks {
		if err := h.Point.Validate(); err != nil {
			return err
		}
		f := function{h.Point, h.Index, string(h.UData)}
		if seen[f] {
			return ErrExist.Errorf("hook %d with the same udata stands twice on %s", h.Index, h.Point)
		}
		seen[f] = true
	}
	return nil
}

func (m *Modinfo) validateOSD() error {
	if !m.NeedsOSD {
		return nil
	}
	limit := int(m.OSD.MaxBytes)
	if limit == 0 {
		limit = MaxSlot
	}
	switch {
	case len(m.Classes) == 0:
		return ErrInvalid.Errorf("%s needs object data but follows no class", m.Name)
	case !m.OSD.HasTemplate && !m.OSD.HasNew:
		return ErrInvalid.Errorf("%s needs object data but has neither a template nor New", m.Name)
	case limit > MaxSlot:
		return ErrTooLarge.Errorf("%s asks for slots of %d bytes, the limit is %d", m.Name, limit, MaxSlot)
	case len(m.OSD.Template) > limit:
		return ErrTooLarge.Errorf("the template of %s is %d bytes long, its slots hold %d", m.Name, len(m.OSD.Template), limit)
	}
	return m.OSD.Schema.Validate(limit)
}
