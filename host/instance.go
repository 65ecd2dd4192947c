package host

import (
	"context"
	"errors"
	"maps"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/khelp/khelp/host/internal/lane"
	"github.com/khelp/khelp/host/internal/launch"
	"github.com/khelp/khelp/host/internal/session"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// instance is one incarnation of a helper: its process, its control session, its lane.
type instance struct {
	host    *Host
	helper  *helper
	number  uint32
	log     hclog.Logger
	conn    *grpc.ClientConn
	proc    *launch.Process // nil: not ours, connected by LoadOptions.Dial
	session *session.Session
	lane    *lane.Stream
	room    *semaphore.Weighted // how many more calls may be queued or under way

	watcher sync.WaitGroup
	ending  chan struct{} // closed when the host ends the instance
	endOnce sync.Once
	gone    chan struct{} // closed when the instance is of no more use; err is set before
	err     error
}

// dialOptions are those of every connection to a helper.
var dialOptions = []grpc.DialOption{
	grpc.WithInitialWindowSize(wire.WindowSize),
	grpc.WithInitialConnWindowSize(4 * wire.WindowSize),
}

// start launches a helper, or connects to one that dial reaches, and opens its streams. Nothing stays behind if it fails.
func (h *Host) start(ctx context.Context, hp *helper, dial Dialer, number uint32) (*instance, error) {
	spec := &hp.spec
	in := &instance{
		host: h, helper: hp, number: number, log: hp.log,
		room:   semaphore.NewWeighted(int64(h.cfg.Inflight)),
		ending: make(chan struct{}), gone: make(chan struct{}),
	}
	var err error
	if dial != nil {
		in.conn, err = grpc.NewClient("passthrough:///helper", append([]grpc.DialOption{
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx) }),
		}, dialOptions...)...)
	} else {
		in.proc, err = launch.Start(ctx, launch.Config{
			Name: spec.Name, Command: spec.Command, SHA256: spec.SHA256, Env: in.environment(), Logger: h.log,
			RuntimeDir: h.cfg.RuntimeDir, StartTimeout: h.cfg.StartTimeout, DialOptions: dialOptions,
		})
	}
	if err != nil {
		return nil, err
	}
	if in.proc != nil {
		in.conn = in.proc.Conn()
	}
	if err := in.open(ctx); err != nil {
		err = in.why(err)
		in.kill()
		return nil, err
	}
	in.watcher.Go(in.watch)
	return in, nil
}

// environment returns what is added to the helper's environment: what the spec says, and the level below which nothing is logged here.
func (in *instance) environment() map[string]string {
	env := map[string]string{wire.EnvLogLevel: in.host.log.GetLevel().String()}
	maps.Copy(env, in.helper.spec.Env)
	return env
}

func (in *instance) open(ctx context.Context) error {
	var err error
	if in.session, err = session.Open(ctx, wire.NewHelperClient(in.conn), in.serve, in.record); err != nil {
		return shared.ErrNoExec.Errorf("the control stream could not be opened: %w", err)
	}
	if in.lane, err = lane.Open(ctx, in.conn); err != nil {
		return shared.ErrNoExec.Errorf("the run stream could not be opened: %w", err)
	}
	return nil
}

// describe asks the helper what it is, and checks the answer.
func (in *instance) describe(ctx context.Context) (*shared.Modinfo, error) {
	reply, err := wire.NewHelperClient(in.conn).Describe(ctx, &wire.DescribeRequest{Api: shared.APIGeneration})
	if err != nil {
		if ctx.Err() != nil {
			return nil, shared.ErrTimeout.Errorf("the helper did not describe itself in time: %w", err)
		}
		return nil, shared.ErrNoExec.Errorf("the helper does not describe itself: %w", err)
	}
	info, err := wire.ModinfoFromProto(reply)
	if err == nil {
		err = info.Validate()
	}
	if err != nil {
		return nil, shared.ErrInvalid.Errorf("the helper describes itself wrongly: %w", err)
	}
	return info, nil
}

// exitWait is how long a broken stream, which is often the first news of an exit, waits for the exit itself, which has the reason.
const exitWait = 200 * time.Millisecond

// why returns how the process ended if it has, or is just about to, and else err.
func (in *instance) why(err error) error {
	if in.proc == nil || !errors.Is(err, shared.ErrHelperGone) && !errors.Is(err, shared.ErrNoExec) {
		return err
	}
	timer := time.NewTimer(exitWait)
	defer timer.Stop()
	select {
	case <-in.proc.Done():
		return exitError(in.proc)
	case <-timer.C:
		return err
	}
}

// watch waits for the first sign that the instance is of no more use, and then ends what is left of it.
func (in *instance) watch() {
	var exited <-chan struct{}
	if in.proc != nil {
		exited = in.proc.Done()
	}
	select {
	case <-in.ending:
		in.err = shared.ErrHelperGone.Errorf("the host has ended the helper")
		close(in.gone)
		return
	case <-exited:
		in.err = exitError(in.proc)
	case <-in.lane.Done():
		in.err = in.why(in.lane.Err())
	case <-in.session.Done():
		in.err = in.why(shared.ErrHelperGone.Errorf("the control stream ended: %w", in.session.Err()))
	}
	close(in.gone)
	in.kill()
	in.host.failed(in)
}

func exitError(p *launch.Process) error {
	if err := p.Err(); err != nil {
		return err
	}
	return shared.ErrHelperGone.Errorf("the helper exited by itself")
}

// kill ends streams and process at once; what is under way fails with crash.
func (in *instance) kill() {
	if in.lane != nil {
		in.lane.Close()
	}
	if in.session != nil {
		in.session.Close()
	}
	if in.proc != nil {
		in.proc.Kill()
	} else if in.conn != nil {
		_ = in.conn.Close() // it can only tell that it is closed already
	}
}

// abort ends an instance that has not come into use, at once.
func (in *instance) abort() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := in.stop(ctx, 0); err != nil {
		in.log.Error("a helper that failed to load does not go away", "error", err)
	}
}

// stop ends the instance in order: the end of the control stream tells the helper to go, then SIGTERM, then, after grace or when ctx
// ends, SIGKILL. It may be called more than once.
func (in *instance) stop(ctx context.Context, grace time.Duration) error {
	var err error
	in.endOnce.Do(func() { close(in.ending) })
	in.watcher.Wait()
	in.lane.Close()
	in.session.Close()
	if in.proc != nil {
		err = in.proc.Stop(ctx, grace)
	} else {
		_ = in.conn.Close() // it can only tell that it is closed already
	}
	return err
}

// dead returns why the instance is of no more use, or nil.
func (in *instance) dead() error {
	select {
	case <-in.gone:
		return in.err
	default:
		return nil
	}
}

func (in *instance) sha256() string {
	if in.proc == nil {
		return ""
	}
	return in.proc.SHA256()
}

func (in *instance) pid() int {
	if in.proc == nil {
		return 0
	}
	return in.proc.PID()
}

// record logs a line that came by the control stream.
func (in *instance) record(r *wire.LogRecord) {
	level := hclog.LevelFromString(strings.ToLower(r.GetLevel()))
	if level == hclog.NoLevel {
		level = hclog.Info
	}
	var fields []any
	for k, v := range r.GetFields() {
		fields = append(fields, k, v)
	}
	in.log.Log(level, r.GetMessage(), fields...)
}
