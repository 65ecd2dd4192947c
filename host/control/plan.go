package control

import (
	"context"
	"fmt"
	"slices"

	"github.com/khelp/khelp/host"
	"github.com/khelp/khelp/host/control/controlv1"
	"github.com/khelp/khelp/shared"
)

// Plan is what another configuration would change, or has changed.
type Plan struct {
	Changes  []host.Change // of helpers
	Parts    []PartChange  // of everything else
	Warnings []string      // what stays as it is until the daemon is started again, for people
}

// Part is one block of a configuration that is no helper, such as a listener. What its attributes mean is between a daemon and whoever
// reads its configuration; the control service carries them.
type Part struct {
	Kind       string
	Name       string
	Attributes map[string]any // string, bool, int64, float64 or []any of these
}

// PartChange is one step of a part.
type PartChange struct {
	Kind   string
	Name   string
	Action string // as "add", "replace" or "remove"
	Reason string // what is different
	Err    error  // of a reload: why the step was not made
}

// ConfigError says that a daemon's configuration is wrong. Of a reload: nothing has changed.
type ConfigError struct {
	Diagnostics string // for people, in many lines
	Err         error
}

func (e *ConfigError) Error() string { return e.Err.Error() }

// Unwrap returns what there is beside the diagnostics.
func (e *ConfigError) Unwrap() error { return e.Err }

// Plan answers khelpd plan.
func (s *service) Plan(ctx context.Context, req *controlv1.PlanRequest) (*controlv1.PlanResponse, error) {
	specs := make([]shared.HelperSpec, len(req.GetHelpers()))
	for i, h := range req.GetHelpers() {
		specs[i] = specFromProto(h)
		if err := specs[i].Validate(); err != nil {
			return nil, err
		}
	}
	parts := make([]Part, len(req.GetParts()))
	for i, p := range req.GetParts() {
		parts[i] = Part{Kind: p.GetKind(), Name: p.GetName(), Attributes: valuesFromProto(p.GetAttributes())}
	}
	plan, err := s.plan(ctx, specs, parts)
	if err != nil {
		return nil, err
	}
	return &controlv1.PlanResponse{Plan: planToProto(plan)}, nil
}

func (s *service) plan(ctx context.Context, specs []shared.HelperSpec, parts []Part) (Plan, error) {
	if s.opts.Plan != nil {
		return s.opts.Plan(ctx, specs, parts)
	}
	changes, err := s.host.Plan(specs)
	plan := Plan{Changes: changes}
	var kinds []string
	for _, p := range parts {
		if !slices.Contains(kinds, p.Kind) {
			kinds = append(kinds, p.Kind)
			plan.Warnings = append(plan.Warnings, fmt.Sprintf("the daemon is configured by helpers alone: %s means nothing to it", p.Kind))
		}
	}
	return plan, err
}

// Reload answers khelpd reload.
func (s *service) Reload(ctx context.Context, _ *controlv1.ReloadRequest) (*controlv1.ReloadResponse, error) {
	if s.opts.Reload == nil {
		return nil, shared.ErrUnsupported.Errorf("the daemon has no configuration that it could read again")
	}
	s.opts.Logger.Info("reload asked for", "peer", contextPeer(ctx).String())
	plan, err := s.opts.Reload(ctx)
	if err != nil {
		return nil, err
	}
	return &controlv1.ReloadResponse{Plan: planToProto(plan)}, nil
}

// Plan says what the daemon would change if it were configured like this.
func (c *Client) Plan(ctx context.Context, specs []shared.HelperSpec, parts []Part) (Plan, error) {
	req := &controlv1.PlanRequest{}
	for i := range specs {
		spec, err := specToProto(&specs[i])
		if err != nil {
			return Plan{}, fmt.Errorf("helper %s: %w", specs[i].Name, err)
		}
		req.Helpers = append(req.Helpers, spec)
	}
	for _, p := range parts {
		attributes, err := propertiesToProto(p.Attributes)
		if err != nil {
			return Plan{}, fmt.Errorf("%s %s: %w", p.Kind, p.Name, err)
		}
		req.Parts = append(req.Parts, &controlv1.Part{Kind: p.Kind, Name: p.Name, Attributes: attributes})
	}
	r, err := c.stub.Plan(ctx, req)
	if err != nil {
		return Plan{}, fromStatus(err)
	}
	return planFromProto(r.GetPlan()), nil
}

// Reload has the daemon read its configuration again. It returns what was done, and for each step that could not be made why. A
// configuration that is wrong is a *ConfigError, and nothing has changed.
func (c *Client) Reload(ctx context.Context) (Plan, error) {
	r, err := c.stub.Reload(ctx, &controlv1.ReloadRequest{})
	if err != nil {
		return Plan{}, fromStatus(err)
	}
	return planFromProto(r.GetPlan()), nil
}

func planToProto(p Plan) *controlv1.Plan {
	out := &controlv1.Plan{Warnings: p.Warnings}
	for _, ch := range p.Changes {
		out.Changes = append(out.Changes, &controlv1.Change{
			Helper: ch.Helper, Action: string(ch.Action), Reason: ch.Reason, BlockedBy: ch.BlockedBy, Error: errorDetail(ch.Err),
		})
	}
	for _, ch := range p.Parts {
		out.Parts = append(out.Parts, &controlv1.PartChange{
			Kind: ch.Kind, Name: ch.Name, Action: ch.Action, Reason: ch.Reason, Error: errorDetail(ch.Err),
		})
	}
	return out
}

func planFromProto(p *controlv1.Plan) Plan {
	out := Plan{Warnings: p.GetWarnings()}
	for _, ch := range p.GetChanges() {
		out.Changes = append(out.Changes, host.Change{
			Helper: ch.GetHelper(), Action: host.ChangeAction(ch.GetAction()), Reason: ch.GetReason(), BlockedBy: ch.GetBlockedBy(),
			Err: fromDetail(ch.GetError()),
		})
	}
	for _, ch := range p.GetParts() {
		out.Parts = append(out.Parts, PartChange{
			Kind: ch.GetKind(), Name: ch.GetName(), Action: ch.GetAction(), Reason: ch.GetReason(),
			Err: fromDetail(ch.GetError()),
		})
	}
	return out
}
