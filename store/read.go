package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/embermq/embermq/commitlog"
	"github.com/embermq/embermq/consumequeue"
	"github.com/embermq/embermq/message"
)

// Read and Scan take at most readCount records and readBytes bytes when the
// caller's Limit leaves them open.
const (
	readCount = 32
	readBytes = 4 << 20
	// scanWindow bounds the entries that one read looks at when a filter matches
	// little, so that a rare tag does not hold a caller for ever: the batch comes
	// back empty with Next moved.
	scanWindow = 8192
	entryBatch = 128
	readChunk  = 64 << 10
)

// Read returns up to n records of q from offset from on that f matches (nil:
// all), in order. It does not wait: at the end of the queue the batch is empty. The
// caller owns the records and their bytes. Batch.Next is where to read next; it
// passes what the filter left out, and an empty batch with Next beyond from
// means that more may follow.
//
// A compressed body is inflated, to at most message.DefaultInflateLimit bytes; one
// that cannot be, as its compression is not supported or its bytes are not what
// they say, comes as it is stored, and Record.Encoding tells.
//
// n.Count defaults to 32 and n.Bytes to 4 MiB; the first record is returned
// whatever its size. ctx bounds the wait for a queue that is being rebuilt; when
// it has ended already the error is its own.
//
// The error is ErrNotFound for an unknown queue, *RangeError if from lies
// outside [start, end], ErrPermission without read permission, *CorruptError for
// a damaged record (the records before it are returned first), or ErrClosed.
func (s *Store) Read(ctx context.Context, q message.Queue, from int64, n message.Limit, f message.Filter) (message.Batch, error) {
	if err := ctx.Err(); err != nil {
		return message.Batch{Next: from}, err
	}
	r := reading{s: s, f: f, want: n.Count}
	defer r.close()
	var next int64
	err := commitlog.Guard(func() (err error) {
		next, err = s.walk(ctx, q, from, n, f, r.take)
		return err
	})
	batch := message.Batch{Records: r.records, Next: next}
	if len(batch.Records) > 0 {
		return batch, nil // the next call meets the error again, at its first record
	}
	return batch, err
}

// lendAfter is how many records a Read takes one by one. Behind them it borrows
// from mapped memory and copies: for a long run that is several times faster than
// a call of the system for each, for a few records it is slower.
const lendAfter = 8

// reading is the state of one Read.
type reading struct {
	s       *Store
	f       message.Filter
	want    int
	records []message.Record
	lender  *commitlog.Lender
	lent    message.Record
	buf     []byte
	chunk   int // grows, so that many records share an allocation and one does not pay for many
}

func (g *reading) close() {
	if g.lender != nil {
		g.lender.Release()
	}
}

// take reads one record for the batch.
func (g *reading) take(qu *queue, e consumequeue.Entry, offset int64) (took bool, err error) {
	n := len(g.records)
	if n < lendAfter {
		g.records = append(g.records, message.Record{})
		took, err = g.read(&g.records[n], qu, e, offset)
	} else {
		if g.lender == nil {
			g.lender = g.s.log.NewLender(true)
			g.records = slices.Grow(g.records, min(g.want, entryBatch))
		}
		if took, err = g.borrow(qu, e, offset); !took {
			return false, err
		}
		g.records = append(g.records, message.Record{})
		err = g.records[n].Reset(append(g.room(e)[:0], g.lent.Bytes()...))
	}
	if err != nil || !took {
		g.records = g.records[:n]
		return false, err
	}
	g.buf = g.buf[e.Size:]
	if r := &g.records[n]; r.Encoding() != message.None {
		_ = r.InflateBody(0) // one that cannot be inflated comes as it is stored
	}
	return true, nil
}

// room is memory for one record.
func (g *reading) room(e consumequeue.Entry) []byte {
	if len(g.buf) < int(e.Size) {
		g.chunk = min(2*g.chunk+int(e.Size), readChunk)
		g.buf = make([]byte, max(int(e.Size), g.chunk))
	}
	return g.buf[:e.Size:e.Size]
}

func (g *reading) read(r *message.Record, qu *queue, e consumequeue.Entry, offset int64) (bool, error) {
	if err := g.s.recordOf(qu, offset, e, g.room(e), r); err != nil {
		return false, err
	}
	return g.f == nil || g.f.Match(r), nil
}

func (g *reading) borrow(qu *queue, e consumequeue.Entry, offset int64) (bool, error) {
	if err := g.lender.Lend(e.Position, int(e.Size), &g.lent); err != nil {
		return false, g.s.blame(qu, offset, e, err)
	}
	if err := g.s.belongs(&g.lent, qu, offset); err != nil {
		return false, err
	}
	return g.f == nil || g.f.Match(&g.lent), nil
}

// Scan calls lend for up to n records of q from offset from on that f matches,
// without copying them: a record, its strings and bytes alias the store's
// memory and are gone when lend returns (Clone keeps one). It returns the offset to
// scan next. An error of lend ends the scan, is returned as it is, and next is
// the offset of that record. Otherwise it behaves like Read.
//
// Bodies are lent as they are stored: unlike in Read, a compressed one stays
// compressed, see Record.Inflate.
func (s *Store) Scan(q message.Queue, from int64, n message.Limit, f message.Filter, lend func(*message.Record) error) (next int64, err error) {
	l := s.log.NewLender(!s.cfg.uncheckedRead)
	defer l.Release()
	err = commitlog.Guard(func() error {
		next, err = s.scan(l, q, from, n, f, lend)
		return err
	})
	return next, err
}

func (s *Store) scan(l *commitlog.Lender, q message.Queue, from int64, n message.Limit, f message.Filter, lend func(*message.Record) error) (int64, error) {
	w := walkers.Get().(*walker)
	defer w.release()
	r := &w.rec
	return s.walkWith(context.Background(), w, q, from, n, f, func(qu *queue, e consumequeue.Entry, offset int64) (bool, error) {
		if err := l.Lend(e.Position, int(e.Size), r); err != nil {
			return false, s.blame(qu, offset, e, err)
		}
		if err := s.belongs(r, qu, offset); err != nil {
			return false, err
		}
		if f != nil && !f.Match(r) {
			return false, nil
		}
		return true, lend(r)
	})
}

// walker is the memory of one walk, which would otherwise be allocated each time.
type walker struct {
	entries [entryBatch]consumequeue.Entry
	rec     message.Record
}

var walkers = sync.Pool{New: func() any { return new(walker) }}

func (w *walker) release() {
	w.rec = message.Record{} // it must not keep a mapping's bytes in sight
	walkers.Put(w)
}

func (s *Store) walk(ctx context.Context, name message.Queue, from int64, n message.Limit, f message.Filter, take func(*queue, consumequeue.Entry, int64) (bool, error)) (next int64, err error) {
	w := walkers.Get().(*walker)
	defer w.release()
	return s.walkWith(ctx, w, name, from, n, f, take)
}

// walkWith goes over the entries of a queue from offset from on, leaves out those
// whose tag hash cannot match, and calls take for the rest until the limit is reached. It
// returns the offset behind the last entry that was settled.
func (s *Store) walkWith(ctx context.Context, w *walker, name message.Queue, from int64, n message.Limit, f message.Filter, take func(*queue, consumequeue.Entry, int64) (bool, error)) (next int64, err error) {
	q, err := s.readable(name)
	if err != nil {
		return from, err
	}
	if n.Count <= 0 {
		n.Count = readCount
	}
	if n.Bytes <= 0 {
		n.Bytes = readBytes
	}
	var hashes []int64
	if f != nil {
		hashes = f.Hashes()
	}
	count, bytes, looked, waited := 0, 0, 0, false
entries:
	for next = from; count < n.Count && looked < scanWindow; {
		want := entryBatch
		if f == nil {
			want = min(want, n.Count-count)
		}
		got, err := q.entries.ReadContext(ctx, next, w.entries[:want])
		if err != nil {
			return next, s.rangeError(err, q, next)
		}
		if got == 0 {
			return next, nil
		}
		for _, e := range w.entries[:got] {
			looked++
			if e.Blank() {
				if err := q.lostAt(next); err != nil {
					return next, err
				}
			}
			if e.Blank() || !hashMatches(hashes, e.TagHash) {
				next++
				continue
			}
			if count > 0 && bytes+int(e.Size) > n.Bytes {
				return next, nil
			}
			took, err := false, s.saneSize(q, next, e)
			if err == nil {
				took, err = take(q, e, next)
			}
			if err != nil {
				var wrong *entryError
				if !errors.As(err, &wrong) {
					return next, s.queueError(err, q)
				}
				if waited {
					return next, s.queueError(wrong.CorruptError, q)
				}
				waited = true
				continue entries // which waits for the rebuild
			}
			next++
			if took {
				count++
				bytes += int(e.Size)
				if count == n.Count {
					return next, nil
				}
			}
		}
	}
	return next, nil
}

func hashMatches(hashes []int64, h int64) bool {
	if hashes == nil {
		return true
	}
	for _, x := range hashes {
		if x == h {
			return true
		}
	}
	return false
}

// readable finds a queue that may be read.
func (s *Store) readable(name message.Queue) (*queue, error) {
	if err := s.usable(); err != nil {
		return nil, err
	}
	tp, ok := s.topics.get(name.Topic)
	if !ok {
		return nil, fmt.Errorf("store: topic %q: %w", name.Topic, ErrNotFound)
	}
	row := tp.row.Load()
	if row.Permission&PermRead == 0 {
		return nil, fmt.Errorf("store: read topic %s: %w", name.Topic, ErrPermission)
	}
	q, ok := tp.queue(name.ID)
	if !ok || int(name.ID) >= row.ReadQueues {
		return nil, fmt.Errorf("store: queue %s: %w", name, ErrNotFound)
	}
	return q, nil
}

// Bounds returns the first kept offset of q and the offset that the next
// message gets: [start, end). It needs no permission, and also tells of queues
// beyond the topic's ReadQueues, which consumers may still have to drain.
func (s *Store) Bounds(q message.Queue) (start, end int64, err error) {
	if err := s.usable(); err != nil {
		return 0, 0, err
	}
	return s.bounds(q)
}

func (s *Store) bounds(q message.Queue) (start, end int64, err error) {
	start, end, ok := s.queueBounds(q)
	if !ok {
		return 0, 0, fmt.Errorf("store: queue %s: %w", q, ErrNotFound)
	}
	return start, end, nil
}

// Get returns the record at a log position as Receipt.Position or an index
// names it. The caller owns its bytes. A position at which no living record
// begins is ErrNotFound.
func (s *Store) Get(ctx context.Context, position int64) (message.Record, error) {
	var r message.Record
	if err := s.usable(); err != nil {
		return r, err
	}
	if err := ctx.Err(); err != nil {
		return r, err
	}
	if position < s.log.Start() || position >= s.log.Visible() {
		return r, fmt.Errorf("store: position %d: %w", position, ErrNotFound)
	}
	if err := s.log.RecordAt(position, &r); err != nil {
		return r, err
	}
	if !s.topics.alive(r.Topic(), position) {
		return message.Record{}, fmt.Errorf("store: position %d: its topic was deleted: %w", position, ErrNotFound)
	}
	return r, nil
}
