package host

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/khelp/khelp/shared"
)

// difference says what the change of a spec takes, and why: the most that any part of it takes.
func difference(old, spec *shared.HelperSpec) (ChangeAction, string) {
	for _, part := range []struct {
		action ChangeAction
		name   string
		same   bool
	}{
		{ChangeRestart, "command", slices.Equal(old.Command, spec.Command)},
		{ChangeRestart, "sha256", strings.EqualFold(old.SHA256, spec.SHA256)},
		{ChangeRestart, "version", old.Version == spec.Version},
		{ChangeRestart, "env", maps.Equal(old.Env, spec.Env)},
		{ChangeRestart, "config", reflect.DeepEqual(nonEmpty(old.Config), nonEmpty(spec.Config))},
		{ChangeRestart, "classes", slices.Equal(old.Classes, spec.Classes)},
		{ChangeRestart, "requires", slices.Equal(old.Requires, spec.Requires)},
		{ChangeReorder, "order", sameOrders(old, spec)},
		{ChangeUpdate, "limits", old.Limits == spec.Limits},
		{ChangeUpdate, "timeout", old.Timeout == spec.Timeout},
		{ChangeUpdate, "on_failure", old.OnFailure == spec.OnFailure && maps.Equal(old.OnCause, spec.OnCause)},
		{ChangeUpdate, "hook", sameHooks(old.Hooks, spec.Hooks)},
		{ChangeUpdate, "load", loadWhen(old) == loadWhen(spec)},
		{ChangeUpdate, "autounload", old.Autounload == spec.Autounload && old.AutounloadAfter == spec.AutounloadAfter},
	} {
		if !part.same {
			return part.action, part.name + " has changed"
		}
	}
	return "", ""
}

func nonEmpty(m map[string]any) map[string]any {
	if len(m) == 0 {
		return nil
	}
	return m
}

// loadWhen takes a helper that was loaded by hand for one that is to be.
func loadWhen(spec *shared.HelperSpec) shared.LoadWhen { return cmp.Or(spec.Load, shared.LoadBoot) }

func sameOrders(old, spec *shared.HelperSpec) bool {
	for _, hooks := range [][]shared.HookSpec{old.Hooks, spec.Hooks} {
		for _, hook := range hooks {
			if old.Hook(hook.Point).Order != spec.Hook(hook.Point).Order {
				return false
			}
		}
	}
	return true
}

func sameHooks(old, hooks []shared.HookSpec) bool {
	return slices.EqualFunc(old, hooks, func(a, b shared.HookSpec) bool {
		return a.Point == b.Point && a.Timeout == b.Timeout && a.OnFailure == b.OnFailure && a.Required == b.Required && maps.Equal(a.OnCause, b.OnCause)
	})
}
