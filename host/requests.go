package host

import (
	"context"

	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// serve answers a request that a helper makes on its control stream. What this host does not know is ErrUnsupported, as the protocol
// has it, so that newer helpers can find out.
func (in *instance) serve(_ context.Context, req *wire.ControlToHost) *wire.Answer {
	switch body := req.GetBody().(type) {
	case *wire.ControlToHost_GetId_:
		id, err := in.host.ID(req.GetGetId_().GetName())
		return &wire.Answer{
			Status: wire.StatusOf(err),
			Result: &wire.Answer_GetId{GetId: &wire.GetIdResult{HelperId: uint32(id)}},
		}
	default:
		return &wire.Answer{Status: wire.StatusOf(shared.ErrUnsupported.Errorf("this host does not serve %T", body))}
	}
}
