package host

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/khelp/khelp/host/internal/lane"
	"github.com/khelp/khelp/host/internal/launch"
	"github.com/khelp/khelp/host/internal/session"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// instance is one incarnation of a helper: its process, its control session, its lane.
type instance struct {
	host      *Host
	helper    *helper
	face      *face // what it was started for, and, from its description on, what it is
	number    uint32
	log       hclog.Logger
	end       endpoint
	session   *session.Session
	lane      *lane.Stream
	startTook time.Duration

	sending sync.RWMutex // held for reading by who submits calls to the lane; protects the following field
	retired bool         // another has taken over: there are no more calls for this one

	// The following are protected by host.mu.
	hooks  []shared.HookInfo // what it hooks: declared, added and removed
	loaded []*helper         // that it has had loaded and that were there when it last had one loaded
	over   bool              // it holds nothing any more

	initialised bool // it has been asked to initialise itself, and may make requests

	watcher sync.WaitGroup
	ending  chan struct{} // closed when the host ends the instance
	endOnce sync.Once
	gone    chan struct{} // closed when the instance is of no more use; err is set before
	err     error
}

// start launches a helper, or connects to one that runs already, and opens its streams. Nothing stays behind if it fails.
func (h *Host) start(ctx context.Context, hp *helper, f *face, dialer Dialer, number uint32) (*instance, error) {
	in := &instance{
		host: h, helper: hp, face: f, number: number, log: hp.log,
		ending: make(chan struct{}), gone: make(chan struct{}),
	}
	if dialer == nil && h.cfg.Attach != nil {
		dialer = h.cfg.Attach(hp.name)
	}
	var err error
	if dialer != nil {
		in.end, err = dial(dialer)
	} else {
		in.end, err = h.launch(ctx, hp.name, f)
	}
	if err != nil {
		return nil, err
	}
	if err := in.open(ctx); err != nil {
		err = in.why(err)
		in.kill()
		in.reap()
		return nil, err
	}
	in.watcher.Go(in.watch)
	return in, nil
}

func (h *Host) launch(ctx context.Context, name string, f *face) (endpoint, error) {
	command, err := h.command(&f.spec)
	if err != nil {
		return nil, err
	}
	// What is added to the environment: what the spec says, and the level below which nothing is logged here, nor kept in the logbook.
	env := map[string]string{wire.EnvLogLevel: h.helperLog(name).GetLevel().String()}
	maps.Copy(env, f.spec.Env)
	p, err := launch.Start(ctx, launch.Config{
		Name: name, Command: command, SHA256: f.spec.SHA256, Env: env, Logger: h.named,
		RuntimeDir: h.cfg.RuntimeDir, StartTimeout: h.cfg.StartTimeout, DialOptions: dialOptions,
	})
	if err != nil {
		return nil, err // and no endpoint, which a nil Process would be
	}
	return p, nil
}

// meet starts a helper and asks what it is. One whose name was only guessed is started anew if it says that it has another, so that its
// log has one name from the first line on.
func (h *Host) meet(ctx context.Context, hp *helper, l *loading, number uint32) (*instance, error) {
	if err := l.gate.enter(ctx); err != nil {
		return nil, err
	}
	defer l.gate.leave()
	ctx, cancel := context.WithTimeout(ctx, h.cfg.StartTimeout)
	defer cancel()
	for {
		in, info, err := h.introduce(ctx, hp, hp.face.Load(), l.dial, number)
		if err != nil {
			return nil, err
		}
		if info.Name == hp.name {
			if in.face, err = in.face.described(info); err != nil {
				return nil, in.giveUp(err)
			}
			return in, nil
		}
		if !l.guessed {
			return nil, in.giveUp(misnamed(hp.name, info.Name))
		}
		if err = h.rename(hp, info.Name); err != nil {
			return nil, in.giveUp(err)
		}
		in.abort()
		l.guessed = false
	}
}

func misnamed(asked, said string) error {
	return shared.ErrInvalid.Errorf("the helper asked for is %q, but it says its name is %q", asked, said)
}

// introduce starts a helper and asks what it is.
func (h *Host) introduce(ctx context.Context, hp *helper, f *face, dialer Dialer, number uint32) (*instance, *shared.Modinfo, error) {
	began := time.Now()
	in, err := h.start(ctx, hp, f, dialer, number)
	if err != nil {
		return nil, nil, err
	}
	info, err := in.describe(ctx)
	if err != nil {
		return nil, nil, in.giveUp(err)
	}
	in.startTook = time.Since(began)
	h.mu.Lock()
	in.hooks = slices.Clone(info.Hooks)
	h.mu.Unlock()
	h.remember(in, info)
	return in, info, nil
}

// rename gives a helper the name it says it has.
func (h *Host) rename(hp *helper, name string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if other := h.findLocked(name); other != nil {
		return other.occupiedLocked(hp.face.Load(), &loading{})
	}
	f := *hp.face.Load()
	f.spec.Name = name
	hp.face.Store(&f)
	hp.name, hp.log = name, h.helperLog(name)
	return nil
}

func (in *instance) open(ctx context.Context) error {
	var err error
	if in.session, err = session.Open(ctx, wire.NewHelperClient(in.end.Conn()), in.serve, in.record); err != nil {
		return shared.ErrNoExec.Errorf("the control stream could not be opened: %w", err)
	}
	if in.lane, err = lane.Open(ctx, in.end.Conn()); err != nil {
		return shared.ErrNoExec.Errorf("the run stream could not be opened: %w", err)
	}
	return nil
}

// describe asks the helper what it is, and checks the answer.
func (in *instance) describe(ctx context.Context) (*shared.Modinfo, error) {
	reply, err := wire.NewHelperClient(in.end.Conn()).Describe(ctx, &wire.DescribeRequest{Api: shared.APIGeneration})
	if err != nil {
		if ctx.Err() != nil {
			return nil, shared.ErrTimeout.Errorf("the helper did not describe itself in time: %w", shared.PrintableError(err, shared.MaxText))
		}
		return nil, shared.ErrNoExec.Errorf("the helper does not describe itself: %w", shared.PrintableError(err, shared.MaxText))
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
	if in.end.Done() == nil || !errors.Is(err, shared.ErrHelperGone) && !errors.Is(err, shared.ErrNoExec) {
		return err
	}
	timer := time.NewTimer(exitWait)
	defer timer.Stop()
	select {
	case <-in.end.Done():
		return exitError(in.end)
	case <-timer.C:
		return err
	}
}

// watch waits for the first sign that the instance is of no more use, and then ends what is left of it.
func (in *instance) watch() {
	select {
	case <-in.ending:
		in.err = shared.ErrHelperGone.Errorf("the host has ended the helper")
		close(in.gone)
		return
	case <-in.end.Done():
		in.err = exitError(in.end)
	case <-in.lane.Done():
		in.err = in.why(in.lane.Err())
	case <-in.session.Done():
		in.err = in.why(shared.ErrHelperGone.Errorf("the control stream ended: %w", in.session.Err()))
	}
	close(in.gone)
	in.kill()
	in.host.failed(in)
}

func exitError(end endpoint) error {
	if err := end.Err(); err != nil {
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
	in.end.Kill()
}

// abort ends an instance that has not come into use, at once, and with it all it held.
func (in *instance) abort() {
	in.endOnce.Do(func() { close(in.ending) })
	in.endHolds()
	in.watcher.Wait()
	in.kill()
	in.reap()
}

// endHolds gives back what the incarnation held at run time.
func (in *instance) endHolds() {
	in.host.mu.Lock()
	defer in.host.mu.Unlock()
	in.host.endHoldsLocked(in)
}

// reap waits until a helper that has been killed is gone.
func (in *instance) reap() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := in.end.Stop(ctx, 0); err != nil {
		in.log.Error("a helper that failed to load does not go away", "error", err)
	}
}

// stop ends the instance in order: the end of the control stream tells the helper to go, then SIGTERM, then, after grace or when ctx
// ends, SIGKILL. It may be called more than once.
func (in *instance) stop(ctx context.Context, grace time.Duration) error {
	in.endOnce.Do(func() { close(in.ending) })
	in.watcher.Wait()
	in.endHolds()
	in.lane.Close()
	in.session.Close()
	return in.end.Stop(ctx, grace)
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

// What is logged of one record that a helper sends, at most; its message has shared.MaxText.
const (
	maxLogFields = 32
	maxLogKey    = shared.MaxName
	maxLogValue  = 1 << 10
)

// record logs a record that came by the control stream. A helper may write what it likes in it, but not lines of others.
func (in *instance) record(r *wire.LogRecord) {
	level := hclog.LevelFromString(strings.ToLower(r.GetLevel()))
	if level == hclog.NoLevel {
		level = hclog.Info
	}
	keys := slices.Sorted(maps.Keys(r.GetFields()))
	dropped := max(len(keys)-maxLogFields, 0)
	fields := make([]any, 0, 2*min(len(keys), maxLogFields)+2)
	for _, k := range keys[:len(keys)-dropped] {
		fields = append(fields, shared.Printable(k, maxLogKey), shared.Printable(r.GetFields()[k], maxLogValue))
	}
	if dropped > 0 {
		fields = append(fields, "fields_dropped", dropped)
	}
	in.log.Log(level, shared.Printable(r.GetMessage(), shared.MaxText), fields...)
}
