package osd

import (
	"bytes"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

func TestSlotKeepsItsOwnBytes(t *testing.T) {
	first := []byte("first")
	s := NewSlot(7, first, "serial")
	first[0] = 'X'
	if s.Helper() != 7 || !s.KeepsData() || s.Serial() != "serial" || string(s.Bytes()) != "first" || s.Len() != 5 {
		t.Errorf("%d %v %v %q %d", s.Helper(), s.KeepsData(), s.Serial(), s.Bytes(), s.Len())
	}
	next := []byte("second")
	s.Commit(next, nil)
	next[0] = 'X'
	got := s.Bytes()
	if string(got) != "second" || string(s.Lent()) != "second" || s.Len() != 6 {
		t.Errorf("%q %q", got, s.Lent())
	}
	got[0] = 'X'
	if string(s.Bytes()) != "second" {
		t.Error("a reading shares the slot's bytes")
	}
	s.Commit(s.Lent()[3:], nil) // what is committed may be part of what was lent
	if string(s.Bytes()) != "ond" {
		t.Errorf("%q", s.Bytes())
	}
	s.Commit(nil, nil)
	if s.Len() != 0 || len(s.Bytes()) != 0 {
		t.Errorf("%q after no bytes", s.Bytes())
	}
	if o := NewOrderSlot(8, nil); o.KeepsData() || o.Helper() != 8 || o.Len() != 0 {
		t.Error("an order slot keeps data")
	}
}

func TestSlotIsWhatWasCommittedLast(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOf(rapid.Byte()).Draw(t, "template")
		s := NewSlot(1, want, nil)
		for range rapid.IntRange(0, 10).Draw(t, "commits") {
			want = rapid.SliceOf(rapid.Byte()).Draw(t, "data")
			s.Commit(want, nil)
		}
		if !bytes.Equal(s.Bytes(), want) || s.Len() != len(want) {
			t.Fatalf("%x, want %x", s.Bytes(), want)
		}
	})
}

// A reader sees one commit whole, never parts of two.
func TestO4_ReadersSeeWholeCommits(t *testing.T) {
	s := NewSlot(1, bytes.Repeat([]byte{0}, 64), nil)
	var readers sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				b := s.Bytes()
				if len(b) == 0 || !bytes.Equal(b, bytes.Repeat(b[:1], len(b))) {
					t.Errorf("a torn reading: %x", b)
					return
				}
			}
		})
	}
	for i := range 3000 {
		s.Commit(bytes.Repeat([]byte{byte(i)}, 1+i%100), nil)
	}
	close(stop)
	readers.Wait()
}
