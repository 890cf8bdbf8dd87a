package store

import (
	"fmt"

	"github.com/embermq/embermq/commitlog"
	"github.com/embermq/embermq/consumequeue"
	"github.com/embermq/embermq/internal/plant"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/schedule"
)

// view is derived state: what some records of the log add up to. A new view is
// a package with these methods and a line in openViews.
type view interface {
	Name() string
	// Apply takes the next record. It touches memory only and cannot fail; the
	// record is lent for the call. A plain record (message.Draft.Plain) is no news
	// for any view: one that has just been put is left out, and one that is read
	// back from the log must change nothing.
	Apply(r *message.Record)
	// Freeze is called between two Applies and takes what changed up to m. The
	// function it returns runs later, off the lock and after the log was synced
	// to m, and makes that durable together with m.
	Freeze(m message.Mark) (save func() error)
	// Saved is the mark of the last save, false if there is nothing usable.
	Saved() (m message.Mark, ok bool)
	// Reset forgets everything; a replay from the log's start follows.
	Reset() error
}

// dispatcher feeds every record to the views, in log order and exactly once.
// The log calls live under its apply lock and one call at a time, and its AtMark
// runs between two calls, so nothing here needs a lock of its own.
type dispatcher struct {
	topics   *topics
	queues   *consumequeue.Queues
	levels   schedule.Levels
	views    []view // the others, which see every record that is alive
	rec      message.Record
	storeMS  int64 // store time of the last record applied
	entry    func(r *message.Record) consumequeue.Entry
	foreign  func(position int64) bool
	grown    func(offset int64) // tells the background how far the views have come
	records  int                // applied since the last freeze
	readOnly bool
	// deadBelow is where in an import the records of topics end that have no
	// queue: RocketMQ has deleted those topics.
	deadBelow int64
	damage    error // read-only: what the replay has met last
	lost      int64 // where the last filler that was replayed lies, -1 for none
}

// live applies what the log has just made visible, then wakes the readers.
func (d *dispatcher) live(es []*commitlog.Entry) {
	for _, e := range es {
		q := e.Home.(*queue)
		tag := e.Draft.TagHash()
		if q.topic.name == message.TopicSchedule {
			tag = d.levels.EntryTag(q.name.ID, e.StoredAt)
		}
		q.entries.Append(e.Offset, consumequeue.Entry{Position: e.Position, Size: int32(e.Draft.Size()), TagHash: tag})
		if !e.Draft.Plain() {
			d.others(e.Draft.Bytes(), q)
		}
	}
	last := es[len(es)-1]
	d.storeMS = last.StoredAt
	d.records += len(es)
	for _, e := range es {
		e.Home.(*queue).watch.wake(e.Draft.TagHash())
	}
	d.grown(last.Position + int64(last.Draft.Size()))
}

func (d *dispatcher) others(b []byte, q *queue) {
	if err := d.rec.Reset(b); err != nil {
		panic("store: the log made a record visible that does not parse: " + err.Error())
	}
	d.rec.Home = q
	d.topics.Apply(&d.rec)
	for _, v := range d.views {
		v.Apply(&d.rec)
	}
}

// replay applies a record that is read back from the log at Open. from says,
// for each view, where its saved state ends.
func (d *dispatcher) replay(r *message.Record, from *marks) error {
	pos := r.Position()
	d.storeMS = r.StoredAtMillis()
	if r.Filler() {
		d.lost = pos
		return nil
	}
	name := r.Queue()
	if pos < d.deadBelow {
		d.topics.bury(name.Topic, d.deadBelow)
	}
	if !d.topics.alive(name.Topic, pos) {
		return nil
	}
	q, err := d.topics.replayHome(name)
	if err != nil {
		return &message.CorruptError{Offset: pos, Reason: fmt.Sprintf("record of %s", name), Err: err}
	}
	r.Home = q
	if pos >= from.queues && r.Dispatchable() {
		foreign := d.foreign(pos)
		if err := q.replay(r, d.entry(r), foreign, d.readOnly || q.replayed < d.lost, d.damage); err != nil {
			return err
		}
		if foreign {
			if err := d.replayMulti(r, d.entry(r)); err != nil {
				return &message.CorruptError{Offset: pos, Reason: "record of several queues", Err: err}
			}
		}
	}
	if pos >= from.topics && !(plant.Enabled && plant.Is(plant.StoreForgetsDeletion)) {
		if name, ok := d.topics.obey(r); ok {
			if err := d.queues.Delete(name); err != nil {
				return err
			}
		}
	}
	for i, v := range d.views {
		if pos >= from.views[i] {
			v.Apply(r)
		}
	}
	return nil
}

// replay adds a record's entry and insists that its queue offset is the next
// one: a queue with a hole would deliver other messages than were acknowledged.
// Below the start lies what retention was about to drop. An empty queue begins
// where its first kept record says. Another program's records may repeat or jump.
// Where the log has lost records, blanks take their places: behind a filler, and in
// a read-only store behind damage, whose error it keeps for who reads them.
func (q *queue) replay(r *message.Record, e consumequeue.Entry, foreign, lost bool, damage error) error {
	q.replayed = r.Position()
	start, end := q.entries.Bounds()
	offset := r.Offset()
	switch {
	case offset == end, offset > end && (start == end || lost && !foreign):
		if start < end && offset > end && damage != nil {
			q.lose(end, offset, damage)
		}
		q.entries.Append(offset, e)
	case foreign:
		// RocketMQ's rule for jumps, and for repeats better than its own, which is
		// to drop them: it counts from 0 in a queue that continues a deleted one.
		q.entries.AppendAtEnd(e)
	case offset < start:
	default:
		return &message.CorruptError{Offset: r.Position(), Reason: fmt.Sprintf("record of %s has queue offset %d, the next one is %d", q.name, offset, end)}
	}
	return nil
}

// marks are the log offsets from which each view wants the replay.
type marks struct {
	queues, topics int64
	views          []int64
	queuesMark     message.Mark
}

func (m *marks) lowest() int64 {
	low := min(m.queues, m.topics)
	for _, v := range m.views {
		low = min(low, v)
	}
	return low
}
