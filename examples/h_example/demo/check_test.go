package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// good is what khelpd says of one connection at rest, in the form of its JSON.
const good = `{
  "helpers": [{"name": "h_example", "pid": 7, "missed": {}}],
  "heads": [
    {"point": "socket.rcv", "forwarded": 4, "hooks": []},
    {"point": "tcp.est_in", "forwarded": 4, "hooks": [{"helper": "h_example", "committed": 4, "missed": {}, "skipped": 0}]},
    {"point": "tcp.est_out", "forwarded": 5, "hooks": [{"helper": "h_example", "committed": 5, "missed": {}, "skipped": 0}]}
  ],
  "objects": [{
    "name": "1.1.1.1:1->2.2.2.2:2", "forwarded": {"tcp.est_in": 4, "tcp.est_out": 5},
    "slots": [{"helper": "h_example", "values": {"est_in": 4, "est_out": 5}}]
  }]
}`

func parseState(t *testing.T, text string) *state {
	t.Helper()
	st := &state{}
	if err := json.Unmarshal([]byte(text), st); err != nil {
		t.Fatal(err)
	}
	return st
}

// judge gives the whole verdict on a state at rest and the same one after the end of its connections.
func judge(t *testing.T, rest *state, requests uint64) (printed string, err error) {
	t.Helper()
	end := *rest
	end.Objects = nil
	var v verdict
	v.connections(rest, map[string]uint64{"1.1.1.1:1": requests})
	v.total(&end, requests)
	var out bytes.Buffer
	err = v.print(&out)
	return out.String(), err
}

func TestVerdict_Good(t *testing.T) {
	st := parseState(t, good)
	if !st.settled(1) || st.settled(2) {
		t.Error("it has settled with one connection, and not with two")
	}
	out, err := judge(t, st, 4)
	if err != nil || strings.Contains(out, "WRONG") || !strings.Contains(out, "Every segment was counted.") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestVerdict_Bad spoils the good state in every way that counts; each must be wrong, and the sentence must say where.
func TestVerdict_Bad(t *testing.T) {
	for name, c := range map[string]struct {
		old, new string
		settled  bool // all calls have ended, so there is nothing to wait for
		says     string
	}{
		"connection counted short": {`"est_in": 4, "est_out": 5`, `"est_in": 3, "est_out": 5`, false, "1.1.1.1:1: tcp.est_in: 4 forwarded, but 3 counted"},
		"connection counted twice": {`"est_in": 4, "est_out": 5`, `"est_in": 4, "est_out": 6`, false, "tcp.est_out: 5 forwarded, but 6 counted"},
		"no values":                {`"est_in": 4, "est_out": 5`, ``, false, "1.1.1.1:1: its counts are not shown"},
		"not followed":             {`"slots": [{"helper": "h_example"`, `"slots": [{"helper": "other"`, false, "h_example does not follow it"},
		"a stranger":               {`1.1.1.1:1->`, `1.1.1.1:9->`, true, "1.1.1.1:9: it is none of the demo's"},
		"still under way":          {`"committed": 5`, `"committed": 4`, false, "in all: tcp.est_out: 5 forwarded, but 4 counted"},
		"missed":                   {`"committed": 5, "missed": {}`, `"committed": 4, "missed": {"timeout": 1}`, true, "on tcp.est_out h_example missed timeout 1"},
		"missed in stat":           {`"pid": 7, "missed": {}`, `"pid": 7, "missed": {"crash": 2, "bad_reply": 1}`, true, "stat: h_example missed bad_reply 1, crash 2"},
		"skipped":                  {`"committed": 5, "missed": {}, "skipped": 0`, `"committed": 4, "missed": {}, "skipped": 1`, true, "skipped 1"},
		"no hook":                  {`"hooks": [{"helper": "h_example", "committed": 4`, `"hooks": [{"helper": "other", "committed": 4`, false, "h_example has no hook on tcp.est_in"},
		"no point":                 {`"point": "tcp.est_in"`, `"point": "tcp.est"`, false, "there is no point tcp.est_in"},
		"segment of nobody":        {`"forwarded": 4, "hooks": [{"helper": "h_example", "committed": 4`, `"forwarded": 6, "hooks": [{"helper": "h_example", "committed": 6`, false, "tcp.est_in of all connections together: 4, not 6"},
	} {
		t.Run(name, func(t *testing.T) {
			if n := strings.Count(good, c.old); n != 1 {
				t.Fatalf("%q stands %d times in the good state", c.old, n)
			}
			st := parseState(t, strings.Replace(good, c.old, c.new, 1))
			if st.settled(1) != c.settled {
				t.Errorf("settled is %v, want %v", !c.settled, c.settled)
			}
			out, err := judge(t, st, 4)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("the verdict is %v, want it to say %q", err, c.says)
			}
			if !strings.Contains(out, "WRONG") || strings.Contains(out, "Every segment was counted.") {
				t.Errorf("the table does not show it:\n%s", out)
			}
		})
	}
}

// TestVerdict_Idle: counts that agree prove nothing if there was no traffic.
func TestVerdict_Idle(t *testing.T) {
	if _, err := judge(t, parseState(t, good), 5); err == nil || !strings.Contains(err.Error(), "cannot be all of 5 requests") {
		t.Errorf("4 segments cannot be 5 requests, but the verdict is %v", err)
	}
}
