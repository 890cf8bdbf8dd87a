package index

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/embermq/embermq/internal/plant"
	"github.com/embermq/embermq/message"
)

// DefaultLimit is how many records a query yields when it does not say;
// RocketMQLimit is the most that RocketMQ gives.
const (
	DefaultLimit  = 32
	RocketMQLimit = 64
)

// By says what Query.Key is.
type By uint8

// ByAny finds a key of KEYS or a unique id, as RocketMQ does.
const (
	ByAny By = iota
	ByKey
	ByUniqueID
)

// Query asks for the records of a topic that have a key, newest first.
type Query struct {
	// Topic is the topic the record lies in. A message that waits lies in a system
	// topic.
	Topic string
	// Key must not be empty. KEYS are split at spaces, so only a unique id can be
	// found by a key with a space in it.
	Key string
	By  By
	// Begin and End bound the store time, both included; zero means no bound.
	Begin, End time.Time
	// Before, when positive, wants only records at smaller positions: how to go on
	// behind Result.Complete.
	Before int64
	// Limit is how many records to yield; default DefaultLimit.
	Limit int
	// Match, if set, decides on a record that has the key, before it counts.
	Match func(r *message.Record) bool
	// MaxSteps bounds the entries looked at, MaxReads the records read and MaxTime
	// the time; default 1,048,576, 2,048 and one second.
	MaxSteps, MaxReads int
	MaxTime            time.Duration
}

// Result is how a query ended.
type Result struct {
	// Found is how many records were yielded.
	Found int
	// Truncated says that a bound other than Limit ended the query. What was
	// yielded is complete down to Complete.
	Truncated bool
	// Complete is a position: every match at or behind it was yielded. It is 0
	// when all of the index was searched.
	Complete int64
	// Steps, Reads and Skipped count the entries looked at, the records read and
	// those of them that could not be read: expired ones, mostly.
	Steps, Reads, Skipped int
}

const (
	defaultSteps = 1 << 20
	defaultReads = 2048
	defaultTime  = time.Second
	clockEvery   = 1024 // entries between two looks at the clock
)

// Find yields the records that q asks for, newest first and each once, until
// yield returns false. read returns the record at a position of the log; one
// that it cannot read is passed over. A record is valid until the next call of
// read. Everything that was built when Find began is found; Wait comes before it.
//
// Damage ends the chain it is found in; Find goes on with the other files and
// returns a *message.CorruptError at its end, beside a result that is good for
// what was yielded. Other errors are ctx's, the file system's, and
// *message.InvalidError.
func (x *Index) Find(ctx context.Context, q Query, read func(position int64) (*message.Record, error), yield func(r *message.Record) bool) (Result, error) {
	if q.Topic == "" || q.Key == "" {
		return Result{}, &message.InvalidError{Field: "Query", Reason: "topic and key must not be empty"}
	}
	orDefault(&q.Limit, DefaultLimit)
	orDefault(&q.MaxSteps, defaultSteps)
	orDefault(&q.MaxReads, defaultReads)
	if q.MaxTime == 0 {
		q.MaxTime = defaultTime
	}
	if q.Limit < 0 {
		return Result{}, &message.InvalidError{Field: "Query.Limit", Reason: "negative"}
	}
	damage := x.await(ctx, x.loaded.Load)
	if damage != nil && !isCorrupt(damage) {
		return Result{}, damage
	}
	w := walk{x: x, ctx: ctx, q: &q, read: read, yield: yield, hash: Hash(q.Topic, q.Key), last: math.MaxInt64}
	w.begin, w.end = bounds(q)
	w.deadline = x.o.Clock.Now().Add(q.MaxTime)
	w.win.buf = windows.Get().(*[]byte)
	defer windows.Put(w.win.buf)
	err := w.run()
	return w.res, errors.Join(err, damage)
}

func isCorrupt(err error) bool { return errors.Is(err, message.ErrCorrupt) }

func bounds(q Query) (begin, end int64) {
	begin, end = math.MinInt64, math.MaxInt64
	if !q.Begin.IsZero() {
		begin = q.Begin.UnixMilli()
		if q.Begin.Nanosecond()%1e6 != 0 {
			begin++ // a store time has whole milliseconds
		}
	}
	if !q.End.IsZero() {
		end = q.End.UnixMilli()
	}
	return begin, end
}

// walk is one query on its way.
type walk struct {
	x          *Index
	ctx        context.Context
	q          *Query
	read       func(int64) (*message.Record, error)
	yield      func(*message.Record) bool
	hash       int32
	begin, end int64
	deadline   time.Time
	last       int64 // position of the last entry with the hash
	done       bool  // enough was yielded, or a bound was met
	res        Result
	win        window
}

func (w *walk) run() error {
	list := *w.x.files.Load()
	var damage error
	for i := len(list) - 1; i >= 0 && !w.done; i-- {
		f := list[i]
		h, ordered := f.view()
		if h.Next <= 1 || w.q.Before > 0 && h.BeginPosition >= w.q.Before ||
			ordered && (h.EndTime < w.begin || h.BeginTime > w.end) {
			continue
		}
		err := w.file(f, h, ordered)
		switch {
		case err == nil, errors.Is(err, errGone):
		case isCorrupt(err):
			w.x.markDamaged(err)
			damage = errors.Join(damage, fmt.Errorf("index: %w", err))
		default:
			return err
		}
	}
	if w.done && w.last != math.MaxInt64 {
		w.res.Complete = w.last
	} else if w.done {
		w.res.Complete = math.MaxInt64
	}
	if err := w.ctx.Err(); err != nil && w.res.Truncated {
		return err
	}
	return damage
}

// file walks the chain of the hash in one file.
func (w *walk) file(f *file, h Header, ordered bool) error {
	x, s := w.x, f.g.slotOf(w.hash)
	k, err := x.slot(f, s)
	if err != nil || k == 0 {
		return err
	}
	if k >= f.g.entries {
		return x.corrupt(f, f.g.slotAt(s), "slot leads behind the entries", nil)
	}
	for k != 0 {
		if w.spent() {
			return nil
		}
		e, err := w.win.entry(x, f, k)
		if err != nil {
			return err
		}
		if e.Hash < 0 || f.g.slotOf(e.Hash) != s {
			return x.corrupt(f, f.g.entryAt(k), "entry is not of its chain", nil)
		}
		if e.Hash == w.hash {
			if e.Position > w.last {
				return x.corrupt(f, f.g.entryAt(k), "entries are out of order", nil)
			}
			at := entryTime(h, k, e)
			if ordered && at+999 < w.begin {
				return nil // all that follows is older
			}
			if err := w.candidate(e, at, ordered || k == 1); err != nil || w.done {
				return err
			}
		}
		if prev := int64(e.Prev); prev >= 0 && prev < k || plant.Enabled && plant.Is(plant.IndexPrevUnchecked) {
			k = prev
			continue
		}
		return x.corrupt(f, f.g.entryAt(k), "entry leads forward", nil)
	}
	return nil
}

// entryTime is an entry's store time, as exactly as the file has it: up to 999
// ms too early. The first entry's is the header's, whatever its seconds say,
// because in a file that follows another they count from that one's end.
func entryTime(h Header, k int64, e Entry) int64 {
	if k == 1 {
		return h.BeginTime
	}
	return h.BeginTime + int64(e.Seconds)*1000
}

// spent counts a step and reports that a bound is met.
func (w *walk) spent() bool {
	w.res.Steps++
	if w.res.Steps > w.q.MaxSteps || w.res.Steps%clockEvery == 0 && w.late() {
		w.done, w.res.Truncated = true, true
	}
	return w.done
}

func (w *walk) late() bool {
	return w.ctx.Err() != nil || w.q.MaxTime > 0 && w.x.o.Clock.Now().After(w.deadline)
}

// candidate reads the record of an entry that has the hash. timed says that at
// can be trusted.
func (w *walk) candidate(e Entry, at int64, timed bool) error {
	if e.Position == w.last {
		return nil // the record has the key twice, or was indexed twice
	}
	if w.q.Before > 0 && e.Position >= w.q.Before || timed && (at > w.end || at+999 < w.begin) {
		w.last = e.Position
		return nil
	}
	if w.res.Reads == w.q.MaxReads || w.late() {
		w.done, w.res.Truncated = true, true
		return w.ctx.Err()
	}
	w.last = e.Position
	w.res.Reads++
	r, err := w.read(e.Position)
	if err != nil {
		w.res.Skipped++
		return w.ctx.Err()
	}
	stored := r.StoredAtMillis()
	if stored < w.begin || stored > w.end || !w.q.has(r) || w.q.Match != nil && !w.q.Match(r) {
		return nil
	}
	w.res.Found++
	w.done = !w.yield(r) || w.res.Found == w.q.Limit
	return nil
}

// has verifies topic and key in the record: the index compares hashes only.
func (q *Query) has(r *message.Record) bool {
	if r.Topic() != q.Topic {
		return false
	}
	if q.By != ByKey && r.UniqueID() == q.Key {
		return true
	}
	if q.By == ByUniqueID {
		return false
	}
	for k := range r.Keys() {
		if k == q.Key {
			return true
		}
	}
	return false
}

// slot returns the number of the newest entry of a slot.
func (x *Index) slot(f *file, s int64) (int64, error) {
	if slots := f.slots.Load(); slots != nil {
		return int64(atomic.LoadUint32(&(*slots)[s])), nil
	}
	if !f.sound.Load() {
		if err := x.compareSlots(f); err != nil {
			return 0, err
		}
	}
	var b [slotSize]byte
	if err := x.readAt(f, b[:], f.g.slotAt(s)); err != nil {
		return 0, err
	}
	return int64(b[0])<<24 | int64(b[1])<<16 | int64(b[2])<<8 | int64(b[3]), nil
}

// compareSlots compares the slots on disk with their checksum, once for each file
// that an earlier process wrote: a slot that lost its value would hide keys
// without a sign.
func (x *Index) compareSlots(f *file) error {
	x.buildMu.Lock()
	want, ok := f.slotsCRC, f.stored
	x.buildMu.Unlock()
	if !ok {
		return nil
	}
	crc, err := x.readSlots(f, nil)
	if errors.Is(err, errStopped) {
		return message.ErrClosed
	}
	if err != nil {
		return err
	}
	if crc != want {
		return x.corrupt(f, f.g.slotAt(0), "slots do not match their checksum", nil)
	}
	f.sound.Store(true)
	return nil
}

// window holds a run of entries that was read from a file. Chains lead down, so
// the entry that was asked for is its last one. It grows when a chain's entries
// lie close together, as those of a hash that is hit again and again do.
type window struct {
	buf    *[]byte
	f      *file
	lo, hi int64 // entries in buf
	size   int64
}

const smallWindow = 51 // entries: about 1 KiB

var windows = sync.Pool{New: func() any {
	b := make([]byte, pieceEntries*EntrySize)
	return &b
}}

// entry returns entry k, from memory as long as it is there.
func (w *window) entry(x *Index, f *file, k int64) (Entry, error) {
	if f.pieces != nil {
		if p := f.pieces[k/pieceEntries].Load(); p != nil {
			return DecodeEntry(p.b[k%pieceEntries*EntrySize:]), nil
		}
	}
	if w.f != f || k < w.lo || k >= w.hi {
		if w.f == f && k < w.lo && w.lo-k <= w.size {
			w.size = min(w.size*4, pieceEntries)
		} else {
			w.size = smallWindow
		}
		lo, hi := max(k+1-w.size, 0), k+1
		w.f = nil
		if err := x.readAt(f, (*w.buf)[:(hi-lo)*EntrySize], f.g.entryAt(lo)); err != nil {
			return Entry{}, err
		}
		w.f, w.lo, w.hi = f, lo, hi
	}
	return DecodeEntry((*w.buf)[(k-w.lo)*EntrySize:]), nil
}
