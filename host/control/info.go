package control

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/khelp/khelp/host/control/controlv1"
	"github.com/khelp/khelp/shared"
)

// Info is what a helper says of itself, without the bytes of its sections.
type Info struct {
	Modinfo  shared.Modinfo // Sections is empty
	Sections []SectionInfo
}

// SectionInfo is one section: its name and how long it is.
type SectionInfo struct {
	Name  string
	Bytes int
}

// NewInfo makes an Info of what a host has said.
func NewInfo(m shared.Modinfo) Info {
	out := Info{Modinfo: m}
	out.Modinfo.Sections = nil
	for _, s := range m.Sections {
		out.Sections = append(out.Sections, SectionInfo{Name: s.Name, Bytes: len(s.Data)})
	}
	return out
}

// FindSection returns a section's bytes: module_find_section. One that the helper does not have is ErrNotExist, and the error names
// those it has.
func FindSection(m *shared.Modinfo, name string) ([]byte, error) {
	names := make([]string, len(m.Sections))
	for i, s := range m.Sections {
		if s.Name == name {
			return s.Data, nil
		}
		names[i] = s.Name
	}
	if len(names) == 0 {
		return nil, shared.ErrNotExist.Errorf("%s has no section %q, and no other", m.Name, name)
	}
	return nil, shared.ErrNotExist.Errorf("%s has no section %q, only %s", m.Name, name, strings.Join(names, ", "))
}

// Info answers khelpd info NAME. What is not known yet is started to look, for which the caller must be allowed to load.
func (s *service) Info(ctx context.Context, req *controlv1.InfoRequest) (*controlv1.InfoResponse, error) {
	name := req.GetName()
	if err := shared.ValidateName("helper name", name); err != nil {
		return nil, err
	}
	spec, err := s.spec(name)
	if err != nil {
		return nil, err
	}
	info, known := s.host.Known(spec)
	if !known {
		if err := s.permit(ctx, shared.PrivilegeLoad); err != nil {
			return nil, fmt.Errorf("%s would have to be started to look: %w", name, err)
		}
		if info, err = s.host.Describe(ctx, spec); err != nil {
			return nil, err
		}
	}
	resp := &controlv1.InfoResponse{Info: infoToProto(NewInfo(info))}
	if req.Section != nil {
		if resp.Section, err = FindSection(&info, req.GetSection()); err != nil {
			return nil, err
		}
	}
	return resp, nil
}

// Info says what a helper says of itself, by its name: one that is loaded, configured or on the daemon's helper path. The daemon may
// have to start it to look.
func (c *Client) Info(ctx context.Context, name string) (Info, error) {
	r, err := c.stub.Info(ctx, &controlv1.InfoRequest{Name: name})
	if err != nil {
		return Info{}, fromStatus(err)
	}
	return infoFromProto(r.GetInfo()), nil
}

// Section returns the bytes of a section of a helper. One that it does not have is ErrNotExist, and the error names those it has.
func (c *Client) Section(ctx context.Context, name, section string) ([]byte, error) {
	r, err := c.stub.Info(ctx, &controlv1.InfoRequest{Name: name, Section: &section})
	if err != nil {
		return nil, fromStatus(err)
	}
	return r.GetSection(), nil
}

func infoToProto(in Info) *controlv1.Modinfo {
	m := &in.Modinfo
	out := &controlv1.Modinfo{
		Name: m.Name, Version: m.Version, Api: m.API, Description: m.Description, Classes: toStrings(m.Classes), NeedsOsd: m.NeedsOSD,
		Osd: &controlv1.ObjectData{
			Template: m.OSD.Template, HasTemplate: m.OSD.HasTemplate, HasNew: m.OSD.HasNew, HasFree: m.OSD.HasFree,
			MaxBytes: m.OSD.MaxBytes, DataVersion: m.OSD.DataVersion,
		},
		Requires: requirementsToProto(m.Requires), Reads: m.Reads,
	}
	for _, f := range m.OSD.Schema {
		out.Osd.Schema = append(out.Osd.Schema, &controlv1.Field{Name: f.Name, Type: string(f.Type), Offset: f.Offset, Count: f.Count})
	}
	for _, h := range m.Hooks {
		out.Hooks = append(out.Hooks, &controlv1.HookInfo{Point: string(h.Point), Index: h.Index, Udata: h.UData, MaySleep: h.MaySleep})
	}
	for _, p := range m.Properties {
		prop := &controlv1.Property{Name: p.Name, Type: string(p.Type), Required: p.Required, Doc: p.Doc, Minimum: p.Minimum, Maximum: p.Maximum, Format: string(p.Format)}
		if p.Default != nil {
			prop.Default = showValue(p.Default)
		}
		out.Properties = append(out.Properties, prop)
	}
	for _, sec := range in.Sections {
		out.Sections = append(out.Sections, &controlv1.SectionInfo{Name: sec.Name, Bytes: int64(sec.Bytes)})
	}
	return out
}

func infoFromProto(m *controlv1.Modinfo) Info {
	osd := m.GetOsd()
	out := Info{Modinfo: shared.Modinfo{
		Name: m.GetName(), Version: m.GetVersion(), API: m.GetApi(), Description: m.GetDescription(),
		Classes: fromStrings[shared.Class](m.GetClasses()), NeedsOSD: m.GetNeedsOsd(),
		OSD: shared.OSDInfo{
			Template: osd.GetTemplate(), HasTemplate: osd.GetHasTemplate(), HasNew: osd.GetHasNew(), HasFree: osd.GetHasFree(),
			MaxBytes: osd.GetMaxBytes(), DataVersion: osd.GetDataVersion(),
		},
		Requires: requirementsFromProto(m.GetRequires()), Reads: slices.Clone(m.GetReads()),
	}}
	for _, f := range osd.GetSchema() {
		field := shared.Field{Name: f.GetName(), Type: shared.FieldType(f.GetType()), Offset: f.GetOffset(), Count: f.GetCount()}
		out.Modinfo.OSD.Schema = append(out.Modinfo.OSD.Schema, field)
	}
	for _, h := range m.GetHooks() {
		hook := shared.HookInfo{Point: shared.HookPoint(h.GetPoint()), Index: h.GetIndex(), UData: h.GetUdata(), MaySleep: h.GetMaySleep()}
		out.Modinfo.Hooks = append(out.Modinfo.Hooks, hook)
	}
	for _, p := range m.GetProperties() {
		prop := shared.Property{
			Name: p.GetName(), Type: shared.PropertyType(p.GetType()), Required: p.GetRequired(),
			Default: valueFromProto(p.GetDefault()), Doc: p.GetDoc(), Minimum: p.Minimum, Maximum: p.Maximum, Format: shared.PropertyFormat(p.GetFormat()),
		}
		out.Modinfo.Properties = append(out.Modinfo.Properties, prop)
	}
	for _, sec := range m.GetSections() {
		out.Sections = append(out.Sections, SectionInfo{Name: sec.GetName(), Bytes: toInt(sec.GetBytes())})
	}
	return out
}
