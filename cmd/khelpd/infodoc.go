package main

import (
	"github.com/khelp/khelp/host/control"
	"github.com/khelp/khelp/shared"
)

// infoDocument is what info -o json says: shared.Modinfo, but for the bytes of sections.
type infoDocument struct {
	Schema      string                `json:"schema"`
	Name        string                `json:"name"`
	Version     string                `json:"version"`
	API         uint32                `json:"api"`
	Description string                `json:"description"`
	Classes     []string              `json:"classes"`
	NeedsOSD    bool                  `json:"needs_osd"`
	OSD         osdDocument           `json:"osd"`
	Hooks       []hookInfoDocument    `json:"hooks"`
	Requires    []requirementDocument `json:"requires"`
	Reads       []string              `json:"reads"`
	Properties  []propertyDocument    `json:"properties"`
	Sections    []sectionDocument     `json:"sections"`
}

type osdDocument struct {
	Template    []byte          `json:"template"` // base64; null: none
	HasNew      bool            `json:"has_new"`
	HasFree     bool            `json:"has_free"`
	MaxBytes    uint32          `json:"max_bytes"`
	DataVersion uint32          `json:"data_version"`
	Schema      []fieldDocument `json:"schema"`
}

type fieldDocument struct {
	Name   string `json:"name"`
	Type   string `json:"type"`
	Offset uint32 `json:"offset"`
	Count  uint32 `json:"count"`
}

type hookInfoDocument struct {
	Point    string `json:"point"`
	Index    uint32 `json:"index"`
	UData    []byte `json:"udata"` // base64; null: none
	MaySleep bool   `json:"may_sleep"`
}

type requirementDocument struct {
	Name       string `json:"name"`
	Constraint string `json:"constraint"`
}

type propertyDocument struct {
	Name     string `json:"name"`
	Type     string `json:"type"`
	Required bool   `json:"required"`
	Default  any    `json:"default"` // null: the zero value of the type
	Doc      string `json:"doc"`
	Minimum  *int64 `json:"minimum"` // null: none
	Maximum  *int64 `json:"maximum"` // null: none
	Format   string `json:"format"`  // of a string: duration
}

type sectionDocument struct {
	Name  string `json:"name"`
	Bytes int    `json:"bytes"`
}

func newInfoDocument(info control.Info) infoDocument {
	m := &info.Modinfo
	return infoDocument{
		Schema: schemaName, Name: m.Name, Version: m.Version, API: m.API, Description: m.Description,
		Classes: stringsOf(m.Classes), NeedsOSD: m.NeedsOSD,
		OSD: osdDocument{
			Template: m.OSD.Template, HasNew: m.OSD.HasNew, HasFree: m.OSD.HasFree, MaxBytes: m.OSD.MaxBytes, DataVersion: m.OSD.DataVersion,
			Schema: mapped(m.OSD.Schema, func(f shared.Field) fieldDocument {
				return fieldDocument{Name: f.Name, Type: string(f.Type), Offset: f.Offset, Count: f.Count}
			}),
		},
		Hooks: mapped(m.Hooks, func(h shared.HookInfo) hookInfoDocument {
			return hookInfoDocument{Point: string(h.Point), Index: h.Index, UData: h.UData, MaySleep: h.MaySleep}
		}),
		Requires: mapped(m.Requires, func(r shared.Requirement) requirementDocument {
			return requirementDocument{Name: r.Name, Constraint: r.Constraint}
		}),
		Reads: stringsOf(m.Reads),
		Properties: mapped(m.Properties, func(p shared.Property) propertyDocument {
			return propertyDocument{
				Name: p.Name, Type: string(p.Type), Required: p.Required, Default: jsonValue(p.Default), Doc: p.Doc,
				Minimum: p.Minimum, Maximum: p.Maximum, Format: string(p.Format),
			}
		}),
		Sections: mapped(info.Sections, func(s control.SectionInfo) sectionDocument { return sectionDocument{Name: s.Name, Bytes: s.Bytes} }),
	}
}

// mapped returns a list that is never nil.
func mapped[S ~[]E, E, D any](in S, f func(E) D) []D {
	out := make([]D, len(in))
	for i, e := range in {
		out[i] = f(e)
	}
	return out
}
