package control

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/control/controlv1"
	"github.com/khelp/khelp/shared"
)

func helperToProto(h *host.HelperStat) *controlv1.Helper {
	out := &controlv1.Helper{
		Name: h.Name, Version: h.Version, Id: uint32(h.ID), State: string(h.State),
		Classes: toStrings(h.Classes), Source: string(h.Source), Refs: int64(h.Refs),
		Flags: h.Flags, Requires: h.Requires, Hooks: toStrings(h.Hooks),
		Pid: int64(h.PID), Incarnation: h.Incarnation, Sha256: h.SHA256, Lane: h.Lane, Restarts: h.Restarts,
		Objects: int64(h.Objects), FreesSkipped: h.FreesSkipped, ObjectBytes: h.ObjectBytes,
		Calls: h.Calls, Committed: h.Committed, Missed: toStringKeys(h.Missed), Skipped: h.Skipped,
		Autoloaded: h.Autoloaded, LastError: validText(h.LastError), Values: h.Values,
		LateReplies: h.LateReplies, StrayReplies: h.StrayReplies,
	}
	if !h.AutounloadAt.IsZero() {
		out.AutounloadAt = timestamppb.New(h.AutounloadAt)
	}
	return out
}

func helperFromProto(h *controlv1.Helper) host.HelperStat {
	out := host.HelperStat{
		Name: h.GetName(), Version: h.GetVersion(), ID: shared.HelperID(h.GetId()), State: shared.State(h.GetState()),
		Classes: fromStrings[shared.Class](h.GetClasses()), Source: shared.Source(h.GetSource()), Refs: int(h.GetRefs()),
		Flags: h.GetFlags(), Requires: h.GetRequires(), Hooks: fromStrings[shared.HookPoint](h.GetHooks()),
		PID: int(h.GetPid()), Incarnation: h.GetIncarnation(), SHA256: h.GetSha256(), Lane: h.GetLane(), Restarts: h.GetRestarts(),
		Objects: int(h.GetObjects()), FreesSkipped: h.GetFreesSkipped(), ObjectBytes: h.GetObjectBytes(),
		Calls: h.GetCalls(), Committed: h.GetCommitted(), Missed: fromStringKeys[shared.Cause](h.GetMissed()), Skipped: h.GetSkipped(),
		Autoloaded: h.GetAutoloaded(), LastError: h.GetLastError(), Values: h.GetValues(),
		LateReplies: h.GetLateReplies(), StrayReplies: h.GetStrayReplies(),
	}
	if at := h.GetAutounloadAt(); at != nil {
		out.AutounloadAt = at.AsTime()
	}
	return out
}

func headToProto(h *host.HeadStat) *controlv1.Head {
	out := &controlv1.Head{
		Point: string(h.Point), Vnet: h.Vnet, Kind: h.Kind, Async: h.Async, Mutable: h.Mutable, Context: h.Context,
		Refs: int64(h.Refs), Forwarded: h.Forwarded,
	}
	for i := range h.Hooks {
		k := &h.Hooks[i]
		out.Hooks = append(out.Hooks, &controlv1.Hook{
			Helper: k.Helper, Order: k.Order, Calls: k.Calls, Committed: k.Committed, Missed: toStringKeys(k.Missed),
			Skipped: k.Skipped, P50: durationpb.New(k.P50), P99: durationpb.New(k.P99),
		})
	}
	return out
}

func headFromProto(h *controlv1.Head) host.HeadStat {
	out := host.HeadStat{
		Point: shared.HookPoint(h.GetPoint()), Vnet: h.GetVnet(), Kind: h.GetKind(), Async: h.GetAsync(), Mutable: h.GetMutable(),
		Context: h.GetContext(), Refs: int(h.GetRefs()), Forwarded: h.GetForwarded(),
	}
	for _, k := range h.GetHooks() {
		out.Hooks = append(out.Hooks, host.HookStat{
			Helper: k.GetHelper(), Order: k.GetOrder(), Calls: k.GetCalls(), Committed: k.GetCommitted(),
			Missed: fromStringKeys[shared.Cause](k.GetMissed()), Skipped: k.GetSkipped(),
			P50: k.GetP50().AsDuration(), P99: k.GetP99().AsDuration(),
		})
	}
	return out
}

func objectToProto(o *host.ObjectStat) *controlv1.Object {
	out := &controlv1.Object{
		Id: o.ID, Classes: toStrings(o.Classes), Vnet: o.Vnet, Name: o.Name, Forwarded: toStringKeys(o.Forwarded),
	}
	for i := range o.Slots {
		s := &o.Slots[i]
		slot := &controlv1.Slot{Helper: s.Helper, Version: s.Version, Bytes: int64(s.Bytes)}
		if len(s.Values) > 0 {
			slot.Values = make(map[string]*controlv1.Value, len(s.Values))
		}
		for name, v := range s.Values {
			slot.Values[name] = showValue(v)
		}
		out.Slots = append(out.Slots, slot)
	}
	return out
}

func objectFromProto(o *controlv1.Object) host.ObjectStat {
	out := host.ObjectStat{
		ID: o.GetId(), Classes: fromStrings[shared.Class](o.GetClasses()), Vnet: o.GetVnet(), Name: o.GetName(),
		Forwarded: fromStringKeys[shared.HookPoint](o.GetForwarded()),
	}
	for _, s := range o.GetSlots() {
		out.Slots = append(out.Slots, host.SlotStat{
			Helper: s.GetHelper(), Version: s.GetVersion(), Bytes: int(s.GetBytes()), Values: valuesFromProto(s.GetValues()),
		})
	}
	return out
}

// valueToProto carries what a property or a field of object data may hold. Anything else is ErrInvalid.
func valueToProto(v any) (*controlv1.Value, error) {
	switch v := v.(type) {
	case string:
		return &controlv1.Value{Kind: &controlv1.Value_StringValue{StringValue: v}}, nil
	case bool:
		return &controlv1.Value{Kind: &controlv1.Value_BoolValue{BoolValue: v}}, nil
	case int:
		return &controlv1.Value{Kind: &controlv1.Value_IntValue{IntValue: int64(v)}}, nil
	case int64:
		return &controlv1.Value{Kind: &controlv1.Value_IntValue{IntValue: v}}, nil
	case uint64:
		return &controlv1.Value{Kind: &controlv1.Value_UintValue{UintValue: v}}, nil
	case float64:
		return &controlv1.Value{Kind: &controlv1.Value_FloatValue{FloatValue: v}}, nil
	case []any:
		list := &controlv1.ValueList{}
		for i, e := range v {
			value, err := valueToProto(e)
			if err != nil {
				return nil, fmt.Errorf("element %d: %w", i, err)
			}
			list.Values = append(list.Values, value)
		}
		return &controlv1.Value{Kind: &controlv1.Value_ListValue{ListValue: list}}, nil
	default:
		return nil, shared.ErrInvalid.Errorf("a value of type %T cannot be sent", v)
	}
}

// showValue is valueToProto for values that are only to be looked at: what cannot be carried is carried as text.
func showValue(v any) *controlv1.Value {
	if value, err := valueToProto(v); err == nil {
		return value
	}
	return &controlv1.Value{Kind: &controlv1.Value_StringValue{StringValue: fmt.Sprint(v)}}
}

// valueFromProto is the inverse of valueToProto; a value of a kind this build does not know is nil.
func valueFromProto(v *controlv1.Value) any {
	switch k := v.GetKind().(type) {
	case *controlv1.Value_StringValue:
		return k.StringValue
	case *controlv1.Value_BoolValue:
		return k.BoolValue
	case *controlv1.Value_IntValue:
		return k.IntValue
	case *controlv1.Value_UintValue:
		return k.UintValue
	case *controlv1.Value_FloatValue:
		return k.FloatValue
	case *controlv1.Value_ListValue:
		list := make([]any, 0, len(k.ListValue.GetValues()))
		for _, e := range k.ListValue.GetValues() {
			list = append(list, valueFromProto(e))
		}
		return list
	default:
		return nil
	}
}

func propertiesToProto(props map[string]any) (map[string]*controlv1.Value, error) {
	out := make(map[string]*controlv1.Value, len(props))
	for name, v := range props {
		value, err := valueToProto(v)
		if err != nil {
			return nil, &shared.PropertyError{Name: name, Err: err}
		}
		out[name] = value
	}
	return out, nil
}

func valuesFromProto(values map[string]*controlv1.Value) map[string]any {
	if len(values) == 0 {
		return nil
	}
	out := make(map[string]any, len(values))
	for name, v := range values {
		out[name] = valueFromProto(v)
	}
	return out
}

func toStrings[T ~string](list []T) []string {
	if len(list) == 0 {
		return nil
	}
	out := make([]string, len(list))
	for i, e := range list {
		out[i] = string(e)
	}
	return out
}

func fromStrings[T ~string](list []string) []T {
	if len(list) == 0 {
		return nil
	}
	out := make([]T, len(list))
	for i, e := range list {
		out[i] = T(e)
	}
	return out
}

func toStringKeys[K ~string](m map[K]uint64) map[string]uint64 {
	if len(m) == 0 {
		return nil
	}
	out := make(map[string]uint64, len(m))
	for k, v := range m {
		out[string(k)] = v
	}
	return out
}

func fromStringKeys[K ~string](m map[string]uint64) map[K]uint64 {
	if len(m) == 0 {
		return nil
	}
	out := make(map[K]uint64, len(m))
	for k, v := range m {
		out[K(k)] = v
	}
	return out
}

// optionalDuration is absent for none.
func optionalDuration(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}
