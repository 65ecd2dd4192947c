package helper

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// controlQueue is how many requests of the host may wait behind one that is being answered.
const controlQueue = 64

// life answers the host's requests, one after another. Health is not among them: the reader answers it, whatever the helper is doing.
type life struct {
	prog    *program
	control *control
	ctx     context.Context // of the control stream
	queue   chan *wire.ControlToHelper
	active  bool // Init has succeeded, Fini has not; the answering goroutine's own
}

// serveControl serves one control stream until it ends. It does not wait for a function of the author's that goes on; wg does.
func serveControl(ctx context.Context, prog *program, stream wire.Helper_ControlServer, wg *sync.WaitGroup) {
	l := &life{prog: prog, control: newControl(stream), ctx: ctx, queue: make(chan *wire.ControlToHelper, controlQueue)}
	wg.Go(l.loop)
	defer l.control.close()
	defer close(l.queue)
	for {
		m, err := stream.Recv()
		if err != nil {
			return // however it ended, it is the end of the helper, and no error of its
		}
		switch body := m.GetBody().(type) {
		case *wire.ControlToHelper_Answer:
			l.control.answered(m.GetId(), body.Answer)
		case *wire.ControlToHelper_Health:
			l.reply(m, &wire.Answer{Status: &wire.Status{}})
		case *wire.ControlToHelper_Init, *wire.ControlToHelper_Fini, *wire.ControlToHelper_Autounload, *wire.ControlToHelper_Stat:
			select {
			case l.queue <- m:
			default:
				l.reply(m, failed(shared.ErrOverload.Errorf("%d requests wait already", controlQueue)))
			}
		default:
			l.reply(m, failed(shared.ErrUnsupported.Errorf("the helper does not know this request")))
		}
	}
}

// loop answers queued requests in order.
func (l *life) loop() {
	for m := range l.queue {
		if l.ctx.Err() != nil {
			continue
		}
		l.reply(m, l.answer(m))
	}
}

// reply sends an answer. An error means that the stream has ended, which its reader finds out by itself.
func (l *life) reply(m *wire.ControlToHelper, a *wire.Answer) {
	_ = l.control.send(&wire.ControlToHost{Id: m.GetId(), Body: &wire.ControlToHost_Answer{Answer: a}})
}

func failed(err error) *wire.Answer { return &wire.Answer{Status: statusOf(err)} }

func (l *life) answer(m *wire.ControlToHelper) *wire.Answer {
	switch body := m.GetBody().(type) {
	case *wire.ControlToHelper_Init:
		return failed(l.init(body.Init))
	case *wire.ControlToHelper_Fini:
		return failed(l.fini(body.Fini))
	case *wire.ControlToHelper_Autounload:
		return &wire.Answer{Status: &wire.Status{}, Result: &wire.Answer_Autounload{Autounload: l.vote()}}
	default:
		return &wire.Answer{Status: &wire.Status{}, Result: &wire.Answer_Stat{Stat: l.figures()}}
	}
}

// within bounds a function of the author's by what the host says it will wait.
func (l *life) within(budgetMicros uint64) (context.Context, context.CancelFunc) {
	if budgetMicros == 0 {
		return context.WithCancel(l.ctx)
	}
	return context.WithTimeout(l.ctx, time.Duration(min(budgetMicros, uint64(maxBudget/time.Microsecond)))*time.Microsecond)
}

func (l *life) init(req *wire.InitRequest) error {
	if l.active {
		return shared.ErrExist.Errorf("%s is initialised already", l.prog.info.Name)
	}
	values, err := wire.PropertiesFromProto(req.GetConfig())
	if err != nil {
		return err
	}
	if err := l.prog.config.decode(values); err != nil {
		return err
	}
	if l.prog.init != nil {
		ctx, cancel := l.within(req.GetBudgetUs())
		defer cancel()
		host := &Host{prog: l.prog, id: shared.HelperID(req.GetHelperId()), incarnation: req.GetIncarnation(), control: l.control}
		if err := l.prog.init(ctx, host); err != nil {
			return err
		}
	}
	l.active = true
	return nil
}

func (l *life) fini(req *wire.FiniRequest) error {
	if !l.active {
		return nil
	}
	var err error
	if l.prog.fini != nil {
		ctx, cancel := l.within(req.GetBudgetUs())
		defer cancel()
		err = l.prog.fini(ctx)
	}
	if err == nil || req.GetForce() {
		l.active = false
	}
	return err
}

func (l *life) vote() *wire.AutounloadResult {
	if l.prog.autounload == nil {
		return &wire.AutounloadResult{}
	}
	switch err := l.prog.autounload(l.ctx); {
	case err == nil:
		return &wire.AutounloadResult{Vote: wire.AutounloadVote_AUTOUNLOAD_VOTE_YES}
	case errors.Is(err, NoOpinion):
		return &wire.AutounloadResult{}
	default:
		return &wire.AutounloadResult{Vote: wire.AutounloadVote_AUTOUNLOAD_VOTE_NO, Reason: clip(err.Error())}
	}
}

func (l *life) figures() *wire.StatResult {
	if l.prog.stat == nil {
		return &wire.StatResult{}
	}
	return &wire.StatResult{Values: l.prog.stat(l.ctx)}
}
