package config

import (
	"errors"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestAccess_NamesBecomeIDs: names are looked up when the configuration is read, and what is no name but a number is an id.
func TestAccess_NamesBecomeIDs(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Skip(err)
	}
	uid, err := strconv.ParseUint(me.Uid, 10, 32)
	if err != nil {
		t.Skip("this system has no numeric user ids")
	}
	cfg := parsed(t, "khelpd.hcl", "access {\n  allow {\n    actions = [\"plan\"]\n    users   = ["+strconv.Quote(me.Username)+"]\n  }\n}\n")
	if got := cfg.Access.Rules[0].UIDs; len(got) != 1 || uint64(got[0]) != uid {
		t.Errorf("user %s became %v, want %s", me.Username, got, me.Uid)
	}
	group, err := user.LookupGroupId(me.Gid)
	if err != nil {
		t.Skip(err)
	}
	gid, _ := strconv.ParseUint(me.Gid, 10, 32)
	cfg = parsed(t, "khelpd.hcl", "access {\n  allow {\n    actions = [\"plan\"]\n    groups  = ["+strconv.Quote(group.Name)+"]\n  }\n}\n")
	if got := cfg.Access.Rules[0].GIDs; len(got) != 1 || uint64(got[0]) != gid {
		t.Errorf("group %s became %v, want %s", group.Name, got, me.Gid)
	}
}

func TestResolve(t *testing.T) {
	lookup := func(name string) (string, error) {
		switch name {
		case "adm":
			return "4", nil
		case "17": // a name that looks like an id is a name
			return "1017", nil
		case "sid":
			return "S-1-5-21", nil
		case "broken":
			return "", errors.New("the directory does not answer")
		}
		return "", errUnknownName
	}
	for name, want := range map[string]uint32{"adm": 4, "17": 1017, "0": 0, "18": 18, "4294967294": 4294967294} {
		if got, err := resolve(name, lookup); got != want || err != nil {
			t.Errorf("%q is %d, %v; want %d", name, got, err, want)
		}
	}
	for name, want := range map[string]string{
		"nobody-here": "no such name", "-1": "no such name", "4294967296": "no such name", "4294967295": "to the kernel it means none",
		"sid": "is no number", "broken": "does not answer",
	} {
		if got, err := resolve(name, lookup); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is %d, %v; want %q", name, got, err, want)
		}
	}
}

func TestNamesIn(t *testing.T) {
	file := filepath.Join(t.TempDir(), "passwd")
	writeFile(t, file, []byte("# made by hand:\nroot:x:0:0\n\nadm:x:3:4\n"))
	if got := strings.Join(namesIn(file), " "); got != "root adm" {
		t.Errorf("names are %q", got)
	}
	if got := namesIn(file + "-that-is-not-there"); got != nil {
		t.Errorf("a file that is not there has %q", got)
	}
}
