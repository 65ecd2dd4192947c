package khelp_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// answered are the names of the kernels' interfaces that package shared's table must have.
const answered = `
khelp_register_helper khelp_deregister_helper khelp_init_osd khelp_destroy_osd khelp_get_id khelp_get_osd khelp_add_hhook
khelp_remove_hhook KHELP_DECLARE_MOD KHELP_DECLARE_MOD_UMA

hhook_head_register hhook_head_deregister hhook_head_deregister_lookup hhook_run_hooks HHOOKS_RUN_IF HHOOKS_RUN_LOOKUP_IF
hhook_add_hook hhook_add_hook_lookup hhook_remove_hook hhook_remove_hook_lookup hhook_head_get hhook_head_release
hhook_head_is_virtualised hhook_head_is_virtualised_lookup

osd_register osd_deregister osd_set osd_reserve osd_set_reserved osd_free_reserved osd_get osd_del osd_call osd_exit

MODULE module_init module_prime module_init_class module_load module_autoload module_unload module_hold module_rele
module_find_section module_name module_source module_kernel module_register_callbacks module_unregister_callbacks
module_builtin_add module_builtin_remove module_builtin_require_force module_builtin_list module_specific_key_create
module_specific_key_delete module_getspecific module_setspecific module_load_vfs_init module_start_unload_thread module_autotime
module_gen module_compatible MODULE_CMD_INIT MODULE_CMD_FINI MODULE_CMD_STAT MODULE_CMD_AUTOUNLOAD kauth(9)

MODCTL_LOAD MODCTL_UNLOAD MODCTL_STAT MODCTL_EXISTS`

// counterpartPackages are where the Go names in the table live.
var counterpartPackages = map[string]string{
	"shared": "shared", "helper": "shared/helper", "host": "host", "hhook": "host/hhook", "osd": "host/osd",
}

// counterpart is one row of the table.
type counterpart struct{ kernel, here string }

// counterparts reads the table in the documentation of package shared.
func counterparts(t *testing.T) []counterpart {
	t.Helper()
	var rows []counterpart
	kernel := ""
	for line := range strings.Lines(readDoc(t, "shared/doc.go")) {
		row, inTable := strings.CutPrefix(strings.TrimRight(line, "\n"), "//\t  ")
		if !inTable {
			continue
		}
		if len([]rune(line)) > 140 {
			t.Errorf("too long: %s", line)
		}
		names, here, both := strings.Cut(row, "  ")
		if kernel += names + " "; !both { // more names follow
			continue
		}
		rows = append(rows, counterpart{strings.TrimSpace(kernel), strings.TrimSpace(here)})
		kernel = ""
	}
	if kernel != "" {
		t.Errorf("nothing answers to %s", kernel)
	}
	return rows
}

// Every name of the kernels' interfaces has its row, and every Go name in the table exists.
func TestDocs_Counterparts(t *testing.T) {
	t.Parallel()
	names := exportedNames(t)
	rows := counterparts(t)
	goName := regexp.MustCompile(`\b(?:shared|helper|host|hhook|osd)\.[A-Z]\w*(?:\.[A-Z]\w*)*`)
	said := map[string]bool{}
	for _, row := range rows {
		for name := range strings.FieldsFuncSeq(row.kernel, func(r rune) bool { return r == ' ' || r == ',' }) {
			said[name] = true
		}
		found := goName.FindAllString(row.here, -1)
		if reason, none := strings.CutPrefix(row.here, "no counterpart, because "); none && reason == "" || !none && len(found) == 0 {
			t.Errorf("%s: %q neither names anything nor says why not", row.kernel, row.here)
		}
		for _, name := range found {
			if !names[name] {
				t.Errorf("%s: there is no %s", row.kernel, name)
			}
		}
	}
	for name := range strings.FieldsSeq(answered) {
		if !said[name] {
			t.Errorf("the table has no row for %s", name)
		}
	}
}

// exportedNames returns what the packages of the table export, as pkg.Name and pkg.Type.Member.
func exportedNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for pkg, dir := range counterpartPackages {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", dir, len(files), err)
		}
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, decl := range file.Decls {
				addNames(names, pkg, decl)
			}
		}
	}
	return names
}

func addNames(names map[string]bool, pkg string, decl ast.Decl) {
	if fn, isFunc := decl.(*ast.FuncDecl); isFunc {
		if fn.Recv != nil {
			pkg += "." + baseName(fn.Recv.List[0].Type)
		}
		names[pkg+"."+fn.Name.Name] = true
		return
	}
	for _, spec := range decl.(*ast.GenDecl).Specs {
		switch spec := spec.(type) {
		case *ast.ValueSpec:
			for _, name := range spec.Names {
				names[pkg+"."+name.Name] = true
			}
		case *ast.TypeSpec:
			names[pkg+"."+spec.Name.Name] = true
			for _, name := range memberNames(spec.Type) {
				names[pkg+"."+spec.Name.Name+"."+name] = true
			}
		}
	}
}

// memberNames returns the fields of a struct and the methods of an interface.
func memberNames(typ ast.Expr) []string {
	var list *ast.FieldList
	switch typ := typ.(type) {
	case *ast.StructType:
		list = typ.Fields
	case *ast.InterfaceType:
		list = typ.Methods
	default:
		return nil
	}
	var names []string
	for _, field := range list.List {
		for _, name := range field.Names {
			names = append(names, name.Name)
		}
	}
	return names
}

// baseName returns the name of a receiver's type, without pointer and type parameters.
func baseName(typ ast.Expr) string {
	switch typ := typ.(type) {
	case *ast.StarExpr:
		return baseName(typ.X)
	case *ast.IndexExpr:
		return baseName(typ.X)
	case *ast.Ident:
		return typ.Name
	default:
		return ""
	}
}
