package host_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/osd"
	"github.com/khelp/khelp/shared"
)

// op returns something that is done to a host, now and then to the helper of a name.
func (st *storm) op(name string) (string, func(context.Context) error) {
	switch rand.N(20) {
	case 0, 1, 2, 16:
		return "load", func(ctx context.Context) error {
			return st.Load(ctx, shared.HelperSpec{Name: name}, host.LoadOptions{Force: rand.N(2) == 0})
		}
	case 3, 4, 17, 18, 19:
		return "unload", func(ctx context.Context) error {
			return st.Unload(ctx, name, host.UnloadOptions{Disable: rand.N(2) == 0, Wait: time.Duration(rand.N(2)) * time.Millisecond})
		}
	case 5:
		return "hold", func(context.Context) error {
			err := st.Hold(name)
			if err == nil && rand.N(50) > 0 {
				return st.Rele(name)
			}
			return err
		}
	case 6:
		return "rele", func(context.Context) error { return st.Rele(name) }
	case 7:
		return "restart", func(ctx context.Context) error { st.put2(name); return st.Restart(ctx, name) }
	case 8:
		return "reconfigure", st.reconfigure
	case 9, 10:
		return "run", st.run
	case 11:
		return "make an object", st.makeObject
	case 12:
		return "destroy an object", st.destroyObject
	case 13:
		return "stat", func(ctx context.Context) error { _, err := st.Stat(ctx, name); return err }
	case 14:
		return "subscribe", st.subscribe
	default:
		return "boot and sweep", func(ctx context.Context) error { return st.boot(ctx, name) }
	}
}

// put2 puts another program in the place of a process's, now and then.
func (st *storm) put2(name string) {
	if name[0] == 'h' && rand.N(2) == 0 {
		st.put(name)
	}
}

func (st *storm) reconfigure(ctx context.Context) error {
	var specs []shared.HelperSpec
	for _, name := range st.names[2:] {
		spec := shared.HelperSpec{Name: name, Load: []shared.LoadWhen{shared.LoadManual, shared.LoadBoot, shared.LoadDemand}[rand.N(3)]}
		if rand.N(4) == 0 {
			spec.Requires = []shared.Requirement{{Name: st.any()}}
		}
		if rand.N(4) > 0 {
			specs = append(specs, spec)
		}
	}
	_, err := st.Reconfigure(ctx, specs)
	return err
}

func (st *storm) object() *osd.Object {
	st.mu.Lock()
	defer st.mu.Unlock()
	if len(st.objects) == 0 {
		return nil
	}
	return st.objects[rand.N(len(st.objects))]
}

func (st *storm) run(ctx context.Context) error {
	_, err := st.heads[rand.N(len(st.heads))].Run(ctx, st.object(), []byte("x"))
	if errors.Is(err, shared.ErrClosed) && rand.N(2) == 0 {
		return nil // the object is gone, perhaps
	}
	return err
}

func (st *storm) makeObject(ctx context.Context) error {
	if rand.N(2) == 0 || st.object() != nil && rand.N(3) > 0 {
		return st.destroyObject(ctx)
	}
	o, err := st.NewObject(ctx, []shared.Class{"tcp", "udp", "ip"}[rand.N(3)])
	if err != nil {
		return err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.objects = append(st.objects, o)
	return nil
}

func (st *storm) destroyObject(ctx context.Context) error {
	st.mu.Lock()
	var o *osd.Object
	if len(st.objects) > 0 {
		o, st.objects = st.objects[0], st.objects[1:]
	}
	st.mu.Unlock()
	if o == nil {
		return nil
	}
	return o.Destroy(ctx)
}

func (st *storm) subscribe(context.Context) error {
	sub := st.Subscribe()
	defer sub.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for range 3 {
		if _, err := sub.Next(ctx); err != nil {
			return nil
		}
	}
	return nil
}

func (st *storm) boot(ctx context.Context, name string) error {
	switch rand.N(4) {
	case 0:
		st.path.Crash(name)
	case 1:
		host.Sweep(st.Host, maxIdle, rand.N(2) == 0)
	case 2:
		var specs []shared.HelperSpec
		for range 3 {
			specs = append(specs, shared.HelperSpec{Name: st.any()})
		}
		for _, e := range st.LoadAll(ctx, specs) {
			return e
		}
	default:
		st.Prime(ctx, []shared.HelperSpec{{Name: name}, {Name: st.any()}})
		st.InitClass(ctx, "tcp")
		st.EndBoot(ctx)
	}
	return nil
}
