package config

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/khelp/khelp/shared"
)

// Access is the block `access`: who may ask a daemon for what, beside its own user. It answers to a kauth(9) listener. Users and groups
// have been looked up when the configuration was read.
type Access struct {
	Rules []shared.AccessRule // of each allow block; what one of them allows is allowed
	Range hcl.Range
}

func (d *decoder) access(b *body) {
	a := &Access{Range: b.header}
	switch first := d.cfg.Access; {
	case first == nil:
		d.cfg.Access = a
	default:
		d.second("access", first.Range, b.header)
	}
	for _, block := range b.blocks {
		if rule, ok := d.allow(d.open("access.allow", block.DefRange(), block.Body)); ok {
			a.Rules = append(a.Rules, rule)
		}
	}
	if len(b.blocks) == 0 && !d.broken {
		d.diags = append(d.diags, warning(b.header, "Nobody is allowed anything",
			"An access block without an allow block lets nobody in but the daemon's own user and root."))
	}
}

// allow decodes one allow block. The second result is false if anything in it was wrong.
func (d *decoder) allow(b *body) (rule shared.AccessRule, good bool) {
	before := len(d.diags)
	d.require(b, "allow", "actions")
	for _, w := range d.distinct(b.expr("actions")) {
		if action := d.oneOf(w.at, w.text, "action", privilegeNames()); action != "" {
			rule.Privileges = append(rule.Privileges, shared.Privilege(action))
		}
	}
	d.notEmpty(b.expr("actions"), before, "No actions", "Such an allow block allows nothing: name actions, or leave it out.")
	rule.UIDs = d.ids(b.expr("users"), userID, "user", "/etc/passwd")
	rule.GIDs = d.ids(b.expr("groups"), groupID, "group", "/etc/group")
	if len(d.diags) > before {
		return rule, false
	}
	if len(rule.UIDs)+len(rule.GIDs) == 0 && !d.broken {
		d.errorf(b.header, "Nobody is named", "An allow block needs users or groups to allow something to.")
	}
	return rule, len(d.diags) == before
}

func privilegeNames() []string {
	names := make([]string, len(shared.Privileges))
	for i, p := range shared.Privileges {
		names[i] = string(p)
	}
	return names
}

// notEmpty reports a list without elements, unless it has been reported since there were so many diagnostics.
func (d *decoder) notEmpty(e hclsyntax.Expression, before int, summary, detail string) {
	if e == nil || len(d.diags) > before {
		return
	}
	if list, _ := d.strs(e); len(list) == 0 {
		d.errorf(e.Range(), summary, "%s", detail)
	}
}

// ids looks up the names of users or groups; all are in the file, one a line, on systems that have it.
func (d *decoder) ids(e hclsyntax.Expression, lookup func(string) (string, error), what, file string) []uint32 {
	var out []uint32
	for _, w := range d.distinct(e) {
		id, err := resolve(w.text, lookup)
		switch {
		case w.text == "":
			d.errorf(w.at, "Unknown "+what, "The name of the %s is empty.", what)
		case errors.Is(err, errUnknownName):
			near := ""
			if len(w.text) > 2 { // a shorter one is near to everything short
				near = shared.DidYouMean(w.text, namesIn(file))
			}
			d.errorf(w.at, "Unknown "+what, "There is no %s %q on this machine%s", what, w.text, stop(near))
		case err != nil:
			d.errorf(w.at, "Unknown "+what, "The %s %q cannot be looked up: %s", what, w.text, stop(err.Error()))
		default:
			out = append(out, id)
		}
	}
	return out
}

var errUnknownName = errors.New("no such name")

// resolve returns the id of a name, or of a number that is nobody's name, as chown(1) does.
func resolve(name string, lookup func(string) (string, error)) (uint32, error) {
	text, err := lookup(name)
	if err != nil {
		text = name
	}
	id, bad := strconv.ParseUint(text, 10, 32)
	switch {
	case bad == nil && id != noID:
		return uint32(id), nil
	case bad == nil:
		return 0, fmt.Errorf("%s is no id: to the kernel it means none", text)
	case err == nil:
		return 0, fmt.Errorf("its id %q is no number", text)
	default:
		return 0, err
	}
}

// noID is (uid_t)-1, which system calls take for "leave it as it is".
const noID = 1<<32 - 1

func userID(name string) (string, error) {
	u, err := user.Lookup(name)
	if unknown := user.UnknownUserError(""); errors.As(err, &unknown) {
		return "", errUnknownName
	} else if err != nil {
		return "", err
	}
	return u.Uid, nil
}

func groupID(name string) (string, error) {
	g, err := user.LookupGroup(name)
	if unknown := user.UnknownGroupError(""); errors.As(err, &unknown) {
		return "", errUnknownName
	} else if err != nil {
		return "", err
	}
	return g.Gid, nil
}

// namesIn returns the first fields of a file such as /etc/passwd, for a suggestion; none if there is no such file.
func namesIn(file string) []string {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		if name, _, ok := strings.Cut(line, ":"); ok && !strings.HasPrefix(name, "#") {
			names = append(names, name)
		}
	}
	return names
}
