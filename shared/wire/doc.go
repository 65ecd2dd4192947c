// Package wire is the protocol between a host and its helpers: the messages of khelp.proto, the codec for the frames of the Run
// stream, the go-plugin handshake and the translation of errors. PROTOCOL.md beside this file specifies it for peers in any language.
package wire
