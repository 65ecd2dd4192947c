package host

// Hold keeps a helper from being unloaded until Rele: module_hold. Holds count. No such helper is ErrNotExist.
func (h *Host) Hold(name string) error { panic("unwritten") }

// Rele gives back one Hold: module_rele. One more than there were is ErrInvalid; no such helper is ErrNotExist.
func (h *Host) Rele(name string) error { panic("unwritten") }
