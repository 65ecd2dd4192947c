package launch

import (
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// safeList names what a helper takes over from the host's environment: where programs are (scripts start with /usr/bin/env), language
// and time zone (output that people read), and the directory for temporary files. Nothing in it is a secret, and nothing in it makes a
// program load code. Windows programs do not start without the second half.
var safeList = []string{"PATH", "LANG", "LC_ALL", "TZ", "TMPDIR"}

var safeListWindows = []string{"SYSTEMROOT", "WINDIR", "TEMP", "TMP", "PATHEXT"}

// defaultPath stands in when the host itself has no PATH, as under some supervisors.
const defaultPath = "/usr/local/bin:/usr/bin:/bin"

// reserved are the variables of the handshake, which an operator cannot mean to set.
var reserved = []string{
	wire.Handshake.MagicCookieKey, wire.EnvProtocolVersions, wire.EnvClientCert, wire.EnvSocketDir,
	"PLUGIN_MIN_PORT", "PLUGIN_MAX_PORT", "PLUGIN_MULTIPLEX_GRPC", "PLUGIN_UNIX_SOCKET_GROUP",
}

// Environment returns what a helper sees besides the variables of the handshake: PATH, LANG, LC_ALL, TZ and TMPDIR of the host as far
// as they are set, and extra, which wins.
func Environment(extra map[string]string) []string {
	names := safeList
	if runtime.GOOS == "windows" {
		names = slices.Concat(safeList, safeListWindows)
	}
	var env []string
	for _, name := range names {
		if _, set := extra[name]; set {
			continue
		}
		if value, set := os.LookupEnv(name); set {
			env = append(env, name+"="+value)
		} else if name == "PATH" && runtime.GOOS != "windows" {
			env = append(env, "PATH="+defaultPath)
		}
	}
	for name, value := range extra {
		env = append(env, name+"="+value)
	}
	slices.Sort(env)
	return env
}

func checkEnv(extra map[string]string) error {
	for name, value := range extra {
		switch {
		case name == "" || strings.ContainsAny(name, "=\x00"):
			return failf(ReasonConfig, shared.ErrInvalid, "%q cannot be the name of an environment variable", name)
		case strings.ContainsRune(value, 0):
			return failf(ReasonConfig, shared.ErrInvalid, "environment variable %s contains a NUL byte", name)
		case slices.Contains(reserved, name):
			return failf(ReasonConfig, shared.ErrInvalid, "environment variable %s belongs to the handshake and cannot be set", name)
		}
	}
	return nil
}
