package main

import (
	"fmt"
	"math"
	"time"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/control"
)

// The JSON documents. Names of fields are a contract; a field without omitempty is always there, lists and maps are never null.

type statDocument struct {
	Schema     string           `json:"schema"`
	Generation uint64           `json:"generation"`
	Helpers    []helperDocument `json:"helpers"`
}

type helperDocument struct {
	Name         string            `json:"name"`
	Version      string            `json:"version"`
	ID           uint32            `json:"id"`
	State        string            `json:"state"`
	Classes      []string          `json:"classes"`
	Source       string            `json:"source"`
	Refs         int               `json:"refs"`
	Flags        []string          `json:"flags"`
	Requires     []string          `json:"requires"`
	Hooks        []string          `json:"hooks"`
	PID          int               `json:"pid"`
	Incarnation  uint32            `json:"incarnation"`
	SHA256       string            `json:"sha256"`
	Lane         string            `json:"lane"`
	Restarts     uint64            `json:"restarts"`
	Objects      int               `json:"objects"`
	ObjectBytes  int64             `json:"object_bytes"`
	Calls        uint64            `json:"calls"`
	Committed    uint64            `json:"committed"`
	Missed       map[string]uint64 `json:"missed"`
	Skipped      uint64            `json:"skipped"`
	Autoloaded   bool              `json:"autoloaded"`
	AutounloadAt *time.Time        `json:"autounload_at"` // null: not scheduled
	LastError    string            `json:"last_error"`
	FreesSkipped uint64            `json:"frees_skipped,omitempty"` // ends of slots that a dead process could not be told of
	LateReplies  uint64            `json:"late_replies,omitempty"`  // came after the call had ended, or twice
	StrayReplies uint64            `json:"stray_replies,omitempty"` // to a call that never was
	Values       map[string]any    `json:"values,omitempty"`        // the helper's own figures, if it has any
}

type hooksDocument struct {
	Schema string         `json:"schema"`
	Heads  []headDocument `json:"heads"`
}

type headDocument struct {
	Point     string         `json:"point"`
	Vnet      string         `json:"vnet"`
	Kind      string         `json:"kind"`
	Async     bool           `json:"async"`
	Mutable   bool           `json:"mutable,omitempty"`
	Context   string         `json:"context"`
	Refs      int            `json:"refs"`
	Forwarded uint64         `json:"forwarded"`
	Hooks     []hookDocument `json:"hooks"`
}

type hookDocument struct {
	Helper     string            `json:"helper"`
	Order      string            `json:"order"`
	Calls      uint64            `json:"calls"`
	Committed  uint64            `json:"committed"`
	Missed     map[string]uint64 `json:"missed"`
	Skipped    uint64            `json:"skipped"`
	P50Seconds float64           `json:"p50_seconds"`
	P99Seconds float64           `json:"p99_seconds"`
}

type objectsDocument struct {
	Schema  string           `json:"schema"`
	Objects []objectDocument `json:"objects"`
}

type objectDocument struct {
	ID        uint64            `json:"id"`
	Classes   []string          `json:"classes"`
	Vnet      string            `json:"vnet"`
	Name      string            `json:"name"`
	Forwarded map[string]uint64 `json:"forwarded"`
	Slots     []slotDocument    `json:"slots"`
}

type slotDocument struct {
	Helper  string         `json:"helper"`
	Version string         `json:"version"`
	Bytes   int            `json:"bytes"`
	Values  map[string]any `json:"values"`
}

type versionDocument struct {
	Schema string `json:"schema"`
	buildDocument
	Daemon *buildDocument `json:"daemon"` // null: not running, or not to be asked
}

type buildDocument struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Go       string `json:"go"`
	API      uint32 `json:"api"`
}

// changeDocument answers a command that changed something.
type changeDocument struct {
	Schema string `json:"schema"`
	Action string `json:"action"`
	Name   string `json:"name"`   // as it was given
	Helper string `json:"helper"` // its own name
}

func newStatDocument(st host.Stat) statDocument {
	doc := statDocument{Schema: schemaName, Generation: st.Generation, Helpers: make([]helperDocument, len(st.Helpers))}
	for i := range st.Helpers {
		doc.Helpers[i] = newHelperDocument(&st.Helpers[i])
	}
	return doc
}

func newHelperDocument(h *host.HelperStat) helperDocument {
	doc := helperDocument{
		Name: h.Name, Version: h.Version, ID: uint32(h.ID), State: string(h.State), Classes: stringsOf(h.Classes),
		Source: string(h.Source), Refs: h.Refs, Flags: stringsOf(h.Flags), Requires: stringsOf(h.Requires), Hooks: stringsOf(h.Hooks),
		PID: h.PID, Incarnation: h.Incarnation, SHA256: h.SHA256, Lane: h.Lane, Restarts: h.Restarts,
		Objects: h.Objects, ObjectBytes: h.ObjectBytes, Calls: h.Calls, Committed: h.Committed, Missed: countsOf(h.Missed),
		Skipped: h.Skipped, Autoloaded: h.Autoloaded, LastError: h.LastError, FreesSkipped: h.FreesSkipped,
		LateReplies: h.LateReplies, StrayReplies: h.StrayReplies,
	}
	if !h.AutounloadAt.IsZero() {
		at := h.AutounloadAt.UTC()
		doc.AutounloadAt = &at
	}
	if len(h.Values) > 0 {
		doc.Values = make(map[string]any, len(h.Values))
		for name, v := range h.Values {
			doc.Values[name] = jsonValue(v)
		}
	}
	return doc
}

func newHooksDocument(heads []host.HeadStat) hooksDocument {
	doc := hooksDocument{Schema: schemaName, Heads: make([]headDocument, len(heads))}
	for i := range heads {
		h := &heads[i]
		hooks := make([]hookDocument, len(h.Hooks))
		for j := range h.Hooks {
			k := &h.Hooks[j]
			hooks[j] = hookDocument{
				Helper: k.Helper, Order: k.Order, Calls: k.Calls, Committed: k.Committed, Missed: countsOf(k.Missed),
				Skipped: k.Skipped, P50Seconds: k.P50.Seconds(), P99Seconds: k.P99.Seconds(),
			}
		}
		doc.Heads[i] = headDocument{
			Point: string(h.Point), Vnet: h.Vnet, Kind: h.Kind, Async: h.Async, Mutable: h.Mutable, Context: h.Context,
			Refs: h.Refs, Forwarded: h.Forwarded, Hooks: hooks,
		}
	}
	return doc
}

func newObjectsDocument(objects []host.ObjectStat) objectsDocument {
	doc := objectsDocument{Schema: schemaName, Objects: make([]objectDocument, len(objects))}
	for i := range objects {
		o := &objects[i]
		slots := make([]slotDocument, len(o.Slots))
		for j := range o.Slots {
			s := &o.Slots[j]
			values := make(map[string]any, len(s.Values))
			for name, v := range s.Values {
				values[name] = jsonValue(v)
			}
			slots[j] = slotDocument{Helper: s.Helper, Version: s.Version, Bytes: s.Bytes, Values: values}
		}
		doc.Objects[i] = objectDocument{
			ID: o.ID, Classes: stringsOf(o.Classes), Vnet: o.Vnet, Name: o.Name, Forwarded: countsOf(o.Forwarded), Slots: slots,
		}
	}
	return doc
}

func newBuildDocument(v control.Version) buildDocument {
	return buildDocument{Version: v.Version, Revision: v.Revision, Go: v.Go, API: v.API}
}

// jsonValue makes what JSON has no number for a string: "NaN", "+Inf", "-Inf".
func jsonValue(v any) any {
	switch v := v.(type) {
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Sprint(v)
		}
		return v
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = jsonValue(e)
		}
		return out
	default:
		return v
	}
}

// stringsOf returns a list that is never nil.
func stringsOf[T ~string](in []T) []string {
	out := make([]string, len(in))
	for i, e := range in {
		out[i] = string(e)
	}
	return out
}

// countsOf returns a map that is never nil.
func countsOf[K ~string](in map[K]uint64) map[string]uint64 {
	out := make(map[string]uint64, len(in))
	for k, n := range in {
		out[string(k)] = n
	}
	return out
}
