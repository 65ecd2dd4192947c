//go:build !linux

package filesum

import "os"

type identity struct{}

// identify knows no file here: each is read.
func identify(*os.File) (identity, bool) { return identity{}, false }
