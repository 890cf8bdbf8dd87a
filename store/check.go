package store

import (
	"context"
	"fmt"
	"math"
	"strings"

	"github.com/embermq/embermq/consumequeue"
	"github.com/embermq/embermq/index"
	"github.com/embermq/embermq/message"
)

// Damage is one thing that Check found wrong.
type Damage struct {
	Path   string // the file
	Offset int64  // byte in it
	Reason string
}

func (d Damage) String() string { return fmt.Sprintf("%s at %d: %s", d.Path, d.Offset, d.Reason) }

// Report is what Check saw.
type Report struct {
	Records, Bytes  int64 // of the log
	Queues, Entries int64
	Keys            int64 // entries of the index
	Blank           int64 // entries without a record, behind damage that was repaired
	Damages         []Damage
}

// OK reports that nothing was wrong.
func (r *Report) OK() bool { return len(r.Damages) == 0 }

// Check reads everything, compares the views with the log and reports what does
// not fit. It changes nothing and may run beside puts and reads; it looks at what was
// visible when it began. The error is ctx's or ErrClosed; damage is no error.
func (s *Store) Check(ctx context.Context) (Report, error) {
	var r Report
	if err := s.usable(); err != nil {
		return r, err
	}
	c := &checker{s: s, ctx: ctx, report: &r, seen: make(map[message.Queue]*span), lost: -1, firstLost: math.MaxInt64}
	if err := c.files(); err != nil {
		return r, err
	}
	end := s.log.LastMark().Offset // what every view has been given
	if err := c.log(end); err != nil {
		return r, err
	}
	if err := c.queues(end); err != nil {
		return r, err
	}
	if err := c.index(); err != nil {
		return r, err
	}
	if err := c.meta(); err != nil {
		return r, err
	}
	c.progress()
	return r, ctx.Err()
}

type checker struct {
	s      *Store
	ctx    context.Context
	report *Report
	seen   map[message.Queue]*span // by the log
	lost   int64                   // where the last filler lies
	// firstLost is where the first filler lies: a queue may begin behind it.
	firstLost int64
}

// span is what the log holds of a queue, [first, next), and where its last record lies.
type span struct{ first, next, position, firstPosition int64 }

func (c *checker) damage(path string, offset int64, format string, args ...any) {
	c.report.Damages = append(c.report.Damages, Damage{path, offset, fmt.Sprintf(format, args...)})
}

func (c *checker) add(err error) {
	if d, ok := asDamage(err); ok {
		c.report.Damages = append(c.report.Damages, d)
		return
	}
	c.damage("", 0, "%v", err)
}

// log walks every record below end: structure, checksum, position, and queue
// offsets that follow each other.
func (c *checker) log(end int64) error {
	return c.s.log.Walk(c.ctx, end, func(r *message.Record) {
		c.report.Records++
		c.report.Bytes += int64(r.Size())
		if r.Filler() {
			c.lost = r.Position()
			c.firstLost = min(c.firstLost, c.lost)
		}
		if !r.Dispatchable() || !c.s.topics.alive(r.Topic(), r.Position()) {
			return
		}
		name := r.Queue()
		sp := c.seen[name]
		if sp == nil {
			// The record is lent. An entry that is there is never assigned again: that
			// would put the lent text into the map's key.
			name.Topic = strings.Clone(name.Topic)
			sp = &span{first: r.Offset(), firstPosition: r.Position()}
			c.seen[name] = sp
		} else if c.s.foreign(r.Position()) {
			sp.next, sp.position = sp.next+1, r.Position() // whatever it says
			return
		} else if r.Offset() != sp.next && !(sp.position < c.lost && r.Offset() > sp.next) {
			if sp.position < c.s.log.Start() { // what lay in between has expired meanwhile
				sp.next, sp.position = r.Offset()+1, r.Position()
				return
			}
			c.damage(c.s.log.Path(r.Position()), c.s.log.InFile(r.Position()), "record of %s has queue offset %d, the next one is %d", name, r.Offset(), sp.next)
		}
		sp.next, sp.position = r.Offset()+1, r.Position()
	}, func(err error) { c.add(err) })
}

// queues compares every entry with the record that it names, and every queue's
// end with the last record of the log.
func (c *checker) queues(end int64) error {
	var rec message.Record
	buf := make([]byte, 0)
	verify := func(q message.Queue, offset int64, e consumequeue.Entry) error {
		c.report.Entries++
		if e.Blank() {
			c.report.Blank++
			return nil
		}
		if e.Position >= end {
			return nil // put since Check began
		}
		if int64(e.Size) > c.s.format.segmentSize {
			return fmt.Errorf("names a record of %d bytes", e.Size)
		}
		if cap(buf) < int(e.Size) {
			buf = make([]byte, e.Size)
		}
		if _, err := c.s.log.Record(e.Position, int(e.Size), buf[:e.Size], &rec); err != nil {
			if e.Position < c.s.log.Start() {
				return nil // expired meanwhile
			}
			return fmt.Errorf("names position %d: %w", e.Position, err)
		}
		switch {
		case (rec.Topic() != q.Topic || rec.QueueID() != q.ID) && !(c.s.foreign(rec.Position()) && inQueue(&rec, q)):
			return fmt.Errorf("names a record of %s/%d", rec.Topic(), rec.QueueID())
		case rec.Offset() != offset && !c.s.foreign(rec.Position()):
			return fmt.Errorf("names record %d of its queue", rec.Offset())
		case e.TagHash != c.s.tagCode(&rec) && q.Topic != message.TopicSchedule: // there it depends on the table of levels
			return fmt.Errorf("has tag hash %d, the record's is %d", e.TagHash, c.s.tagCode(&rec))
		}
		return nil
	}
	err := c.s.queues.Check(c.ctx, verify, func(path string, off int64, reason string) {
		c.damage(path, off, "%s", reason)
	})
	if err != nil {
		return err
	}
	// What retention drops it notes in meta first. A reader has no meta; another
	// program notes nothing.
	noted := !c.s.cfg.readOnly && len(c.s.recovery.Foreign) == 0
	c.s.expiring.Lock()
	defer c.s.expiring.Unlock()
	c.s.topics.all(func(q *queue) {
		c.report.Queues++
		start, have := q.entries.Bounds()
		from := q.topic.row.Load().start(q.name.ID)
		seen := c.seen[q.name]
		if noted && start > from && (seen == nil || seen.first > from && seen.firstPosition < c.firstLost) {
			c.damage(c.s.logFS.Path("."), 0, "records %d..%d of %s are gone, and retention did not drop them", from, start-1, q.name)
		}
		if seen != nil && have < seen.next {
			c.damage(c.s.queueFS.Path(q.name.String()), 0, "queue %s ends at %d, the log at %d", q.name, have, seen.next)
		}
	})
	return c.ctx.Err()
}

// progress checks that no committed offset lies behind the end of its queue.
func (c *checker) progress() {
	if c.s.progress == nil {
		return
	}
	for _, g := range c.s.progress.Groups() {
		for q, offset := range c.s.progress.Offsets(g.Name) {
			if _, end, ok := c.s.queueBounds(q); ok && offset > end {
				c.damage(c.s.metaFS.Path("."), 0, "group %s: offset %d of %s lies behind its end %d", g.Name, offset, q, end)
			}
		}
	}
}

// index compares every index entry with the record that it names. An entry of a
// record that has expired is left over until its file goes.
func (c *checker) index() error {
	if c.s.index == nil {
		return nil
	}
	var rec message.Record
	verify := func(position int64, hash int32) error {
		c.report.Keys++
		if position < c.s.log.Start() {
			return nil
		}
		if err := c.s.log.RecordAt(position, &rec); err != nil {
			return fmt.Errorf("names position %d: %w", position, err)
		}
		if id := rec.UniqueID(); id != "" && index.Hash(rec.Topic(), id) == hash {
			return nil
		}
		for key := range rec.Keys() {
			if index.Hash(rec.Topic(), key) == hash {
				return nil
			}
		}
		return fmt.Errorf("names a record of %s at %d that has no such key", rec.Topic(), position)
	}
	return c.s.index.Check(c.ctx, verify, func(path string, off int64, reason string) {
		c.damage(path, off, "%s", reason)
	})
}
