package shared

import "slices"

// Privilege is one thing that an operator may be allowed to ask of a daemon: an action of the `access` block, and what kauth(9) would
// be asked about.
type Privilege string

// The privileges.
const (
	PrivilegeStat     Privilege = "stat"     // see helpers, hooks, objects and the version
	PrivilegeLogs     Privilege = "logs"     // read what helpers log
	PrivilegeEvents   Privilege = "events"   // follow loads, unloads and failures
	PrivilegeLoad     Privilege = "load"     // load a helper
	PrivilegeAutoload Privilege = "autoload" // have helpers loaded by what is required or used
	PrivilegeUnload   Privilege = "unload"   // unload a helper
	PrivilegeHold     Privilege = "hold"     // keep a helper from being unloaded, and give that up
	PrivilegeRestart  Privilege = "restart"  // restart a helper
	PrivilegeReload   Privilege = "reload"   // have the daemon read its configuration again
	PrivilegePlan     Privilege = "plan"     // see what a reload would change
)

// Privileges lists every privilege. Callers must not change it.
var Privileges = []Privilege{
	PrivilegeStat, PrivilegeLogs, PrivilegeEvents, PrivilegeLoad, PrivilegeAutoload, PrivilegeUnload, PrivilegeHold, PrivilegeRestart,
	PrivilegeReload, PrivilegePlan,
}

// AccessRule allows some privileges to some users and to the members of some groups.
type AccessRule struct {
	Privileges []Privilege
	UIDs       []uint32
	GIDs       []uint32
}

// Allows reports whether the rule gives a privilege to a user with these groups.
func (r AccessRule) Allows(p Privilege, uid uint32, gids []uint32) bool {
	return slices.Contains(r.Privileges, p) &&
		(slices.Contains(r.UIDs, uid) || slices.ContainsFunc(gids, func(g uint32) bool { return slices.Contains(r.GIDs, g) }))
}
