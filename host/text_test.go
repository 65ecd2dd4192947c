package host_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/hosttest"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/wire"
)

const (
	forged = "hi\x1b[2J\n2026-11-21T00:00:00Z [ERROR] forged"
	harmed = `hi\x1b[2J\n2026-11-21T00:00:00Z [ERROR] forged` // what is to be seen of it
)

// chatty is a hostile helper that sends records before each answer, has figures, and ends its control stream with words of its own
// when it gets the requests that last chooses.
type chatty struct {
	hostile
	records []*wire.LogRecord
	figures map[string]float64
	last    func(*wire.ControlToHelper) bool
}

func (s *chatty) Control(stream grpc.BidiStreamingServer[wire.ControlToHelper, wire.ControlToHost]) error {
	for {
		req, err := stream.Recv()
		if err != nil {
			return err
		}
		for _, r := range s.records {
			if err := stream.Send(&wire.ControlToHost{Body: &wire.ControlToHost_Log{Log: r}}); err != nil {
				return err
			}
		}
		if s.last != nil && s.last(req) {
			return status.Error(codes.Aborted, forged)
		}
		answer := &wire.Answer{Result: &wire.Answer_Stat{Stat: &wire.StatResult{Values: s.figures}}}
		if err := stream.Send(&wire.ControlToHost{Id: req.GetId(), Body: &wire.ControlToHost_Answer{Answer: answer}}); err != nil {
			return err
		}
	}
}

// logged loads a helper into a host of its own and returns what that has logged by then.
func logged(t *testing.T, s *chatty, json bool) string {
	t.Helper()
	var log bytes.Buffer
	s.info = hostileInfo()
	h := hosttest.New(t, host.Config{Logger: hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Trace, JSONFormat: json})})
	dial := serveHelper(t, s)
	if err := h.Load(t.Context(), shared.HelperSpec{Name: "hostile"}, host.LoadOptions{Dial: dial}); err != nil {
		t.Fatal(err)
	}
	if err := h.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	return log.String()
}

// A record that a helper sends is one line of the log, of a length that somebody reads, whatever is in it.
func TestRecordsForgeNoLines(t *testing.T) {
	many := map[string]string{}
	for i := range 100 {
		many[fmt.Sprintf("key%03d", i)] = "v"
	}
	text := logged(t, &chatty{records: []*wire.LogRecord{
		{Level: "warn", Message: forged, Fields: map[string]string{forged: forged}},
		{Level: "loud", Message: "long " + strings.Repeat("x", 3<<20), Fields: map[string]string{"k": strings.Repeat("\n", 1<<18), strings.Repeat("k", 1<<18): ""}},
		{Level: "info", Message: "many", Fields: many},
	}}, false)
	for line := range strings.Lines(text) {
		switch {
		case strings.ContainsAny(strings.TrimSuffix(line, "\n"), "\x1b\r"), strings.HasPrefix(line, "2026-11-21T00:00:00Z"):
			t.Errorf("a forged line: %q", line)
		case len(line) > 16<<10:
			t.Errorf("a line of %d bytes: %.80q", len(line), line)
		}
	}
	for _, want := range []string{"[WARN]  hostile: " + harmed, "[INFO]  hostile: long xxx", "[INFO]  hostile: many: key000=v", "key031=v fields_dropped=68\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("nothing logged has %q in it:\n%.2000s", want, text)
		}
	}
}

// The same in JSON, where the escapes are seen as they are.
func TestRecordsInJSON(t *testing.T) {
	text := logged(t, &chatty{records: []*wire.LogRecord{{Level: "warn", Message: forged, Fields: map[string]string{"why": forged}}}}, true)
	quoted := strings.ReplaceAll(harmed, `\`, `\\`)
	for _, want := range []string{`"@message":"` + quoted + `"`, `"why":"` + quoted + `"`} {
		if !strings.Contains(text, want) {
			t.Errorf("nothing logged has %s in it:\n%s", want, text)
		}
	}
}

// Figures have names of a length that somebody reads, and there are not more of them than that.
func TestFiguresForgeNoLines(t *testing.T) {
	s := &chatty{figures: map[string]float64{forged: 1}}
	s.info = hostileInfo()
	for i := range 1000 {
		s.figures[fmt.Sprintf("z%03d", i)] = 2
	}
	h := hosttest.New(t, host.Config{})
	if err := h.Load(t.Context(), shared.HelperSpec{Name: "hostile"}, host.LoadOptions{Dial: serveHelper(t, s)}); err != nil {
		t.Fatal(err)
	}
	st, err := h.Stat(t.Context(), "hostile")
	if err != nil {
		t.Fatal(err)
	}
	if v := st.Helpers[0].Values; len(v) != 256 || v[harmed] != 1 || v["z254"] != 2 {
		t.Errorf("%d figures, %v under %q", len(v), v[harmed], harmed)
	}
}

// wantHarmless fails unless text has what is to be seen of forged, in one line that is not long.
func wantHarmless(t *testing.T, what, text string) {
	t.Helper()
	if !strings.Contains(text, harmed) || strings.ContainsAny(text, "\x1b\n") || len(text) > shared.MaxText+256 {
		t.Errorf("%s is shown by %d bytes: %.200q", what, len(text), text)
	}
}

// What a helper says of a call, and what it answers to Init, is shown in one printable line.
func TestReasonsForgeNoLines(t *testing.T) {
	long := []byte(forged + strings.Repeat("é", 1<<20))
	r := wire.ReplyView{Verdict: wire.Verdict_VERDICT_REJECT, Message: long}
	v := attack(t, &hostile{reply: func(c *wire.CallView) [][]byte {
		r.Seq = c.Seq
		return [][]byte{reply(r)}
	}})
	for _, what := range []string{"the reason of a reject", "the reason of a failure"} {
		got, err := v.rcv.Run(t.Context(), v.object, nil)
		if err != nil || !got.Rejected {
			t.Fatalf("%+v, %v", got, err)
		}
		wantHarmless(t, what, got.Reason)
		r.Code = shared.CodeInvalid
	}

	refuses := &hostile{info: hostileInfo(), control: func(*wire.ControlToHelper) *wire.Answer {
		return &wire.Answer{Status: &wire.Status{Code: wire.Code_CODE_BUSY, Message: string(long)}}
	}}
	err := hosttest.New(t, host.Config{}).Load(t.Context(), shared.HelperSpec{Name: "hostile"}, host.LoadOptions{Dial: refuses.serve(t)})
	if !errors.Is(err, shared.ErrBusy) {
		t.Fatalf("Load = %v, want ErrBusy", err)
	}
	wantHarmless(t, "why Init failed", err.Error())
}

// So is how it ends its streams, and how it refuses to describe itself.
func TestEndsForgeNoLines(t *testing.T) {
	load := func(t *testing.T, s wire.HelperServer) (*host.Host, error) {
		h := hosttest.New(t, host.Config{})
		err := h.Load(t.Context(), shared.HelperSpec{Name: "hostile"}, host.LoadOptions{Dial: serveHelper(t, s)})
		return h, err
	}
	t.Run("control stream", func(t *testing.T) {
		s := &chatty{last: func(req *wire.ControlToHelper) bool { return req.GetStat() != nil }}
		s.info = hostileInfo()
		h, err := load(t, s)
		if err != nil {
			t.Fatal(err)
		}
		var text string
		hosttest.Until(t, "the end of the control stream", func() bool {
			st, err := h.Stat(t.Context(), "hostile")
			if err != nil {
				t.Fatal(err)
			}
			text = st.Helpers[0].LastError
			return text != ""
		})
		wantHarmless(t, "the end of the control stream", text)
	})
	t.Run("during Init", func(t *testing.T) {
		s := &chatty{last: func(req *wire.ControlToHelper) bool { return req.GetInit() != nil }}
		s.info = hostileInfo()
		_, err := load(t, s)
		if !errors.Is(err, shared.ErrHelperGone) {
			t.Fatalf("Load = %v, want ErrHelperGone", err)
		}
		wantHarmless(t, "the end of the control stream", err.Error())
	})
	t.Run("run stream", func(t *testing.T) {
		v := attack(t, &hostile{end: status.Error(codes.Aborted, forged)})
		got, err := v.rcv.Run(t.Context(), v.object, nil)
		if err != nil || !got.Rejected || got.Cause != shared.CauseCrash {
			t.Fatalf("%+v, %v", got, err)
		}
		wantHarmless(t, "the end of the run stream", got.Reason)
	})
	t.Run("Describe", func(t *testing.T) {
		_, err := load(t, &mute{})
		if !errors.Is(err, shared.ErrNoExec) {
			t.Fatalf("Load = %v, want ErrNoExec", err)
		}
		wantHarmless(t, "why it does not describe itself", err.Error())
	})
}

// mute is a helper that does not say what it is, but has something to say about that.
type mute struct{ hostile }

func (*mute) Describe(context.Context, *wire.DescribeRequest) (*wire.Modinfo, error) {
	return nil, status.Error(codes.PermissionDenied, forged)
}
