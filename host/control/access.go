package control

import (
	"context"
	"slices"

	"github.com/khelp/khelp/shared"
)

// Authorizer decides whether a caller has a privilege. It must be safe for concurrent use. An error refuses; it goes to the caller as
// ErrPermission unless it wraps a sentinel of its own.
type Authorizer func(ctx context.Context, p Peer, privilege shared.Privilege) error

// Allow returns an authoriser that lets root and the user that the daemon runs as do everything, and others what one of the rules
// allows to their uid or to one of their groups: kauth_authorize_system. Others are refused with ErrPermission. It is for a socket that
// all may open (see ListenMode), so a caller whom the system does not know is refused.
func Allow(rules []shared.AccessRule) Authorizer {
	rules = slices.Clone(rules)
	return func(_ context.Context, p Peer, privilege shared.Privilege) error {
		if p.Known && (p.owner() || slices.ContainsFunc(rules, func(r shared.AccessRule) bool {
			return r.Allows(privilege, p.UID, append([]uint32{p.GID}, p.Groups...))
		})) {
			return nil
		}
		return shared.ErrPermission.Errorf("%s is refused to %s", privilege, p)
	}
}
