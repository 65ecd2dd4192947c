package wire

import "github.com/hashicorp/go-plugin"

// ProtocolVersion is the application protocol version of the go-plugin handshake. It changes only when a peer that speaks the old one
// could not follow; additions do not change it.
const ProtocolVersion = 1

// ServiceName is the service whose health a helper reports by grpc.health.v1, as go-plugin wants it.
const ServiceName = plugin.GRPCServiceName

// Handshake is the cookie by which a helper knows that a khelp host started it. It is no secret: it keeps people from running a
// helper by hand.
var Handshake = plugin.HandshakeConfig{
	ProtocolVersion:  ProtocolVersion,
	MagicCookieKey:   "KHELP_HELPER",
	MagicCookieValue: "6b68656c70287b9d-v1",
}

// The variables that a helper reads: go-plugin's, and one of khelp's own.
const (
	EnvProtocolVersions = "PLUGIN_PROTOCOL_VERSIONS" // comma-separated versions the host speaks
	EnvClientCert       = "PLUGIN_CLIENT_CERT"       // PEM certificate of the host; its presence asks for mTLS
	EnvSocketDir        = plugin.EnvUnixSocketDir    // directory in which the helper makes its socket
	EnvLogLevel         = "KHELP_LOG_LEVEL"          // trace, debug, info, warn or error: less than that the host does not log
)

// Limits of a frame and of the streams that carry them.
const (
	MaxFrame   = 4 << 20 // bytes of one frame; a larger one is refused
	WindowSize = 1 << 20 // initial flow-control window; setting it turns gRPC's BDP probing off
)
