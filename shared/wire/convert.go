package wire

import (
	"fmt"
	"strings"

	"github.com/khelp/khelp/shared"
)

// ModinfoToProto returns the message for m. It shares m's byte slices.
func ModinfoToProto(m *shared.Modinfo) *Modinfo {
	out := &Modinfo{
		Name: m.Name, Version: m.Version, Api: m.API, Description: m.Description,
		NeedsOsd: m.NeedsOSD, Reads: m.Reads,
	}
	for _, c := range m.Classes {
		out.Classes = append(out.Classes, string(c))
	}
	if m.NeedsOSD {
		out.Osd = osdToProto(&m.OSD)
	}
	for _, h := range m.Hooks {
		out.Hooks = append(out.Hooks, &HookInfo{Point: string(h.Point), Index: h.Index, Udata: h.UData, MaySleep: h.MaySleep})
	}
	for _, r := range m.Requires {
		out.Requires = append(out.Requires, &Requirement{Name: r.Name, Constraint: r.Constraint})
	}
	for _, p := range m.Properties {
		prop := &Property{Name: p.Name, Type: string(p.Type), Required: p.Required, Doc: p.Doc, Minimum: p.Minimum, Maximum: p.Maximum, Format: string(p.Format)}
		if p.Default != nil {
			prop.Default = ValueToProto(p.Default)
		}
		out.Properties = append(out.Properties, prop)
	}
	for _, s := range m.Sections {
		out.Sections = append(out.Sections, &Section{Name: s.Name, Data: s.Data})
	}
	return out
}

func osdToProto(o *shared.OSDInfo) *OsdInfo {
	out := &OsdInfo{HasNew: o.HasNew, HasFree: o.HasFree, MaxBytes: o.MaxBytes, DataVersion: o.DataVersion}
	if o.HasTemplate {
		out.Template = append([]byte{}, o.Template...)
	}
	for _, f := range o.Schema {
		out.Schema = append(out.Schema, &Field{Name: f.Name, Type: string(f.Type), Offset: f.Offset, Count: f.Count})
	}
	return out
}

// ModinfoFromProto returns what the message says, unchecked but for the form of property defaults. Its texts are made
// printable and cut at shared.MaxText, so that they can be shown; a name that this changes is no name before nor after.
func ModinfoFromProto(m *Modinfo) (*shared.Modinfo, error) {
	out := &shared.Modinfo{
		Name: text(m.GetName()), Version: text(m.GetVersion()), API: m.GetApi(), Description: text(m.GetDescription()),
		NeedsOSD: m.GetNeedsOsd(), Reads: m.GetReads(),
	}
	for _, c := range m.GetClasses() {
		out.Classes = append(out.Classes, shared.Class(c))
	}
	if o := m.GetOsd(); o != nil {
		out.OSD = shared.OSDInfo{
			Template: o.GetTemplate(), HasTemplate: o.Template != nil, HasNew: o.GetHasNew(), HasFree: o.GetHasFree(),
			MaxBytes: o.GetMaxBytes(), DataVersion: o.GetDataVersion(),
		}
		for _, f := range o.GetSchema() {
			out.OSD.Schema = append(out.OSD.Schema,
				shared.Field{Name: text(f.GetName()), Type: shared.FieldType(f.GetType()), Offset: f.GetOffset(), Count: f.GetCount()})
		}
	}
	for _, h := range m.GetHooks() {
		out.Hooks = append(out.Hooks, HookInfoFromProto(h))
	}
	for _, r := range m.GetRequires() {
		out.Requires = append(out.Requires, shared.Requirement{Name: r.GetName(), Constraint: text(r.GetConstraint())})
	}
	for _, p := range m.GetProperties() {
		prop := shared.Property{
			Name: text(p.GetName()), Type: shared.PropertyType(p.GetType()), Required: p.GetRequired(), Doc: text(p.GetDoc()),
			Minimum: p.Minimum, Maximum: p.Maximum, Format: shared.PropertyFormat(text(p.GetFormat())),
		}
		if p.GetDefault() != nil {
			v, err := ValueFromProto(p.GetDefault())
			if err != nil {
				return nil, &shared.PropertyError{Name: prop.Name, Err: err}
			}
			prop.Default = v
		}
		out.Properties = append(out.Properties, prop)
	}
	for _, s := range m.GetSections() {
		out.Sections = append(out.Sections, shared.Section{Name: text(s.GetName()), Data: s.GetData()})
	}
	return out, nil
}

func text(s string) string { return shared.Printable(s, shared.MaxText) }

// HookInfoFromProto returns what the message says.
func HookInfoFromProto(h *HookInfo) shared.HookInfo {
	return shared.HookInfo{Point: shared.HookPoint(h.GetPoint()), Index: h.GetIndex(), UData: h.GetUdata(), MaySleep: h.GetMaySleep()}
}

// ValueToProto returns the message for a property's value: string, bool, int64, float64, int or []any of these. It panics on any
// other type, which shared.CheckProperties does not let through.
func ValueToProto(v any) *Value {
	switch v := v.(type) {
	case string:
		return &Value{Kind: &Value_StringValue{v}}
	case bool:
		return &Value{Kind: &Value_BoolValue{v}}
	case int64:
		return &Value{Kind: &Value_IntValue{v}}
	case int:
		return &Value{Kind: &Value_IntValue{int64(v)}}
	case float64:
		return &Value{Kind: &Value_FloatValue{v}}
	case []any:
		list := &ValueList{}
		for _, e := range v {
			list.Values = append(list.Values, ValueToProto(e))
		}
		return &Value{Kind: &Value_ListValue{list}}
	default:
		panic(fmt.Sprintf("wire: a property cannot be a %T", v))
	}
}

// ValueFromProto returns the value of the message. The error is ErrInvalid for a message without one.
func ValueFromProto(v *Value) (any, error) {
	switch k := v.GetKind().(type) {
	case *Value_StringValue:
		return k.StringValue, nil
	case *Value_BoolValue:
		return k.BoolValue, nil
	case *Value_IntValue:
		return k.IntValue, nil
	case *Value_FloatValue:
		return k.FloatValue, nil
	case *Value_ListValue:
		list := make([]any, 0, len(k.ListValue.GetValues()))
		for _, e := range k.ListValue.GetValues() {
			if _, nested := e.GetKind().(*Value_ListValue); nested {
				return nil, shared.ErrInvalid.Errorf("a list within a list")
			}
			v, err := ValueFromProto(e)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	default:
		return nil, shared.ErrInvalid.Errorf("a value without a type")
	}
}

// PropertiesToProto returns the messages for a set of properties.
func PropertiesToProto(props map[string]any) map[string]*Value {
	out := make(map[string]*Value, len(props))
	for name, v := range props {
		out[name] = ValueToProto(v)
	}
	return out
}

// PropertiesFromProto returns the values of a set of properties. The error is a *shared.PropertyError.
func PropertiesFromProto(props map[string]*Value) (map[string]any, error) {
	out := make(map[string]any, len(props))
	for name, v := range props {
		value, err := ValueFromProto(v)
		if err != nil {
			return nil, &shared.PropertyError{Name: name, Err: err}
		}
		out[name] = value
	}
	return out, nil
}

// StatusOf returns the message for an error, with the properties at fault; nil is CODE_OK. Bytes of its texts that are not UTF-8 are
// replaced: protobuf refuses to send them, and the stream would end.
func StatusOf(err error) *Status {
	if err == nil {
		return &Status{}
	}
	out := &Status{Code: Code(shared.CodeOf(err)), Message: valid(err.Error())}
	for _, p := range shared.PropertyErrors(err) {
		out.Properties = append(out.Properties, &PropertyError{Name: valid(p.Name), Message: valid(p.Err.Error())})
	}
	return out
}

func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// Err returns the error that the message stands for, as the same sentinel, or nil, and with a *shared.PropertyError in it for each
// property at fault. Its texts, which are the peer's, are made printable and cut at shared.MaxText.
func (s *Status) Err() error {
	err := shared.FromCode(shared.Code(s.GetCode()), text(s.GetMessage()))
	list := s.GetProperties()
	list = list[:min(len(list), shared.MaxProperties)]
	properties := make([]*shared.PropertyError, len(list))
	for i, p := range list {
		properties[i] = &shared.PropertyError{Name: text(p.GetName()), Err: shared.ErrInvalid.Errorf("%s", text(p.GetMessage()))}
	}
	return shared.NameProperties(err, properties)
}
