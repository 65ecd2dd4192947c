// Package host is the engine that a daemon embeds to export hook points and to take in helpers: the user-space counterpart of
// FreeBSD's khelp(9), hhook(9) and osd(9), with the loading and unloading of NetBSD's kern_module.c.
//
// A Host keeps the hook heads, the reference counts and the helpers' data on each object. A helper is a process of its own, or a
// Builtin in this one; both attach to the same heads. Whatever a helper does, heads, objects and data stay as they are.
//
// # Loading
//
// A load finds who is meant (builtins, then primed boot helpers, then the helper path), starts the process and asks what it is, loads what
// it requires, has it initialise itself and binds its hooks. All that is known under one lock, which is never held while somebody else is
// waited for: an operation on a helper is entered in the registry instead, whoever needs its outcome waits for it, and who waits for whom
// is kept so that a circle is an error and not a deadlock. Configure says what may be loaded without an operator asking, and what is to be
// loaded on demand; the sweeper unloads what nobody needs any more; Reconfigure brings what is loaded in line with another configuration.
//
// # Goroutines
//
// Each has an owner who waits for it:
//
//	Host.sweep       one per host, until Shutdown
//	demand.run       one per helper that is being loaded on demand, until that has ended; Shutdown waits
//	instance.watch   one per helper process, ended with the instance
//	session, lane    two of each instance, and one for each request of the helper that is served, ended with it
//	launch           those of package launch, which read a process's output and take its exit
//
// Nothing runs for a head or an object.
package host
