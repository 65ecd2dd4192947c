package host

import (
	"context"
	"errors"

	"github.com/khelp/khelp/shared"
)

// reinit gives a builtin other properties: it is taken out and brought back, for it has no process that could take over. One that is
// primed has yet to be initialised.
func (h *Host) reinit(ctx context.Context, s *step) error {
	if h.isPrimed(s.helper) {
		h.update([]*step{s})
		return s.Err
	}
	if err := h.unload(ctx, s.helper, unloading{disable: true, forget: true}); err != nil {
		return err
	}
	was := s.helper.face.Load()
	again := func(spec shared.HelperSpec) error {
		_, err := h.load(ctx, spec, &loading{classes: was.narrowed, properties: was.overrides})
		return err
	}
	if err := again(s.spec); err != nil {
		return errors.Join(err, again(was.spec))
	}
	return nil
}

func (h *Host) isPrimed(hp *helper) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return hp.state == shared.StatePrimed
}
