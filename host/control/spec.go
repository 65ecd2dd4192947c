package control

import (
	"math"

	"github.com/khelp/khelp/host/control/controlv1"
	"github.com/khelp/khelp/shared"
)

// specToProto carries all of a spec. The error is ErrInvalid for a property of a type that cannot be sent.
func specToProto(s *shared.HelperSpec) (*controlv1.HelperSpec, error) {
	config, err := propertiesToProto(s.Config)
	if err != nil {
		return nil, err
	}
	out := &controlv1.HelperSpec{
		Name: s.Name, Command: s.Command, Sha256: s.SHA256, Version: s.Version, Classes: toStrings(s.Classes),
		Requires: requirementsToProto(s.Requires), Load: string(s.Load),
		Timeout: optionalDuration(s.Timeout), OnFailure: string(s.OnFailure), OnCause: actionsToProto(s.OnCause),
		Env: s.Env, Config: config,
		Limits:     &controlv1.Limits{Slot: int64(s.Limits.Slot), Slots: s.Limits.Slots, Inflight: int64(s.Limits.Inflight)},
		Autounload: string(s.Autounload), AutounloadAfter: optionalDuration(s.AutounloadAfter),
	}
	for i := range s.Hooks {
		out.Hooks = append(out.Hooks, hookSpecToProto(&s.Hooks[i]))
	}
	return out, nil
}

// specFromProto is the inverse of specToProto. What came is not checked; the host does that.
func specFromProto(s *controlv1.HelperSpec) shared.HelperSpec {
	out := shared.HelperSpec{
		Name: s.GetName(), Command: s.GetCommand(), SHA256: s.GetSha256(), Version: s.GetVersion(),
		Classes: fromStrings[shared.Class](s.GetClasses()), Requires: requirementsFromProto(s.GetRequires()),
		Load: shared.LoadWhen(s.GetLoad()), Timeout: s.GetTimeout().AsDuration(),
		OnFailure: shared.Action(s.GetOnFailure()), OnCause: actionsFromProto(s.GetOnCause()),
		Env: s.GetEnv(), Config: valuesFromProto(s.GetConfig()),
		Limits: shared.Limits{
			Slot: toInt(s.GetLimits().GetSlot()), Slots: s.GetLimits().GetSlots(), Inflight: toInt(s.GetLimits().GetInflight()),
		},
		Autounload: shared.AutounloadPolicy(s.GetAutounload()), AutounloadAfter: s.GetAutounloadAfter().AsDuration(),
	}
	for _, h := range s.GetHooks() {
		out.Hooks = append(out.Hooks, hookSpecFromProto(h))
	}
	return out
}

func hookSpecToProto(h *shared.HookSpec) *controlv1.HookSpec {
	return &controlv1.HookSpec{
		Point: string(h.Point), Order: &controlv1.Order{Place: uint32(h.Order.Place), Helper: h.Order.Helper},
		Timeout: optionalDuration(h.Timeout), OnFailure: string(h.OnFailure), OnCause: actionsToProto(h.OnCause), Required: h.Required,
	}
}

func hookSpecFromProto(h *controlv1.HookSpec) shared.HookSpec {
	return shared.HookSpec{
		Point: shared.HookPoint(h.GetPoint()),
		// A place beyond those there are stays beyond them.
		Order:   shared.Order{Place: shared.Place(min(h.GetOrder().GetPlace(), math.MaxUint8)), Helper: h.GetOrder().GetHelper()},
		Timeout: h.GetTimeout().AsDuration(), OnFailure: shared.Action(h.GetOnFailure()), OnCause: actionsFromProto(h.GetOnCause()),
		Required: h.GetRequired(),
	}
}

func requirementsToProto(list []shared.Requirement) []*controlv1.Requirement {
	var out []*controlv1.Requirement
	for _, r := range list {
		out = append(out, &controlv1.Requirement{Name: r.Name, Constraint: r.Constraint})
	}
	return out
}

func requirementsFromProto(list []*controlv1.Requirement) []shared.Requirement {
	var out []shared.Requirement
	for _, r := range list {
		out = append(out, shared.Requirement{Name: r.GetName(), Constraint: r.GetConstraint()})
	}
	return out
}

func actionsToProto(m map[shared.Cause]shared.Action) map[string]string {
	out := make(map[string]string, len(m))
	for cause, action := range m {
		out[string(cause)] = string(action)
	}
	return out
}

func actionsFromProto(m map[string]string) map[shared.Cause]shared.Action {
	if len(m) == 0 {
		return nil
	}
	out := make(map[shared.Cause]shared.Action, len(m))
	for cause, action := range m {
		out[shared.Cause(cause)] = shared.Action(action)
	}
	return out
}

// toInt keeps a number that is beyond this system's int beyond all limits.
func toInt(v int64) int { return int(min(max(v, math.MinInt), math.MaxInt)) }
