// Package helper is the SDK for authors of helpers. A helper is a program of its own whose main calls Serve:
//
//	package main
//
//	import (
//		"context"
//
//		"github.com/khelp/khelp/shared/helper"
//	)
//
//	type counts struct{ In uint64 }
//
//	func main() {
//		helper.Serve(helper.Helper[counts]{Name: "tiny", Version: "1.0.0", Classes: helper.Classes{"tcp"}, Hooks: helper.Hooks[counts]{
//			"tcp.est_in": func(_ context.Context, _ *helper.Call, s *counts) error { s.In++; return nil },
//		}})
//	}
//
// It answers to KHELP_DECLARE_MOD_UMA of khelp(9). S, here counts, is what the helper keeps on each object (osd(9)). The host holds the
// authoritative bytes: they come with each call, the hook changes *S, and what changed goes back and commits when the call succeeds.
// So a helper that crashes loses nothing, and hooks must keep what matters in S rather than in variables of their own.
//
// # State
//
// S is a struct, array or number of fixed size: booleans, integers, floats, complex numbers, arrays and structs of these, exported or
// not. It is encoded as encoding/binary does, little-endian and packed in the order of the fields, with int and uint as 64 bits, and
// its schema is published so that operators see values. Any other S works too if *S implements encoding.BinaryMarshaler (or
// BinaryAppender) and encoding.BinaryUnmarshaler. An empty struct means that the helper keeps nothing on objects.
//
// # Hooks
//
// A hook's ctx, Call and *S are valid until it returns. A nil error passes and commits *S. The error of Call.Reject refuses the
// caller on a filter point, and commits *S all the same. Any other error fails the call: nothing commits, and the host does what its
// operator chose for failures. A panic is a crash of the helper. Calls of one object never overlap; calls of different objects
// overlap only if Workers is above 1 or the hook may sleep. Hooks run inline, one after another, so one that waits for anything must
// be listed in MaySleep.
//
// # Output
//
// Standard output up to the handshake belongs to the protocol; print nothing before Serve. Log with Logger, or with any hclog logger
// that writes JSON to standard error: the host takes level, message and fields over into its own log, with the helper's name. Other
// lines on either stream are logged as they are. The environment variable KHELP_LOG_LEVEL (trace, debug, info, warn, error) sets
// Logger's level; it is info by default.
package helper
