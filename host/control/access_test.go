package control

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/khelp/khelp/shared"
)

func TestAllow(t *testing.T) {
	const stranger = 65500
	allow := Allow([]shared.AccessRule{
		{Privileges: []shared.Privilege{shared.PrivilegeStat}, GIDs: []uint32{4}},
		{Privileges: []shared.Privilege{shared.PrivilegeLoad, shared.PrivilegeLogs}, UIDs: []uint32{stranger + 1}},
	})
	for _, tt := range []struct {
		name      string
		peer      Peer
		privilege shared.Privilege
		want      error
	}{
		{"root", Peer{UID: 0, Known: true}, shared.PrivilegeReload, nil},
		{"own user", Peer{UID: uint32(os.Geteuid()), Known: true}, shared.PrivilegeReload, nil},
		{"primary group", Peer{UID: stranger, GID: 4, Known: true}, shared.PrivilegeStat, nil},
		{"supplementary group", Peer{UID: stranger, GID: 7, Groups: []uint32{9, 4}, Known: true}, shared.PrivilegeStat, nil},
		{"group, another privilege", Peer{UID: stranger, GID: 4, Known: true}, shared.PrivilegeLoad, shared.ErrPermission},
		{"no group", Peer{UID: stranger, GID: 7, Groups: []uint32{9}, Known: true}, shared.PrivilegeStat, shared.ErrPermission},
		{"user", Peer{UID: stranger + 1, GID: 7, Known: true}, shared.PrivilegeLogs, nil},
		{"user, another privilege", Peer{UID: stranger + 1, GID: 7, Known: true}, shared.PrivilegeUnload, shared.ErrPermission},
		{"a uid is no gid", Peer{UID: 4, GID: stranger + 1, Known: true}, shared.PrivilegeStat, shared.ErrPermission},
		{"unknown", Peer{GID: 4}, shared.PrivilegeStat, shared.ErrPermission},
	} {
		if err := allow(t.Context(), tt.peer, tt.privilege); !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	err := allow(t.Context(), Peer{UID: stranger, GID: 7, PID: 12, Known: true}, shared.PrivilegeHold)
	if err == nil || err.Error() != "hold is refused to uid 65500 gid 7 pid 12" {
		t.Errorf("the refusal is %v", err)
	}
}

func TestModes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.sock")
	lis, err := ListenMode(path, Public)
	if !systemHasPeers {
		wantIs(t, err, shared.ErrUnsupported)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	wantMode := func(want fs.FileMode) {
		t.Helper()
		if info, err := os.Lstat(path); err != nil || info.Mode() != fs.ModeSocket|want {
			t.Errorf("mode is %v (%v), want %v", info.Mode(), err, want)
		}
	}
	wantMode(Public)
	for _, mode := range []fs.FileMode{Private, Public, Private} {
		if err := SetMode(lis, mode); err != nil {
			t.Error(err)
		}
		wantMode(mode)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantIs(t, SetMode(lis, Public), shared.ErrNotExist)
	if info, err := os.Lstat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("what is there instead was touched: %v, %v", info.Mode(), err)
	}
}
