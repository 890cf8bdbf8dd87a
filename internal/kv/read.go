package kv

import (
	"errors"
	"iter"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// KV is one entry of a scan. Its bytes are lent until the next step.
type KV struct{ Key, Value []byte }

// Get returns a copy of the value of key, and false when there is none. It sees
// every Apply that returned before. The error matches ErrClosed, ErrPoisoned or
// ErrCorrupt, or is that of a failed read.
func (d *DB) Get(key []byte) (value []byte, ok bool, err error) {
	var v []byte
	var found bool
	key = append([]byte(nil), key...) // the reading goroutine may outlive the call
	err = d.run(func() error {
		b, c, err := d.pdb.Get(key)
		if errors.Is(err, pebble.ErrNotFound) {
			return nil
		}
		if err != nil {
			return typed("get", err)
		}
		v, found = append(make([]byte, 0, len(b)), b...), true
		return c.Close()
	})
	if err != nil {
		return nil, false, err
	}
	return v, found, nil
}

// Scan returns the entries with from <= key < to in order of their keys, as they
// stood when the iteration began. nil is before the first or behind the last
// key. An error comes last, with an empty KV. The loop body may call any method
// of the DB.
func (d *DB) Scan(from, to []byte) iter.Seq2[KV, error] {
	return func(yield func(KV, error) bool) {
		s := &scan{d: d, from: clone(from), to: clone(to)}
		defer s.end()
		for {
			c, err := s.next()
			if err != nil {
				yield(KV{}, err)
				return
			}
			for i := range c.ends {
				if !yield(c.kv(i), nil) {
					return
				}
				// A poison or Close ends the scan now, not when the chunk is used up.
				if err := d.readable(); err != nil {
					yield(KV{}, err)
					return
				}
			}
			if c.last {
				return
			}
		}
	}
}

func clone(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append([]byte{}, b...)
}

// readable is the error of a scan that must not go on.
func (d *DB) readable() error {
	select {
	case <-d.closing:
		return ErrClosed
	case <-d.poison.done:
		return d.poison.Err()
	default:
		return nil
	}
}

// Chunks begin small, for scans that stop early, and grow.
const (
	firstChunk = 16
	maxChunk   = 512
	maxBytes   = 256 << 10
)

// chunk is a run of entries, copied out of Pebble.
type chunk struct {
	buf  []byte
	ends []int // where each key ends in buf
	vals []int // where its value ends
	last bool
}

func (c *chunk) kv(i int) KV {
	start := 0
	if i > 0 {
		start = c.vals[i-1]
	}
	return KV{Key: c.buf[start:c.ends[i]:c.ends[i]], Value: c.buf[c.ends[i]:c.vals[i]:c.vals[i]]}
}

// scan is one iteration. Close of the DB ends it between two chunks, so the
// iterator lies under a lock of its own, which is held while a chunk is read.
type scan struct {
	d        *DB
	from, to []byte
	want     int
	chunk    chunk // the one that the loop body sees

	mu   sync.Mutex
	iter *pebble.Iterator // guarded by mu
	over bool             // guarded by mu
}

// next reads the following chunk.
func (s *scan) next() (*chunk, error) {
	s.want = min(max(firstChunk, s.want*4), maxChunk)
	c, want := s.chunk, s.want // the goroutine owns c until it is done
	err := s.d.run(func() error { return s.fill(&c, want) })
	if err != nil {
		s.chunk = chunk{}
		return nil, err
	}
	s.chunk = c
	return &s.chunk, nil
}

func (s *scan) fill(c *chunk, want int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return ErrClosed
	}
	valid := false
	if s.iter == nil {
		it, err := s.d.pdb.NewIter(&pebble.IterOptions{LowerBound: s.from, UpperBound: s.to})
		if err != nil {
			return typed("scan", err)
		}
		s.iter = it
		s.d.keep(s)
		valid = it.First()
	} else {
		valid = s.iter.Next()
	}
	c.buf, c.ends, c.vals, c.last = c.buf[:0], c.ends[:0], c.vals[:0], false
	for ; valid; valid = s.iter.Next() {
		v, err := s.iter.ValueAndErr()
		if err != nil {
			return typed("scan", err)
		}
		c.buf = append(c.buf, s.iter.Key()...)
		c.ends = append(c.ends, len(c.buf))
		c.buf = append(c.buf, v...)
		c.vals = append(c.vals, len(c.buf))
		if len(c.ends) >= want || len(c.buf) >= maxBytes {
			return nil
		}
	}
	c.last = true
	return typed("scan", s.iter.Error())
}

// end closes the iterator, on a goroutine that may be left behind.
func (s *scan) end() {
	// After ErrClosed, Close has ended the scan; after a poison nobody can.
	_ = s.d.run(func() error {
		s.close()
		return nil
	})
}

func (s *scan) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	s.over = true
	if s.iter != nil {
		// Its error was seen by fill, or is that of entries nobody asked for.
		_ = s.iter.Close()
	}
	s.d.drop(s)
}

// keep registers a scan whose iterator is open, for Close.
func (d *DB) keep(s *scan) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.scans[s] = struct{}{}
}

func (d *DB) drop(s *scan) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.mu.scans, s)
}

// endScans closes the iterators that callers have open. No call is in flight.
func (d *DB) endScans() error {
	d.mu.Lock()
	open := make([]*scan, 0, len(d.mu.scans))
	for s := range d.mu.scans {
		open = append(open, s)
	}
	d.mu.Unlock()
	for _, s := range open {
		s.close()
	}
	return nil
}
