// Package host is the engine that a daemon embeds to export hook points and to take in helpers: the user-space counterpart of
// FreeBSD's khelp(9), hhook(9) and osd(9), with the loading and unloading of NetBSD's kern_module.c.
//
// A Host keeps the hook heads, the reference counts and the helpers' data on each object. A helper is a process of its own, or a
// Builtin in this one; both attach to the same heads. Whatever a helper does, heads, objects and data stay as they are.
//
// Goroutines, each with its owner: per helper process one that watches it, two of its control session and two of its lane (owner: the
// instance, ended with it), and those of package launch that read its output. Nothing runs for a head or an object.
package host
