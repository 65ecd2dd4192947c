package feed

// ring is a queue that holds at most max values. Its memory grows with what it holds; max is at least 1.
type ring[T any] struct {
	max   int
	buf   []T
	start int // where the oldest value stands
	n     int
}

// push adds a value. A full ring gives up its oldest value for it, and says so.
func (r *ring[T]) push(v T) (dropped bool) {
	if r.n == r.max {
		r.pop()
		dropped = true
	}
	if r.n == len(r.buf) {
		r.grow()
	}
	r.buf[(r.start+r.n)%len(r.buf)] = v
	r.n++
	return dropped
}

func (r *ring[T]) grow() {
	buf := make([]T, min(max(2*len(r.buf), 8), r.max))
	r.copyTo(buf)
	r.buf, r.start = buf, 0
}

// pop takes the oldest value out. The ring must not be empty.
func (r *ring[T]) pop() T {
	var zero T
	v := r.buf[r.start]
	r.buf[r.start] = zero // what it refers to is no more the ring's to keep
	r.start = (r.start + 1) % len(r.buf)
	r.n--
	return v
}

// values returns what the ring holds, oldest first. The caller owns the slice.
func (r *ring[T]) values() []T {
	out := make([]T, r.n)
	r.copyTo(out)
	return out
}

func (r *ring[T]) copyTo(out []T) {
	if r.n == 0 {
		return
	}
	first := copy(out[:r.n], r.buf[r.start:])
	copy(out[first:r.n], r.buf)
}
