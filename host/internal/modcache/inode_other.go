//go:build !unix

package modcache

import "io/fs"

// inode is 0: what os.Stat tells has no such number.
func inode(fs.FileInfo) uint64 { return 0 }
