package osd

import (
	"slices"
	"sync"
)

// tableShards spreads the table's locks: objects come and go with connections.
const tableShards = 16

// Table holds the objects that are alive. The zero value is empty and ready; it is safe for concurrent use.
type Table struct {
	shards [tableShards]shard
}

type shard struct {
	mu      sync.Mutex // protects the following field
	objects map[uint64]*Object
}

func (t *Table) shard(id uint64) *shard { return &t.shards[id%tableShards] }

// Add puts an object in.
func (t *Table) Add(o *Object) {
	s := t.shard(o.id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.objects == nil {
		s.objects = make(map[uint64]*Object)
	}
	s.objects[o.id] = o
}

// Remove takes an object out.
func (t *Table) Remove(o *Object) {
	s := t.shard(o.id)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, o.id)
}

// Get returns the object with an id, or nil.
func (t *Table) Get(id uint64) *Object {
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.objects[id]
}

// Len returns how many objects there are.
func (t *Table) Len() int {
	n := 0
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		n += len(s.objects)
		s.mu.Unlock()
	}
	return n
}

// All returns the objects alive now, by id.
func (t *Table) All() []*Object {
	var all []*Object
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for _, o := range s.objects {
			all = append(all, o)
		}
		s.mu.Unlock()
	}
	slices.SortFunc(all, func(a, b *Object) int {
		if a.id < b.id {
			return -1
		}
		return 1
	})
	return all
}
