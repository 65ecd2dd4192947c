package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// The parts of khelpd's JSON that are looked at.

type state struct {
	Helpers []helperState `json:"helpers"`
	Heads   []headState   `json:"heads"`
	Objects []objectState `json:"objects"`
}

type helperState struct {
	Name   string `json:"name"`
	PID    int    `json:"pid"`
	Missed misses `json:"missed"`
}

type headState struct {
	Point     string      `json:"point"`
	Forwarded uint64      `json:"forwarded"`
	Hooks     []hookState `json:"hooks"`
}

type hookState struct {
	Helper    string `json:"helper"`
	Committed uint64 `json:"committed"`
	Missed    misses `json:"missed"`
	Skipped   uint64 `json:"skipped"`
}

type objectState struct {
	Name      string            `json:"name"` // client->proxy
	Forwarded map[string]uint64 `json:"forwarded"`
	Slots     []slotState       `json:"slots"`
}

type slotState struct {
	Helper string `json:"helper"`
	Values struct {
		EstIn  *uint64 `json:"est_in"`
		EstOut *uint64 `json:"est_out"`
	} `json:"values"`
}

// misses counts calls that did not commit, by cause.
type misses map[string]uint64

func (m misses) sum() uint64 {
	var sum uint64
	for _, n := range m {
		sum += n
	}
	return sum
}

// The example helper and its two points.
const (
	helperName = "h_example"
	pointIn    = "tcp.est_in"
	pointOut   = "tcp.est_out"
)

// tally is one comparison: what the proxy forwarded, by its own count, and what the helper counted of it.
type tally struct{ forwarded, counted uint64 }

func (t tally) String() string { return fmt.Sprintf("%d = %d", t.forwarded, t.counted) }

func (t tally) problem(point string, least uint64) error {
	switch {
	case t.forwarded != t.counted:
		return fmt.Errorf("%s: %d forwarded, but %d counted", point, t.forwarded, t.counted)
	case t.forwarded < least:
		return fmt.Errorf("%s: %d forwarded, which cannot be all of %d requests", point, t.forwarded, least)
	}
	return nil
}

// head returns how a point and the helper's hook on it stand. Without the point or the hook it is an error.
func (s *state) head(point string) (headState, hookState, error) {
	for _, h := range s.Heads {
		if h.Point != point {
			continue
		}
		for _, k := range h.Hooks {
			if k.Helper == helperName {
				return h, k, nil
			}
		}
		return h, hookState{}, fmt.Errorf("%s has no hook on %s", helperName, point)
	}
	return headState{}, hookState{}, fmt.Errorf("there is no point %s", point)
}

// tallies compares the two points of a connection.
func (o *objectState) tallies() (in, out tally, err error) {
	i := slices.IndexFunc(o.Slots, func(s slotState) bool { return s.Helper == helperName })
	if i < 0 {
		return in, out, fmt.Errorf("%s does not follow it", helperName)
	}
	v := o.Slots[i].Values
	if v.EstIn == nil || v.EstOut == nil {
		return in, out, errors.New("its counts are not shown")
	}
	return tally{o.Forwarded[pointIn], *v.EstIn}, tally{o.Forwarded[pointOut], *v.EstOut}, nil
}

// settled reports whether n connections are open and every call made for a segment has come to its end, well or not. State is read
// piece by piece, so with connections open their segments must add up to those of the points as well.
func (s *state) settled(n int) bool {
	if len(s.Objects) != n {
		return false
	}
	for _, point := range []string{pointIn, pointOut} {
		head, hook, err := s.head(point)
		if err != nil || head.Forwarded != hook.Committed+hook.Missed.sum()+hook.Skipped {
			return false
		}
		if n > 0 && s.forwarded(point) != head.Forwarded {
			return false
		}
	}
	// Counts of a connection can be behind for good only if calls were missed, and then the verdict tells.
	return !slices.ContainsFunc(s.Objects, func(o objectState) bool {
		in, out, err := o.tallies()
		return err != nil || in.forwarded != in.counted || out.forwarded != out.counted
	})
}

// forwarded adds up what all connections forwarded at a point.
func (s *state) forwarded(point string) uint64 {
	var sum uint64
	for _, o := range s.Objects {
		sum += o.Forwarded[point]
	}
	return sum
}

func (s *state) helperPIDs() []int {
	var pids []int
	for _, h := range s.Helpers {
		if h.PID != 0 {
			pids = append(pids, h.PID)
		}
	}
	return pids
}

// problems lists every call that was missed or skipped, wherever khelpd shows it.
func (s *state) problems() error {
	var errs []error
	for _, h := range s.Helpers {
		if h.Missed.sum() > 0 {
			errs = append(errs, fmt.Errorf("stat: %s missed %v", h.Name, h.Missed))
		}
	}
	for _, h := range s.Heads {
		for _, k := range h.Hooks {
			if k.Missed.sum() > 0 || k.Skipped > 0 {
				errs = append(errs, fmt.Errorf("hooks: on %s %s missed %v and skipped %d", h.Point, k.Helper, k.Missed, k.Skipped))
			}
		}
	}
	return errors.Join(errs...)
}

// verdict is what came out: a row for each connection and for all, and single facts.
type verdict struct {
	rows  []row
	facts []fact
}

type row struct {
	name     string
	requests uint64
	in, out  tally
	err      error
}

type fact struct {
	what      string
	got, want uint64
}

func (v *verdict) fact(what string, got, want uint64) {
	v.facts = append(v.facts, fact{what, got, want})
}

// connections judges the connections at rest. answered has the number of requests by client.
func (v *verdict) connections(s *state, answered map[string]uint64) {
	for _, o := range s.Objects {
		client, _, _ := strings.Cut(o.Name, "->")
		r := row{name: client}
		var known bool
		if r.requests, known = answered[client]; !known {
			r.err = errors.New("it is none of the demo's")
		}
		var err error
		r.in, r.out, err = o.tallies()
		r.err = errors.Join(r.err, err, r.in.problem(pointIn, r.requests), r.out.problem(pointOut, r.requests))
		v.rows = append(v.rows, r)
	}
	v.fact("connections that khelpd followed", uint64(len(s.Objects)), uint64(len(answered)))
	for _, point := range []string{pointIn, pointOut} {
		head, _, _ := s.head(point) // a point that is not there is judged by total
		v.fact(point+" of all connections together", s.forwarded(point), head.Forwarded)
	}
}

// total judges the points when all connections have ended.
func (v *verdict) total(s *state, requests uint64) {
	r := row{name: "in all", requests: requests, err: s.problems()}
	for point, t := range map[string]*tally{pointIn: &r.in, pointOut: &r.out} {
		head, hook, err := s.head(point)
		*t = tally{head.Forwarded, hook.Committed}
		r.err = errors.Join(r.err, err, t.problem(point, requests))
	}
	v.rows = append(v.rows, r)
	v.fact("connections left open", uint64(len(s.Objects)), 0)
	missed := uint64(0)
	for _, h := range s.Helpers {
		missed += h.Missed.sum()
	}
	v.fact("calls missed", missed, 0)
}

// print writes the verdict as tables. Its error says in a sentence what is wrong, if anything is.
func (v *verdict) print(out io.Writer) error {
	var wrong []string
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "\nVerdict: forwarded by the proxy = counted by the helper\n\n")
	fmt.Fprintln(w, "CONNECTION\tREQUESTS\tTCP.EST_IN\tTCP.EST_OUT\tVERDICT")
	for _, r := range v.rows {
		fmt.Fprintf(w, "%s\t%d\t%v\t%v\t%s\n", r.name, r.requests, r.in, r.out, word(r.err == nil))
		if r.err != nil {
			wrong = append(wrong, r.name+": "+strings.ReplaceAll(r.err.Error(), "\n", "; "))
		}
	}
	fmt.Fprintln(w, "\nFACT\tFOUND\tEXPECTED\tVERDICT")
	for _, f := range v.facts {
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\n", f.what, f.got, f.want, word(f.got == f.want))
		if f.got != f.want {
			wrong = append(wrong, fmt.Sprintf("%s: %d, not %d", f.what, f.got, f.want))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(wrong) > 0 {
		return errors.New("not as it should be: " + strings.Join(wrong, "; "))
	}
	fmt.Fprintln(out, "\nEvery segment was counted.")
	return nil
}

func word(good bool) string {
	if good {
		return "ok"
	}
	return "WRONG"
}

// String lists causes in alphabetical order.
func (m misses) String() string {
	if m.sum() == 0 {
		return "nothing"
	}
	var parts []string
	for _, cause := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%s %d", cause, m[cause]))
	}
	return strings.Join(parts, ", ")
}
