package main

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/khelp/khelp/host"
)

// reference returns the page, and its sections on commands by their heading.
func reference(t *testing.T) (page string, commands map[string]string) {
	t.Helper()
	text, err := os.ReadFile("REFERENCE.md")
	if err != nil {
		t.Fatal(err)
	}
	page = string(text)
	commands = map[string]string{}
	for _, section := range regexp.MustCompile(`(?m)^##`).Split(page, -1) {
		if use, rest, ok := strings.Cut(strings.TrimPrefix(section, "# `khelpd "), "`\n"); ok && strings.HasPrefix(section, "# `") {
			commands[use] = rest
		}
	}
	return page, commands
}

func tree() *cobra.Command {
	root := (&app{}).rootCommand()
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd("x") // for any command line but that of a completion
	return root
}

// flagRows finds the flags in the tables of a section.
func flagRows(section string) []string {
	var flags []string
	for _, m := range regexp.MustCompile("(?m)^\\| (?:`(-\\w)`, )?`(--[a-z-]+)[^|]*\\|").FindAllStringSubmatch(section, -1) {
		flags = append(flags, m[1]+m[2])
	}
	slices.Sort(flags)
	return slices.Compact(flags)
}

func flagsOf(sets ...*pflag.FlagSet) []string {
	var flags []string
	for _, set := range sets {
		set.VisitAll(func(f *pflag.Flag) {
			short := ""
			if f.Shorthand != "" {
				short = "-" + f.Shorthand
			}
			if f.Name != "help" {
				flags = append(flags, short+"--"+f.Name)
			}
		})
	}
	slices.Sort(flags)
	return slices.Compact(flags)
}

func TestReferenceHasEveryCommandAndFlag(t *testing.T) {
	page, sections := reference(t)
	root := tree()
	for _, cmd := range root.Commands() {
		section, ok := sections[cmd.Use]
		if !ok {
			t.Errorf("the page has no section `khelpd %s`", cmd.Use)
			continue
		}
		delete(sections, cmd.Use)
		sets := []*pflag.FlagSet{cmd.NonInheritedFlags()}
		for _, sub := range cmd.Commands() {
			sets = append(sets, sub.NonInheritedFlags())
			if !strings.Contains(section, "`"+sub.Name()+"`") {
				t.Errorf("%s: %s is missing", cmd.Use, sub.Name())
			}
		}
		if diff := cmp.Diff(flagsOf(sets...), flagRows(section)); diff != "" {
			t.Errorf("%s: flags (-program +page):\n%s", cmd.Use, diff)
		}
	}
	for use := range sections {
		t.Errorf("the page has a section `khelpd %s`, the program no such command", use)
	}
	everywhere, _, _ := strings.Cut(page, "\n## Exit codes")
	want := append(flagsOf(root.PersistentFlags()), "-h--help")
	slices.Sort(want)
	if diff := cmp.Diff(want, flagRows(everywhere)); diff != "" {
		t.Errorf("flags everywhere (-program +page):\n%s", diff)
	}
}

func TestReferenceHasTheExitCodes(t *testing.T) {
	page, _ := reference(t)
	var got []string
	for _, m := range regexp.MustCompile(`(?m)^\| (\d) \| (.*) \|$`).FindAllStringSubmatch(page, -1) {
		if m[1] != strconv.Itoa(len(got)) {
			t.Errorf("code %s stands at place %d", m[1], len(got))
		}
		got = append(got, m[2])
	}
	if diff := cmp.Diff(exitWords, got); diff != "" {
		t.Errorf("exit codes (-program +page):\n%s", diff)
	}
	if len(exitWords) != exitChanges+1 {
		t.Errorf("%d codes have words, the last is %d", len(exitWords), exitChanges)
	}
}

func TestReferenceHasColumnsAndFields(t *testing.T) {
	_, sections := reference(t)
	var stat, hooks, objects, changes strings.Builder
	for _, err := range []error{
		statTable(&stat, host.Stat{}), hooksTable(&hooks, nil), objectsTable(&objects, nil), changesTable(&changes, make([]host.Change, 1)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for use, header := range map[string]string{
		"stat [NAME]": stat.String(), "hooks": hooks.String(), "objects": objects.String(), "plan -c PATH": changes.String(),
	} {
		first, _, _ := strings.Cut(header, "\n")
		want := "Columns: " + strings.Join(regexp.MustCompile(`  +`).Split(strings.TrimSpace(first), -1), ", ") + "."
		if !strings.Contains(sections[use], want) {
			t.Errorf("%s: %q is missing", use, want)
		}
	}
	for use, document := range map[string]any{
		"stat [NAME]": statDocument{}, "hooks": hooksDocument{}, "objects": objectsDocument{}, "info NAME|PATH": infoDocument{},
		"events": eventDocument{}, "logs NAME": logDocument{}, "version": versionDocument{}, "validate -c PATH": diagnosticsDocument{},
		"fmt [-w] PATH": formatDocument{},
	} {
		for _, field := range fieldsOf(reflect.TypeOf(document)) {
			if field != "schema" && !strings.Contains(sections[use], "`"+field+"`") {
				t.Errorf("%s: the field %s is missing", use, field)
			}
		}
	}
	for _, field := range fieldsOf(reflect.TypeFor[planDocument]()) {
		if field != "schema" && !strings.Contains(sections["plan -c PATH"]+sections["reload"], "`"+field+"`") {
			t.Errorf("plan and reload: the field %s is missing", field)
		}
	}
}

// fieldsOf lists the JSON names in a document, those of documents within it too.
func fieldsOf(t reflect.Type) []string {
	for t.Kind() == reflect.Slice || t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || t.PkgPath() == "time" {
		return nil
	}
	var fields []string
	for i := range t.NumField() {
		f := t.Field(i)
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			fields = append(fields, name)
		}
		fields = append(fields, fieldsOf(f.Type)...)
	}
	return fields
}
