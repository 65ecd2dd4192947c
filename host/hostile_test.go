package host_test

import (
	"cmp"
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hhook"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/host/hosttest/testkit"
	"github.com/khelp/khelp/host/osd"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

// hostile is a helper that speaks the protocol by hand, to say what no honest helper would.
type hostile struct {
	wire.UnimplementedHelperServer
	info *wire.Modinfo
	// reply returns the frames with which a call is answered, each sent as it is. Nil: the call is answered in order.
	reply func(c *wire.CallView) [][]byte
	// run serves the Run stream. Nil: by reply.
	run       func(stream grpc.BidiStreamingServer[wire.CallFrame, wire.ReplyFrame]) error
	end       error  // if set, the run stream ends with it at the first call
	described func() // called before it describes itself; nil: nothing
	// control answers a request of the host. Nil: with success.
	control  func(req *wire.ControlToHelper) *wire.Answer
	requests chan *wire.ControlToHost // sent to the host; nil: none
	answers  chan *wire.Answer        // to those, with requests
	// timeout is the deadline of a call. Zero: one that only a bug reaches.
	timeout time.Duration
}

func hostileInfo() *wire.Modinfo {
	return wire.ModinfoToProto(&shared.Modinfo{
		Name: "hostile", Version: "1.0.0", API: shared.APIGeneration, Classes: []shared.Class{"tcp"}, NeedsOSD: true,
		OSD:   shared.OSDInfo{HasTemplate: true, Template: []byte("template"), MaxBytes: 16},
		Hooks: []shared.HookInfo{{Point: "tcp.est_in"}, {Point: "socket.rcv", Index: 1}},
	})
}

func (s *hostile) Describe(context.Context, *wire.DescribeRequest) (*wire.Modinfo, error) {
	if s.described != nil {
		s.described()
	}
	return s.info, nil
}

// asking returns a function with which the helper makes a request to its host, once it is loaded; one at a time.
func (s *hostile) asking() func(*wire.ControlToHost) error {
	s.requests, s.answers = make(chan *wire.ControlToHost), make(chan *wire.Answer, 1)
	id := uint64(0)
	return func(req *wire.ControlToHost) error {
		id++
		patience := time.After(testkit.Patience)
		select {
		case s.requests <- &wire.ControlToHost{Id: id, Body: req.GetBody()}:
		case <-patience:
			return errors.New("the helper has no stream to ask on")
		}
		select {
		case a := <-s.answers:
			return a.GetStatus().Err()
		case <-patience:
			return errors.New("the host does not answer")
		}
	}
}

func (s *hostile) Control(stream grpc.BidiStreamingServer[wire.ControlToHelper, wire.ControlToHost]) error {
	var sending sync.Mutex // serialises sends
	if s.requests != nil {
		go func() {
			for {
				select {
				case req := <-s.requests:
					sending.Lock()
					_ = stream.Send(req) // the receiver learns of its end
					sending.Unlock()
				case <-stream.Context().Done():
					return
				}
			}
		}()
	}
	for {
		req, err := stream.Recv()
		if err != nil {
			return err
		}
		if a := req.GetAnswer(); a != nil && s.answers != nil {
			s.answers <- a
			continue
		}
		answer := &wire.Answer{}
		if s.control != nil {
			if answer = s.control(req); answer == nil {
				continue
			}
		}
		sending.Lock()
		err = stream.Send(&wire.ControlToHost{Id: req.GetId(), Body: &wire.ControlToHost_Answer{Answer: answer}})
		sending.Unlock()
		if err != nil {
			return err
		}
	}
}

func (s *hostile) Run(stream grpc.BidiStreamingServer[wire.CallFrame, wire.ReplyFrame]) error {
	if s.run != nil {
		return s.run(stream)
	}
	var frame wire.RawFrame
	for {
		if err := stream.RecvMsg(&frame); err != nil {
			return err
		}
		var c wire.CallView
		for rest := frame.Buf; len(rest) > 0; {
			var err error
			if rest, err = wire.NextCall(rest, &c); err != nil {
				return err
			}
			if s.end != nil {
				return s.end
			}
			replies := [][]byte{wire.AppendReply(nil, &wire.ReplyView{Seq: c.Seq})}
			if s.reply != nil {
				replies = s.reply(&c)
			}
			for _, r := range replies {
				if err := stream.SendMsg(&wire.RawFrame{Buf: r}); err != nil {
					return err
				}
			}
		}
	}
}

func (s *hostile) serve(t testing.TB) host.Dialer { return serveHelper(t, s) }

// serveHelper serves a helper in this process.
func serveHelper(t testing.TB, s wire.HelperServer) host.Dialer {
	lis := bufconn.Listen(1 << 20)
	server := grpc.NewServer(grpc.ForceServerCodecV2(wire.Codec{}))
	wire.RegisterHelperServer(server, s)
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(lis) }) // it ends with Stop
	t.Cleanup(func() { server.Stop(); wg.Wait() })
	return func(ctx context.Context) (net.Conn, error) { return lis.DialContext(ctx) }
}

// victim is a host that has loaded a hostile helper, with an observe and a filter head, and one object.
type victim struct {
	host   *host.Host
	in     *hhook.Head // observe, synchronous
	rcv    *hhook.Head // filter
	object *osd.Object
}

func attack(t *testing.T, s *hostile) *victim {
	t.Helper()
	testkit.CheckLeaks(t)
	if s.info == nil {
		s.info = hostileInfo()
	}
	v := &victim{host: hosttest.New(t, host.Config{})}
	var err error
	if v.in, err = v.host.RegisterHead("tcp.est_in", hhook.Options{Budget: testkit.Patience}); err != nil {
		t.Fatal(err)
	}
	if v.rcv, err = v.host.RegisterHead("socket.rcv", hhook.Options{Kind: hhook.Filter, Budget: testkit.Patience}); err != nil {
		t.Fatal(err)
	}
	spec := shared.HelperSpec{Name: "hostile", Timeout: cmp.Or(s.timeout, testkit.Patience)}
	if err = v.host.Load(t.Context(), spec, host.LoadOptions{Dial: s.serve(t)}); err != nil {
		t.Fatal(err)
	}
	if v.object, err = v.host.NewObject(t.Context(), "tcp"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.object.Destroy(context.Background()) }) // what it says of a dead helper is not this test's affair
	return v
}

func (v *victim) data() string { return string(v.object.Slots()[0].Bytes()) }

func reply(r wire.ReplyView) []byte { return wire.AppendReply(nil, &r) }

func TestBadReplies(t *testing.T) {
	verdict := func(n int) wire.Verdict { return wire.Verdict(n) }
	for _, c := range []struct {
		name  string
		cause shared.Cause
		says  string
		reply func(c *wire.CallView) [][]byte
	}{
		{"garbage", shared.CauseBadReply, "malformed frame", func(*wire.CallView) [][]byte { return [][]byte{[]byte("\xff\xff\xff")} }},
		{"frame over the limit", shared.CauseBadReply, "larger than max", func(*wire.CallView) [][]byte { return [][]byte{make([]byte, wire.MaxFrame+1)} }},
		{"data over its slot", shared.CauseBadReply, "17 bytes of data, a slot holds 16", func(c *wire.CallView) [][]byte {
			return [][]byte{reply(wire.ReplyView{Seq: c.Seq, HasData: true, Data: make([]byte, 17)})}
		}},
		{"an error", shared.CauseBadReply, "boom", func(c *wire.CallView) [][]byte {
			return [][]byte{reply(wire.ReplyView{Seq: c.Seq, Code: shared.CodeInvalid, Message: []byte("boom"), HasData: true, Data: []byte("evil")})}
		}},
		{"unknown hook index", shared.CauseBadReply, "no such hook", func(c *wire.CallView) [][]byte {
			return [][]byte{reply(wire.ReplyView{Seq: c.Seq, Code: shared.CodeNotExist, Message: []byte("no such hook")})}
		}},
		{"unknown verdict", shared.CauseBadReply, "verdict 7", func(c *wire.CallView) [][]byte {
			return [][]byte{reply(wire.ReplyView{Seq: c.Seq, Verdict: verdict(7), HasData: true, Data: []byte("evil")})}
		}},
		{"context on a head that is not mutable", shared.CauseBadReply, "not mutable", func(c *wire.CallView) [][]byte {
			return [][]byte{reply(wire.ReplyView{Seq: c.Seq, HasContext: true, HasData: true, Data: []byte("evil")})}
		}},
		{"never", shared.CauseTimeout, "no reply within", func(*wire.CallView) [][]byte { return nil }},
		{"to a number never given out", shared.CauseTimeout, "no reply within", func(c *wire.CallView) [][]byte {
			return [][]byte{reply(wire.ReplyView{Seq: c.Seq ^ 1<<40, HasData: true, Data: []byte("evil")})}
		}},
		{"to the next call of a chain that has none", shared.CauseBadReply, "out of order", func(c *wire.CallView) [][]byte {
			return [][]byte{reply(wire.ReplyView{Seq: c.Seq + 1, HasData: true, Data: []byte("evil")})}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &hostile{reply: c.reply}
			if c.cause == shared.CauseTimeout {
				s.timeout = 50 * time.Millisecond
			}
			v := attack(t, s)
			got, err := v.rcv.Run(t.Context(), v.object, []byte("context"))
			if err != nil || !got.Rejected || got.Cause != c.cause || got.Helper != "hostile" || !strings.Contains(got.Reason, c.says) {
				t.Errorf("filter: %+v, %v; want a reject by %s that says %q", got, err, c.cause, c.says)
			}
			if !errors.Is(got.Err(), shared.ErrRejected) {
				t.Errorf("Err() = %v", got.Err())
			}
			if got, err := v.in.Run(t.Context(), v.object, nil); err != nil || got.Rejected {
				t.Errorf("observe: %+v, %v; want it to go on", got, err)
			}
			if v.data() != "template" {
				t.Errorf("data = %q, changed by a reply that failed", v.data())
			}
			for _, head := range v.host.Hooks() {
				if h := head.Hooks[0]; h.Committed != 0 || h.Calls != 1 || len(h.Missed) != 1 {
					t.Errorf("%s counts %+v; want one missed call", head.Point, h)
				}
			}
		})
	}
}

// A reply that comes twice counts once, and one that comes too late not at all.
func TestO4_LateAndDoubledReplies(t *testing.T) {
	var held []byte
	s := &hostile{timeout: 500 * time.Millisecond} // for the one that is held; the others must be in time
	s.reply = func(c *wire.CallView) [][]byte {
		switch string(c.Context) {
		case "hold":
			held = reply(wire.ReplyView{Seq: c.Seq, HasData: true, Data: []byte("late")})
			return nil
		case "twice":
			return [][]byte{
				reply(wire.ReplyView{Seq: c.Seq, HasData: true, Data: []byte("once")}),
				reply(wire.ReplyView{Seq: c.Seq, HasData: true, Data: []byte("twice")}),
			}
		default:
			return [][]byte{held, reply(wire.ReplyView{Seq: c.Seq})}
		}
	}
	v := attack(t, s)
	for _, step := range []struct {
		context, data string
		committed     uint64
	}{{"hold", "template", 0}, {"release", "template", 1}, {"twice", "once", 2}, {"release", "once", 3}} {
		if _, err := v.in.Run(t.Context(), v.object, []byte(step.context)); err != nil {
			t.Fatal(err)
		}
		hook := v.in.Hooks()[0].Stats().Read()
		if v.data() != step.data || hook.Committed != step.committed {
			t.Errorf("after %q: data %q, committed %d; want %q, %d", step.context, v.data(), hook.Committed, step.data, step.committed)
		}
	}
	st, err := v.host.Stat(t.Context(), "hostile")
	if err != nil || st.Helpers[0].LateReplies != 3 || st.Helpers[0].StrayReplies != 0 {
		t.Errorf("late %d, stray %d, %v; want 3 late", st.Helpers[0].LateReplies, st.Helpers[0].StrayReplies, err)
	}
}

// A reject commits the data of the hook that says it.
func TestO4_RejectCommits(t *testing.T) {
	v := attack(t, &hostile{reply: func(c *wire.CallView) [][]byte {
		return [][]byte{reply(wire.ReplyView{
			Seq: c.Seq, Verdict: wire.Verdict_VERDICT_REJECT, Message: []byte("not today"), HasData: true, Data: []byte("seen"),
		})}
	}})
	got, err := v.rcv.Run(t.Context(), v.object, nil)
	if err != nil || !got.Rejected || got.Cause != shared.CauseNone || got.Reason != "not today" || v.data() != "seen" {
		t.Errorf("%+v, %v, data %q", got, err, v.data())
	}
	if got, err := v.in.Run(t.Context(), v.object, nil); err != nil || got.Rejected {
		t.Errorf("an observe head rejects: %+v, %v", got, err)
	}
}

func TestBadModinfo(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*wire.Modinfo)
		want error
		says string
	}{
		{"no name", func(m *wire.Modinfo) { m.Name = "" }, shared.ErrInvalid, "helper name is empty"},
		{"another name", func(m *wire.Modinfo) { m.Name = "friendly" }, shared.ErrInvalid, `"hostile", but it says its name is "friendly"`},
		{"a name too long", func(m *wire.Modinfo) { m.Name = strings.Repeat("x", 64) }, shared.ErrNameTooLong, "64 bytes"},
		{"another api", func(m *wire.Modinfo) { m.Api = 99 }, shared.ErrIncompatible, "API generation 99"},
		{"a bad point", func(m *wire.Modinfo) { m.Hooks[0].Point = "tcp" }, shared.ErrInvalid, "subsystem.point"},
		{"a hook twice", func(m *wire.Modinfo) { m.Hooks = append(m.Hooks, m.Hooks[0]) }, shared.ErrExist, "twice"},
		{"O2 neither template nor New", func(m *wire.Modinfo) { m.Osd.Template = nil }, shared.ErrInvalid, "neither a template nor New"},
		{"O7 slots over the limit", func(m *wire.Modinfo) { m.Osd.MaxBytes = shared.MaxSlot + 1 }, shared.ErrTooLarge, "the limit is"},
		{"itself required", func(m *wire.Modinfo) { m.Requires = []*wire.Requirement{{Name: "hostile"}} }, shared.ErrDeadlock, "hostile → hostile"},
		{"nothing to be required", func(m *wire.Modinfo) { m.Requires = []*wire.Requirement{{Name: "ghost"}} }, shared.ErrNotExist, "ghost"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &hostile{info: hostileInfo()}
			c.edit(s.info)
			h := hosttest.New(t, host.Config{})
			err := h.Load(t.Context(), shared.HelperSpec{Name: "hostile"}, host.LoadOptions{Dial: s.serve(t)})
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("Load = %v; want %v that says %q", err, c.want, c.says)
			}
			st, err := h.Stat(t.Context(), "")
			if err != nil || len(st.Helpers) != 0 || st.Generation != 0 {
				t.Errorf("something stays behind: %+v, %v", st, err)
			}
		})
	}
}
