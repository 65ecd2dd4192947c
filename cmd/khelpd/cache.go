package main

import (
	"os"
	"path/filepath"
)

// cacheEnv names the directory of the Modinfo cache.
const cacheEnv = "KHELPD_CACHE"

// cacheDir returns where what helpers say of themselves is kept between runs: of the environment, else the system's place for root and the
// user's for others; "" where there is none. It may be lost at any time, and need not be writable.
func cacheDir() string {
	if dir := os.Getenv(cacheEnv); dir != "" {
		return dir
	}
	if os.Geteuid() == 0 {
		return "/var/cache/khelpd"
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "khelpd")
}
