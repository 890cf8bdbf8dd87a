package progress

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/embermq/embermq/message"
)

// Progress keeps groups and their committed offsets.
type Progress struct {
	db     DB
	o      Options
	opened time.Time

	// slot holds one token. Only who has it writes to db and adds, changes or
	// removes groups; offsets change under mu alone.
	slot chan struct{}
	mark view // what the log's settlements were saved up to; of the view alone
	// snap belongs to whoever holds slot.
	snap snapshot
	// taken is the last epoch that an edit took, whether or not it came to be.
	// It belongs to whoever holds slot.
	taken uint64

	background context.Context // ends the writer goroutine at Close
	stop       context.CancelFunc
	writer     sync.WaitGroup

	mu struct {
		sync.Mutex
		closed bool
		groups map[string]*group
		folded map[string]string              // message.FoldName → name
		topics map[string]map[*group]struct{} // who has offsets in a topic
		epoch  uint64                         // the last one that is on disk
		lease  uint64                         // the last number given to a lease

		dirty pending
		// changed counts the changes to dirty; saved is its value when the last
		// snapshot that reached the disk was taken.
		// Invariant: saved <= changed, and equal only when nothing is pending.
		changed, saved uint64
		since          time.Time // of the oldest change that no snapshot took
		running        bool      // the writer goroutine exists
	}
}

// group is one group in memory. Its name never changes; the rest is guarded by
// Progress.mu.
type group struct {
	name     string
	settings Group
	epoch    uint64
	seen     int64 // ms; the last commit, fetch or Touch
	stored   int64 // seen as the last snapshot took it
	topics   map[string]*topic
	internal bool // never changes either
}

// topic holds a group's offsets in one topic. The names never change.
type topic struct {
	g    *group
	name string
	rows map[int32]*row
}

// row is a group's place in one queue. t and id never change.
//
// Invariant: settled is sorted, its ranges do not touch each other, and the
// first one begins behind offset. No hold is settled.
type row struct {
	t       *topic
	offset  int64 // the committed one: the lowest that is not settled
	settled []message.Range
	holds   map[int64]*hold // by offset
	leases  *leases         // nil in a queue that nobody leases from
	flights int             // records under way that will settle something here
	landed  chan struct{}   // closed when the last of them has landed; nil when nobody waits
	id      int32
	dirty   bool // is in pending.rows
	stored  bool // is on disk, with whatever it held once
	dead    bool // dropped; whoever still holds it leaves it alone
}

// Open reads all groups and offsets. Call Clamp before anybody commits or
// reads. A row that cannot be read is a *message.CorruptError, one of a newer
// format message.ErrUnknownFormat; nothing is written in either case.
func Open(ctx context.Context, db DB, o Options) (*Progress, error) {
	if err := o.normalise(); err != nil {
		return nil, err
	}
	p := &Progress{db: db, o: o, opened: o.Clock.Now(), slot: make(chan struct{}, 1)}
	p.mu.groups = make(map[string]*group)
	p.mu.folded = make(map[string]string)
	p.mu.topics = make(map[string]map[*group]struct{})
	p.mu.dirty.groups = make(map[string]struct{})
	// A kill forgets the numbers of its last moments; the time is behind them.
	p.mu.lease = uint64(max(1, p.opened.UnixMicro()))
	for _, part := range []struct {
		from, to string
		load     func(key, value []byte) error
	}{
		{keyEpoch, keyEpoch + "\x00", p.loadEpoch},
		{prefixGroup, end(prefixGroup), p.loadGroup},
		{prefixOffset, end(prefixOffset), p.loadOffset},
	} {
		for row, err := range db.Scan([]byte(part.from), []byte(part.to)) {
			if err != nil {
				return nil, fmt.Errorf("progress: load: %w", err)
			}
			if err := part.load(row.Key, row.Value); err != nil {
				return nil, fmt.Errorf("progress: load: %w", err)
			}
			if err := ctx.Err(); err != nil {
				return nil, err
			}
		}
	}
	if err := p.mark.load(db); err != nil {
		return nil, fmt.Errorf("progress: load: %w", err)
	}
	p.background, p.stop = context.WithCancel(context.Background())
	return p, nil
}

// end is the first key behind all that begin with prefix, whose last byte is a
// slash.
func end(prefix string) string { return prefix[:len(prefix)-1] + string(rune('/'+1)) }

func (p *Progress) loadEpoch(key, value []byte) (err error) {
	p.mu.epoch, err = decodeEpoch(key, value)
	p.taken = p.mu.epoch
	return err
}

func (p *Progress) loadGroup(key, value []byte) error {
	name, err := parseGroupKey(key)
	if err != nil {
		return err
	}
	r, err := decodeGroup(key, value)
	if err != nil {
		return err
	}
	// Every epoch is written together with the counter. A group ahead of it
	// would let the next reset give an epoch that claims already carry.
	if r.epoch == 0 || r.epoch > p.mu.epoch {
		return damage(key, "epoch was never given")
	}
	r.settings.Name = name
	p.addLocked(&group{name: name, settings: r.settings, epoch: r.epoch, seen: r.seen, stored: r.seen})
	return nil
}

func (p *Progress) loadOffset(key, value []byte) error {
	name, q, err := parseOffsetKey(key)
	if err != nil {
		return err
	}
	st, err := decodePlace(key, value)
	if err != nil {
		return err
	}
	// A group is on disk before its first offset and leaves with its last one.
	g := p.mu.groups[name]
	if g == nil {
		return damage(bytes.Clone(key), "offset of a group that does not exist")
	}
	r := p.rowLocked(g, q)
	r.offset, r.settled, r.stored = st.offset, st.settled, true
	if len(st.holds) > 0 {
		r.holds = make(map[int64]*hold, len(st.holds))
	}
	for _, h := range st.holds {
		r.holds[h.offset] = &h
		p.mu.lease = max(p.mu.lease, h.lease)
	}
	return nil
}

func (p *Progress) addLocked(g *group) {
	g.topics = make(map[string]*topic)
	g.internal = IsInternal(g.name)
	p.mu.groups[g.name] = g
	p.mu.folded[message.FoldName(g.name)] = g.name
}

func (p *Progress) removeLocked(g *group) {
	for name := range g.topics {
		p.forgetLocked(g, name)
	}
	delete(p.mu.groups, g.name)
	delete(p.mu.folded, message.FoldName(g.name))
}

// findRow returns nil when the group has no offset of the queue.
func (g *group) findRow(q message.Queue) *row {
	if t := g.topics[q.Topic]; t != nil {
		return t.rows[q.ID]
	}
	return nil
}

// rowLocked finds or makes a row; a new one has offset -1.
func (p *Progress) rowLocked(g *group, q message.Queue) *row {
	t := g.topics[q.Topic]
	if t == nil {
		t = p.topicLocked(g, q.Topic)
	}
	r := t.rows[q.ID]
	if r == nil {
		r = &row{t: t, id: q.ID, offset: -1}
		t.rows[q.ID] = r
	}
	return r
}

func (p *Progress) topicLocked(g *group, name string) *topic {
	// The caller's string may alias a record that was only lent.
	t := &topic{g: g, name: strings.Clone(name), rows: make(map[int32]*row)}
	g.topics[t.name] = t
	gs := p.mu.topics[t.name]
	if gs == nil {
		gs = make(map[*group]struct{})
		p.mu.topics[t.name] = gs
	}
	gs[g] = struct{}{}
	return t
}

// forgetLocked takes a group's offsets of one topic out of memory.
func (p *Progress) forgetLocked(g *group, name string) {
	t := g.topics[name]
	if t == nil {
		return
	}
	for _, r := range t.rows {
		r.dead = true
	}
	delete(g.topics, name)
	gs := p.mu.topics[name]
	delete(gs, g)
	if len(gs) == 0 {
		delete(p.mu.topics, name)
	}
}

// Close writes what is pending and ends the writer. Every later call returns
// message.ErrClosed or nothing; a second Close returns nil. The log and the
// key-value store are closed after it.
func (p *Progress) Close() error {
	p.mu.Lock()
	if p.mu.closed {
		p.mu.Unlock()
		return nil
	}
	p.mu.closed = true
	for _, g := range p.mu.groups {
		if g.seen != g.stored {
			p.groupDirtyLocked(g.name)
		}
	}
	p.mu.Unlock()
	p.stop()
	p.writer.Wait()
	// The slot also waits for an edit that still writes, and whose failure would
	// leave something to write.
	p.slot <- struct{}{}
	defer p.release()
	p.mu.Lock()
	target := p.mu.changed
	p.mu.Unlock()
	return p.flush(context.Background(), target)
}
