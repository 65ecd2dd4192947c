package main

import (
	"context"
	"sync/atomic"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/shared"
	"github.com/khelp/khelp/shared/points/tcpv1"
)

// countName is the helper that khelpd carries in itself.
const countName = "count"

// builtinNames lists the helpers that khelpd carries in itself.
var builtinNames = []string{countName}

// newCount makes the builtin count, which counts calls and bytes at each point of the TCP subsystem. It keeps no data on objects.
func newCount() host.Builtin {
	figures := make(map[string]func() float64, 2*len(tcpv1.Points))
	hooks := make(map[shared.HookPoint]host.BuiltinHook, len(tcpv1.Points))
	for _, point := range tcpv1.Points {
		c := new(counter)
		hooks[point] = c.hook
		figures[string(point)+".calls"] = func() float64 { return float64(c.calls.Load()) }
		figures[string(point)+".bytes"] = func() float64 { return float64(c.bytes.Load()) }
	}
	return host.Builtin{
		Name: countName, Version: "1.0.0", Description: "counts calls and bytes at each point of the TCP subsystem",
		Classes: []shared.Class{"tcp"}, Hooks: hooks,
		Stat: func() map[string]float64 {
			out := make(map[string]float64, len(figures))
			for name, figure := range figures {
				out[name] = figure()
			}
			return out
		},
	}
}

// counter counts at one point.
type counter struct {
	calls, bytes atomic.Uint64
}

func (c *counter) hook(_ context.Context, call *host.BuiltinCall) error {
	n, err := segmentLen(call.Context)
	if err != nil {
		return err
	}
	c.calls.Add(1)
	c.bytes.Add(n)
	return nil
}

// segmentLen reads one field out of a context and allocates nothing. The context is this program's own, which writes fields once and in
// the order of their numbers, so that most of it need not be looked at.
func segmentLen(b []byte) (uint64, error) {
	for len(b) > 0 {
		num, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return 0, shared.ErrInvalid.Errorf("context of a segment: %w", protowire.ParseError(n))
		}
		b = b[n:]
		switch {
		case num == lenField && kind == protowire.VarintType:
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return 0, shared.ErrInvalid.Errorf("context of a segment: %w", protowire.ParseError(n))
			}
			return v, nil
		case num > lenField:
			return 0, nil
		}
		if n = protowire.ConsumeFieldValue(num, kind, b); n < 0 {
			return 0, shared.ErrInvalid.Errorf("context of a segment: %w", protowire.ParseError(n))
		}
		b = b[n:]
	}
	return 0, nil
}

// lenField is the number of tcpv1.Segment's len.
const lenField = 6
