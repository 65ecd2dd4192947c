package host

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/internal/launch"
	"github.com/khelp/khelp/host/internal/modcache"
	"github.com/khelp/khelp/host/osd"
	"github.com/khelp/khelp/shared"
)

// Config configures a Host. The zero value works: no helper path, no log.
type Config struct {
	Logger       hclog.Logger  // nil: discards. SlogLogger adapts log/slog
	HelperPath   []string      // directories in which helpers are looked up by name
	RuntimeDir   string        // where private socket directories are made; "": the system's directory for temporary files
	StartTimeout time.Duration // of a launch, and of Init; 0: 10s
	DrainTimeout time.Duration // how long an unload waits for calls under way; 0: 5s
	StopTimeout  time.Duration // from Fini, and from SIGTERM, to SIGKILL; 0: 10s
	Limits       shared.Limits // of helpers whose spec says nothing else; zero fields: shared.MaxSlot, MaxSlots, DefaultInflight

	Autoload    shared.AutoloadScope // what may be loaded without an operator asking for it, beside what is configured
	Autounload  Autounload           // when what was loaded so leaves again
	MaxRequires int                  // helpers that one may require; 0: shared.MaxRequires
	MaxDepth    int                  // helpers that may require one another in a row; 0: shared.MaxDepth
	ModinfoDir  string               // where what helpers say of themselves is kept between runs; "": in memory only

	// Memory reads how much memory is left; nil: the system's. An error means that there is no telling, and no pressure.
	Memory func() (Memory, error)
	// Attach returns how to connect to a helper that runs already, instead of launching it, or nil: for tests, and for helpers under a
	// debugger. It is asked for every helper that is to be started, by its name. nil: all are launched.
	Attach func(name string) Dialer
}

// Autounload says when helpers that nobody loaded by hand leave again. The zero value works.
type Autounload struct {
	After         time.Duration // 0: 10s
	MemoryFloor   float64       // share of all memory; with less available there is pressure. 0: 0.05
	UnderPressure UnderPressure // "": PressureAutoloaded
}

func (c *Config) complete() error {
	for _, f := range []struct {
		name     string
		value    *time.Duration
		fallback time.Duration
	}{
		{"StartTimeout", &c.StartTimeout, 10 * time.Second},
		{"DrainTimeout", &c.DrainTimeout, 5 * time.Second},
		{"StopTimeout", &c.StopTimeout, 10 * time.Second},
	} {
		if *f.value < 0 {
			return shared.ErrInvalid.Errorf("%s %v is negative", f.name, *f.value)
		}
		if *f.value == 0 {
			*f.value = f.fallback
		}
	}
	if err := errors.Join(c.Limits.Validate(), c.Autounload.complete()); err != nil {
		return err
	}
	if c.MaxRequires < 0 || c.MaxDepth < 0 {
		return shared.ErrInvalid.Errorf("the limits on requirements must not be negative: %d, %d deep", c.MaxRequires, c.MaxDepth)
	}
	c.MaxRequires = cmp.Or(c.MaxRequires, shared.MaxRequires)
	c.MaxDepth = cmp.Or(c.MaxDepth, shared.MaxDepth)
	if c.Memory == nil {
		c.Memory = systemMemory
	}
	c.Limits = c.Limits.Or(shared.Limits{Slot: shared.MaxSlot, Slots: shared.MaxSlots, Inflight: shared.DefaultInflight})
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	return nil
}

// Host is an engine with its heads, helpers and objects. Make it with New; it is safe for concurrent use. Its owner ends it with
// Shutdown or Close.
type Host struct {
	cfg       Config
	log       hclog.Logger
	objects   osd.Table
	objectIDs atomic.Uint64
	chains    sync.Pool // of *chain

	life context.Context // ends when Shutdown begins
	stop context.CancelFunc
	cut  context.Context // ends when Shutdown is to wait no longer
	// cutShort ends cut.
	cutShort context.CancelFunc
	busy     sync.WaitGroup // loads and unloads under way; added to under mu while not closed

	kicked   chan struct{} // wakes the sweeper
	modinfos *modcache.Cache
	events   *eventLog
	logs     *logbook
	named    hclog.Logger // of which Named gives the logger of a helper

	mu         sync.Mutex // protects the following fields, HelperPath, Autoload and Autounload of cfg, and what says so in helpers; never held across a call to a helper
	vnets      map[string]*Vnet
	helpers    []*helper // in load order
	offered    map[string]*Builtin
	catalogue  map[string]shared.HelperSpec // what is configured
	demands    map[string]*demand           // of those, what loads on demand
	waits      waits
	pingPongs  map[string]*pingPong
	nextID     shared.HelperID
	generation uint64
	closed     bool
	changing   bool // a Configure or a Reconfigure is under way
	unsaid     []func()
}

// New returns a host. The error is ErrInvalid for a configuration that makes no sense.
func New(cfg Config) (*Host, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	h := &Host{
		cfg: cfg, log: cfg.Logger, kicked: make(chan struct{}, 1), modinfos: modcache.Open(cfg.ModinfoDir),
		events: newEventLog(), logs: newLogbook(),
		vnets: map[string]*Vnet{}, offered: map[string]*Builtin{}, demands: map[string]*demand{}, waits: waits{}, pingPongs: map[string]*pingPong{},
	}
	h.chains.New = freshChain
	h.named = h.logs.hostLogger(cfg.Logger)
	h.life, h.stop = context.WithCancel(context.Background())
	h.cut, h.cutShort = context.WithCancel(context.Background())
	if n, err := launch.Sweep(cfg.RuntimeDir); err != nil {
		h.log.Warn("directories left by a host that was killed stay behind", "error", err)
	} else if n > 0 {
		h.log.Info("swept directories left by a host that was killed", "directories", n)
	}
	h.vnets[""] = &Vnet{host: h, heads: map[shared.HookPoint]*hhook.Head{}}
	h.busy.Go(h.sweep)
	return h, nil
}

// Generation returns the number that every load and unload bumps: module_gen.
func (h *Host) Generation() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.generation
}

// ID returns the id of the helper with a name: khelp_get_id. The error is ErrNotExist, never a number in band.
func (h *Host) ID(name string) (shared.HelperID, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if hp := h.findLocked(name); hp != nil {
		return hp.id, nil
	}
	return 0, h.notLoadedLocked(name)
}

// sayLocked has something logged once the registry is unlocked by unlockAndSay: whoever takes the log may ask the host for something, or
// stall.
func (h *Host) sayLocked(f func()) { h.unsaid = append(h.unsaid, f) }

// unlockAndSay is h.mu.Unlock for those who may have called sayLocked.
func (h *Host) unlockAndSay() {
	unsaid := h.unsaid
	h.unsaid = nil
	h.mu.Unlock()
	for _, f := range unsaid {
		f()
	}
}

// publish tells subscribers what has happened.
func (h *Host) publish(e Event) { h.events.publish(e) }

// helperLog returns the logger of a helper, which writes to its page of the logbook too.
func (h *Host) helperLog(name string) hclog.Logger { return h.named.Named(name) }

func (h *Host) notLoadedLocked(name string) error {
	var names []string
	for _, hp := range h.helpers {
		if hp.name == name && hp.state == shared.StateDisabled {
			return shared.ErrNotExist.Errorf("the builtin %q is disabled: only a forced load brings it back", name)
		}
		if hp.name != name {
			names = append(names, hp.name)
		}
	}
	return shared.ErrNotExist.Errorf("no helper %q is loaded%s", name, shared.DidYouMean(name, names))
}

func (h *Host) findLocked(name string) *helper {
	for _, hp := range h.helpers {
		if hp.name == name {
			return hp
		}
	}
	return nil
}

// begin enters a load or unload, which Shutdown cuts short and waits for. The context ends with ctx and with the host; done is to be
// called at the end. After Shutdown the error is ErrClosed.
func (h *Host) begin(ctx context.Context) (_ context.Context, done func(), err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, nil, errClosed()
	}
	h.busy.Add(1)
	ctx, cancel := context.WithCancelCause(ctx)
	unhook := context.AfterFunc(h.life, func() { cancel(errClosed()) })
	return ctx, func() {
		unhook()
		cancel(nil)
		h.busy.Done()
	}, nil
}

func errClosed() error { return shared.ErrClosed.Errorf("the host is shut down") }

// Shutdown ends the host in order: it takes no more loads and objects, cuts short those under way, takes the hooks off the heads, drains, asks every helper to
// finish (those that require others first) and ends the processes. Helpers have no veto. What is left in vnets is logged as a leak and
// closed. When ctx ends it goes on as Close does. The error joins what did not go in order.
func (h *Host) Shutdown(ctx context.Context) error {
	h.mu.Lock()
	h.closed = true
	for name := range maps.Clone(h.demands) {
		h.delistLocked(name)
	}
	h.mu.Unlock()
	h.stop()
	defer context.AfterFunc(ctx, h.cutShort)()
	h.busy.Wait()
	h.mu.Lock()
	helpers := h.dependantsFirstLocked()
	h.mu.Unlock()
	var errs []error
	for _, hp := range helpers {
		if err := h.end(ctx, hp); err != nil {
			errs = append(errs, err)
		}
	}
	h.mu.Lock()
	var vnets []*Vnet
	for _, v := range h.vnets {
		vnets = append(vnets, v)
	}
	h.mu.Unlock()
	for _, v := range vnets {
		if err := v.Close(ctx); err != nil {
			errs = append(errs, err)
		}
	}
	h.cutShort()
	h.events.close()
	h.logs.close()
	return errors.Join(errs...)
}

// Close ends the host at once: helpers are killed, what is under way fails with crash. It waits for the processes to be gone, which
// SIGKILL sees to, and for functions of builtins that do not heed their context.
func (h *Host) Close() error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return h.Shutdown(ctx)
}
