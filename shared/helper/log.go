package helper

import (
	"cmp"
	"context"
	"os"

	"github.com/hashicorp/go-hclog"

	"github.com/khelp/khelp/shared/wire"
)

type loggerKey struct{}

// Logger returns the helper's logger: JSON lines on standard error, which a host takes over into its own log, level and fields and
// all. ctx is that of a hook, of Init or of another function of the helper; with any other context the lines carry no module name. The
// logger is safe for concurrent use.
func Logger(ctx context.Context) hclog.Logger {
	if l, ok := ctx.Value(loggerKey{}).(hclog.Logger); ok {
		return l
	}
	return newLogger()
}

// newLogger makes a logger in the form that go-plugin hosts read. It has no name: the host puts the helper's before each line.
func newLogger() hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{
		Level:      cmp.Or(hclog.LevelFromString(os.Getenv(wire.EnvLogLevel)), hclog.Info),
		Output:     os.Stderr,
		JSONFormat: true,
	})
}

func withLogger(ctx context.Context, l hclog.Logger) context.Context {
	return context.WithValue(ctx, loggerKey{}, l)
}
