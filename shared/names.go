package shared

import (
	"strings"
)

// MaxName is the longest name of a helper, class, subsystem or point, in bytes. A longer one is ErrNameTooLong, never cut: the
// kernel's HELPER_NAME_MAXLEN cuts at 16.
const MaxName = 63

// HelperID identifies a helper for as long as the host lives. Ids start at 1 and are never used twice; 0 is no helper.
type HelperID uint32

// Class names a kind of object that helpers may follow, such as "tcp". It answers to khelp(9)'s HELPER_CLASS_*.
type Class string

// Validate returns ErrInvalid or ErrNameTooLong if the class is not a name.
func (c Class) Validate() error { return ValidateName("class", string(c)) }

// HookPoint names one point in a subsystem's code, as "subsystem.point": "tcp.est_in" is hhook(9)'s type HHOOK_TYPE_TCP and id
// HHOOK_TCP_EST_IN. Both halves are names.
type HookPoint string

// Subsystem returns the part before the dot: the hhook type.
func (p HookPoint) Subsystem() string {
	sub, _, _ := strings.Cut(string(p), ".")
	return sub
}

// Name returns the part after the dot: the hhook id.
func (p HookPoint) Name() string {
	_, name, _ := strings.Cut(string(p), ".")
	return name
}

// Validate returns ErrInvalid or ErrNameTooLong, with the half that is wrong, if p is not "subsystem.point".
func (p HookPoint) Validate() error {
	sub, name, ok := strings.Cut(string(p), ".")
	if !ok {
		return ErrInvalid.Errorf("hook point %q is not of the form subsystem.point, such as tcp.est_in", string(p))
	}
	if err := ValidateName("hook point's subsystem", sub); err != nil {
		return err
	}
	return ValidateName("hook point's name", name)
}

// ValidateName checks a name against [a-z][a-z0-9_-]* and MaxName. What the name is of is said in the error, which is ErrInvalid or
// ErrNameTooLong.
func ValidateName(what, name string) error {
	if len(name) > MaxName {
		return ErrNameTooLong.Errorf("%s %q is %d bytes long, the limit is %d", what, name[:16]+"…", len(name), MaxName)
	}
	if name == "" {
		return ErrInvalid.Errorf("%s is empty", what)
	}
	for i, c := range name {
		if c >= 'a' && c <= 'z' || i > 0 && (c >= '0' && c <= '9' || c == '_' || c == '-') {
			continue
		}
		return ErrInvalid.Errorf("%s %q must match [a-z][a-z0-9_-]*; byte %d is %q", what, name, i, c)
	}
	return nil
}
