package modcache

import "github.com/khelp/khelp/shared"

type Cache struct{}

func Open(string) *Cache { return &Cache{} }
func (c *Cache) Lookup(command []string, exact bool) (*shared.Modinfo, string, bool) { return nil, "", false }
func (c *Cache) Store(command []string, sum string, info *shared.Modinfo) {}
