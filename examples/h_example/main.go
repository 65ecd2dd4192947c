// H_example is the first helper to read: the user-space twin of FreeBSD's h_example.c. It counts, for each TCP connection, the segments
// that came in and went out while the connection is established.
//
// Everything a helper needs is here: data of its own on each connection, functions on two hook points, and a main that hands both to
// the SDK. README.md beside this file walks through what happens when it runs.
package main

import (
	"context"

	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/helper"
	"github.com/khelp/khelp/shared/points/tcpv1"
)

// counts is what this helper keeps on each connection: struct example in the kernel's h_example.c.
//
// The host makes one for each new connection, starting from the zero value, and looks after it from then on. It is the host's and not
// ours, as memory from a dedicated zone is in the kernel: it comes along with each call, and what we change in it goes back with the
// answer. That is why a helper can crash, be restarted or be replaced without losing a count, and why a helper must not keep in a
// variable of its own what it cannot lose.
//
// A struct of fixed size, such as this one, needs no code for encoding, and its fields become the names under which
// `khelpd objects` shows the values: est_in and est_out.
type counts struct {
	EstIn  uint64 // segments read from the client
	EstOut uint64 // segments written to the client
}

// example describes the helper. The host asks for it before it runs anything of ours, just as the kernel's linker finds modinfo.
var example = helper.Helper[counts]{
	// Operators, and other helpers that require this one, call it by this name. The version lets them ask for "h_example ~> 1.0".
	Name:        "h_example",
	Version:     "1.0.0",
	Description: "counts the segments of each TCP connection",

	// We follow objects of this class: each connection of the TCP subsystem is one. The kernel's example says HELPER_CLASS_TCP. It also
	// has to set HELPER_NEEDS_OSD to get storage on each object; here the SDK sees that counts is not empty and asks for it.
	Classes: helper.Classes{tcpv1.ClassTCP},

	// What the kernel lists as an array of struct hookinfo. Both points are observed: the traffic goes on whatever we answer. If the
	// subsystem that exports a point is not there yet, the hook is attached as soon as it is.
	Hooks: helper.Hooks[counts]{
		tcpv1.EstIn:  countSegment, // HHOOK_TCP_EST_IN
		tcpv1.EstOut: countSegment, // HHOOK_TCP_EST_OUT
	},
}

// countSegment runs whenever a connection passes one of our points: hook_func of hhook(9). A run through the arguments, with those of
// the kernel's example_hook:
//
//   - ctx ends when the host no longer waits for an answer. A hook that only computes need not look at it.
//   - c.Point is the point that called us, for functions that serve several points (hhook_type and hhook_id).
//   - c.UData is what the hook was declared with, nothing in our case (udata).
//   - c.Context is what the call site has to tell (ctx_data). On the points of the TCP subsystem it is a tcpv1.Segment: length, stream
//     offset, addresses, TCP_INFO. Counting needs none of it, so we do not decode it.
//   - s is our data on this connection (hdata). It is never nil.
//
// A hook that wants to know what the segment was begins so:
//
//	var seg tcpv1.Segment
//	if err := seg.Decode(c.Context); err != nil {
//		return err
//	}
//
// Calls for one connection never overlap, so there is nothing to lock; those of one direction come in the order of its segments.
//
// Returning nil commits what we did to *s. An error would commit nothing, and the host would count the call as missed; this hook has no
// reason to fail. Where the kernel ignores what a hook returns, a point that filters would also take c.Reject("why") for an answer.
func countSegment(_ context.Context, c *helper.Call, s *counts) error {
	switch c.Point {
	case tcpv1.EstIn:
		s.EstIn++
	case tcpv1.EstOut:
		s.EstOut++
	default:
		return shared.ErrInvalid.Errorf("called on %s, which was not asked for", c.Point)
	}
	return nil
}

// main stands where the kernel's example has KHELP_DECLARE_MOD_UMA. Serve talks to the host that started this process and never returns:
// the process ends when the host unloads the helper, or is gone itself. Started by hand, it says what it is and how to load it.
func main() { helper.Serve(example) }
