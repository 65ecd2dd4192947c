package host_test

import (
	"bytes"
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

// chatty is a hostile helper that sends records before each answer, and may end its control stream with words of its own when it is
// asked for its figures.
type chatty struct {
	hostile
	records []*wire.LogRecord
	end     error
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
		answer := &wire.ControlToHost{Id: req.GetId(), Body: &wire.ControlToHost_Answer{Answer: &wire.Answer{}}}
		if err := stream.Send(answer); err != nil {
			return err
		}
		if s.end != nil && req.GetStat() != nil {
			return s.end
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

// What a helper says of a call, of Init and of the end of its streams is shown in one printable line.
func TestReasonsForgeNoLines(t *testing.T) {
	wantText := func(what, got string) {
		t.Helper()
		if !strings.Contains(got, harmed) || strings.ContainsAny(got, "\x1b\n") || len(got) > shared.MaxText+256 {
			t.Errorf("%s is shown by %d bytes: %.200q", what, len(got), got)
		}
	}
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
		wantText(what, got.Reason)
		r.Code = shared.CodeInvalid
	}

	refuses := &hostile{info: hostileInfo(), control: func(*wire.ControlToHelper) *wire.Answer {
		return &wire.Answer{Status: &wire.Status{Code: wire.Code_CODE_BUSY, Message: string(long)}}
	}}
	h := hosttest.New(t, host.Config{})
	err := h.Load(t.Context(), shared.HelperSpec{Name: "hostile"}, host.LoadOptions{Dial: refuses.serve(t)})
	if !errors.Is(err, shared.ErrBusy) {
		t.Fatalf("Load = %v, want ErrBusy", err)
	}
	wantText("why Init failed", err.Error())

	ends := &chatty{end: status.Error(codes.Aborted, forged)}
	ends.info = hostileInfo()
	if err := h.Load(t.Context(), shared.HelperSpec{Name: "hostile"}, host.LoadOptions{Dial: serveHelper(t, ends)}); err != nil {
		t.Fatal(err)
	}
	var last string
	hosttest.Until(t, "the end of the control stream", func() bool {
		st, err := h.Stat(t.Context(), "hostile")
		if err != nil {
			t.Fatal(err)
		}
		last = st.Helpers[0].LastError
		return last != ""
	})
	wantText("why a stream ended", last)
}
