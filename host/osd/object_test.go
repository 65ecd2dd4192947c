package osd

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"unsafe"

	"pgregory.net/rapid"

	"github.com/khelp/khelp/shared"
)

func TestObject(t *testing.T) {
	a, b := NewSlot(1, []byte("a"), nil), NewSlot(2, []byte("b"), nil)
	o := NewObject(42, "edge", []shared.Class{"tcp", "socket"}, []*Slot{a, b}, nil)
	if o.ID() != 42 || o.Vnet() != "edge" || !slices.Equal(o.Classes(), []shared.Class{"tcp", "socket"}) {
		t.Errorf("%d %q %v", o.ID(), o.Vnet(), o.Classes())
	}
	if o.Slot(1) != a || o.Slot(2) != b || o.Slot(3) != nil || o.Slot(0) != nil || len(o.Slots()) != 2 {
		t.Error("slots are mixed up")
	}
	if o.Name() != "" || o.Forwarded() != nil {
		t.Errorf("%q, %v of a new object", o.Name(), o.Forwarded())
	}
	o.SetName("10.0.0.1:80")
	o.SetForwarded(func() map[shared.HookPoint]uint64 {
		o.SetName("changed meanwhile") // no lock of the object is held
		return map[shared.HookPoint]uint64{"tcp.est_in": 3}
	})
	if o.Forwarded()["tcp.est_in"] != 3 || o.Name() != "changed meanwhile" {
		t.Errorf("%v %q", o.Forwarded(), o.Name())
	}
}

func TestOrderSlots(t *testing.T) {
	data := NewSlot(1, nil, nil)
	o := NewObject(1, "", nil, []*Slot{data}, nil)
	never := func() *Slot { t.Error("a slot was made"); return nil }
	if o.OrderSlot(1, never) != data {
		t.Error("the slot with data does not keep order")
	}
	made := o.OrderSlot(2, func() *Slot { return NewOrderSlot(2, nil) })
	three := o.OrderSlot(3, func() *Slot { return NewOrderSlot(3, nil) })
	if o.OrderSlot(2, never) != made || o.OrderSlot(3, never) != three || o.Slot(2) != nil {
		t.Error("an order slot was not found again, or counts as one with data")
	}
	var seen []*Slot
	o.EachSlot(func(s *Slot) { seen = append(seen, s) })
	if !slices.Equal(seen, []*Slot{data, made, three}) {
		t.Errorf("%v", seen)
	}
	o.Forget(2)
	o.Forget(9)
	o.Forget(1) // data does not go this way
	if o.OrderSlot(3, never) != three || o.Slot(1) != data {
		t.Error("Forget took another's slot")
	}
	if o.OrderSlot(2, func() *Slot { return NewOrderSlot(2, nil) }) == made {
		t.Error("Forget forgot nothing")
	}
}

func TestHammerOrderSlots(t *testing.T) {
	o := newTestObject()
	var made [8]atomic.Int32
	var first [8]atomic.Pointer[Slot]
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for i := range 400 {
				h := shared.HelperID(i % 8)
				s := o.OrderSlot(h, func() *Slot { made[h].Add(1); return NewOrderSlot(h, nil) })
				if s.Helper() != h {
					t.Errorf("helper %d got the slot of %d", h, s.Helper())
				}
				if !first[h].CompareAndSwap(nil, s) && first[h].Load() != s {
					t.Errorf("helper %d has two slots", h)
				}
				o.EachSlot(func(*Slot) {})
			}
		})
		callers.Go(func() {
			for range 200 {
				id := shared.HelperID(100)
				o.OrderSlot(id, func() *Slot { return NewOrderSlot(id, nil) })
				o.Forget(id)
			}
		})
	}
	callers.Wait()
	for h := range made {
		if n := made[h].Load(); n != 1 {
			t.Errorf("%d slots were made for helper %d", n, h)
		}
	}
}

func TestDestroyOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		boom := errors.New("boom")
		calls := 0
		release := make(chan struct{})
		var o *Object
		o = NewObject(1, "", nil, nil, func(_ context.Context, got *Object) error {
			if calls++; got != o {
				t.Error("another object")
			}
			<-release
			return boom
		})
		var ends atomic.Int32
		for range 3 {
			go func() {
				if err := o.Destroy(t.Context()); !errors.Is(err, boom) {
					t.Errorf("%v", err)
				}
				ends.Add(1)
			}()
		}
		synctest.Wait()
		if ends.Load() != 0 {
			t.Error("Destroy returned before the object was gone")
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := o.Destroy(ctx); !errors.Is(err, shared.ErrTimeout) {
			t.Errorf("one who does not wait: %v", err)
		}
		close(release)
		synctest.Wait()
		if err := o.Destroy(t.Context()); !errors.Is(err, boom) || calls != 1 || ends.Load() != 3 {
			t.Errorf("%v, the owner was called %d times, %d returned", err, calls, ends.Load())
		}
	})
}

// The model is a map. Invariants: Get, Len and All agree with it, All is sorted by id.
func TestTableModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var table Table
		model := map[uint64]*Object{}
		id := rapid.OneOf(rapid.Uint64Range(1, 40), rapid.Uint64())
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				o := NewObject(id.Draw(t, "id"), "", nil, nil, nil)
				table.Add(o)
				model[o.id] = o
			},
			"remove": func(t *rapid.T) {
				n := id.Draw(t, "id")
				table.Remove(NewObject(n, "", nil, nil, nil))
				delete(model, n)
			},
			"": func(t *rapid.T) {
				if table.Len() != len(model) {
					t.Fatalf("%d objects, want %d", table.Len(), len(model))
				}
				all := table.All()
				if len(all) != len(model) || !slices.IsSortedFunc(all, func(a, b *Object) int {
					if a.id < b.id {
						return -1
					}
					return 1
				}) {
					t.Fatalf("%d objects, want %d, sorted", len(all), len(model))
				}
				for n, o := range model {
					if table.Get(n) != o {
						t.Fatalf("object %d is missing", n)
					}
				}
				if n := id.Draw(t, "probe"); table.Get(n) != model[n] {
					t.Fatalf("Get(%d) = %v", n, table.Get(n))
				}
			},
		})
	})
}

func TestHammerTable(t *testing.T) {
	var table Table
	var callers sync.WaitGroup
	for g := range uint64(8) {
		callers.Go(func() {
			for i := range uint64(300) {
				o := NewObject(1+g+8*i, "", nil, nil, nil)
				table.Add(o)
				if table.Get(o.id) != o || table.Len() == 0 || len(table.All()) == 0 {
					t.Error("an object that is there was not found")
				}
				table.Remove(o)
			}
		})
	}
	callers.Wait()
	if table.Len() != 0 {
		t.Errorf("%d objects are left", table.Len())
	}
}

// objectTarget is what one object with one 64-byte slot may weigh, the dispatcher's serial not counted.
const objectTarget = 512

// heapPerObject returns how many bytes of heap one object with one slot of 64 bytes takes.
func heapPerObject(n int) float64 {
	objects := make([]*Object, n)
	data := make([]byte, 64)
	classes := []shared.Class{"tcp"}
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for i := range objects {
		objects[i] = NewObject(uint64(i+1), "", classes, []*Slot{NewSlot(1, data, nil)}, nil)
	}
	after := heap()
	runtime.KeepAlive(objects)
	return float64(after-before) / float64(n)
}

func TestObjectsAreSmall(t *testing.T) {
	if got := heapPerObject(20000); got > objectTarget {
		t.Errorf("an object with one 64-byte slot takes %.0f bytes, want %d at most", got, objectTarget)
	}
	t.Logf("Object %d, Slot %d bytes", unsafe.Sizeof(Object{}), unsafe.Sizeof(Slot{}))
}

func BenchmarkObjectMemory(b *testing.B) {
	var bytes float64
	for b.Loop() {
		bytes = heapPerObject(10000)
	}
	b.ReportMetric(bytes, "B/object")
}
