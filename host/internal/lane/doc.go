// Package lane carries calls of hooks to a helper and brings the replies back.
//
// A Lane takes chains: the calls of one object that go out together. It keeps the table of what is unanswered, the deadlines, and the
// rule that a call ends exactly once; what a call means is its Handler's affair. The stream lane is the gRPC Run stream.
//
// The helper is not trusted: what it sends is checked here for form and against the table, and a reply that fits nothing is counted
// and dropped.
package lane
