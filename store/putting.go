package store

import (
	"time"

	"github.com/embermq/embermq/commitlog"
	"github.com/embermq/embermq/dedupe"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/txn"
)

// maxGroup is how many messages one atomic group holds: its size is four hex
// digits on disk.
const maxGroup = 65_535

// largeGroup is the number of entries above which a group's memory is given
// back instead of kept for the next batch.
const largeGroup = 1024

// putting is a group on its way into the log together with what the store
// needs to encode it and to answer. It comes from a pool and returns there when
// neither its caller nor the log holds the group any longer.
type putting struct {
	group    commitlog.Group
	envelope message.Envelope
	reserved [8]message.Property
	waits    []waiting        // the entries that wait
	pending  *message.Pending // of a PutAsync
	half     *txn.Copy        // the message is held back
	claims   []*dedupe.Claim  // to idempotency keys; they end when the log has done with the group
	s        *Store

	newTopics bool // some entry's topic has to be made first
}

// waiting is a message that is delivered later, or perhaps: where, and its handle.
type waiting struct {
	entry int
	queue message.Queue
	timer message.TimerID
	in    message.Queue // where it waits
}

func (s *Store) getPutting() *putting {
	p, ok := s.puttings.Get().(*putting)
	if !ok {
		p = &putting{s: s}
	}
	p.group.Owner = p
	return p
}

// release takes a group back from the log.
func (s *Store) release(g *commitlog.Group) {
	if p, ok := g.Owner.(*putting); ok { // else it is a barrier of the log's own
		s.putPutting(p)
	}
}

func (s *Store) putPutting(p *putting) {
	large := len(p.group.Entries) > largeGroup
	p.group.Reset()
	if large {
		p.group.Entries = nil
	}
	for _, c := range p.claims {
		c.End()
	}
	clear(p.claims)
	p.claims = p.claims[:0]
	clear(p.waits)
	p.envelope.Reserved, p.pending, p.half, p.waits, p.newTopics = nil, nil, nil, p.waits[:0], false
	s.puttings.Put(p)
}

// answer resolves the Pending of an asynchronous put. It runs on the log's
// goroutine.
func answer(g *commitlog.Group, err error) {
	p := g.Owner.(*putting)
	if err != nil {
		p.pending.Resolve(message.Receipt{}, p.s.failed(p, err))
		return
	}
	r := p.receipt(0)
	p.answer(r)
	pending := p.pending
	p.s.done(p)
	pending.Resolve(r, nil)
}

func (p *putting) receipt(i int) message.Receipt {
	e := &p.group.Entries[i]
	r := message.Receipt{
		Queue:    e.Home.(*queue).name,
		Offset:   e.Offset,
		Position: e.Position,
		StoredAt: time.UnixMilli(e.StoredAt),
	}
	for j := range p.waits {
		if w := &p.waits[j]; w.entry == i {
			r.Queue, r.Offset, r.Timer = w.queue, -1, w.timer
		}
	}
	return r
}

func (p *putting) receipts() []message.Receipt {
	rs := make([]message.Receipt, len(p.group.Entries))
	stored := time.UnixMilli(p.group.Entries[0].StoredAt) // one time for a group
	for i := range rs {
		e, r := &p.group.Entries[i], &rs[i]
		r.Queue, r.Offset, r.Position, r.StoredAt = e.Home.(*queue).name, e.Offset, e.Position, stored
	}
	for _, w := range p.waits {
		r := &rs[w.entry]
		r.Queue, r.Offset, r.Timer = w.queue, -1, w.timer
	}
	return rs
}

// size is how many bytes of log the group takes.
func (p *putting) size() (n int64) {
	for i := range p.group.Entries {
		n += int64(p.group.Entries[i].Draft.Size())
	}
	return n
}

// done counts a group that was stored and gives up the caller's hold on it.
func (s *Store) done(p *putting) {
	if !p.group.OnDisk && s.cfg.durability == message.OnDisk {
		s.hurry(p)
	}
	s.stats.puts.Add(int64(len(p.group.Entries)))
	s.stats.putBytes.Add(p.group.Size())
	p.group.Release()
}

// failed gives up the caller's hold on a group that was not stored, or of which
// nobody knows.
func (s *Store) failed(p *putting, err error) error {
	p.group.Release()
	return err
}

// addOwn adds the i-th of n records that the store itself appends. One that is
// made here, and no copy, was born here.
func (s *Store) addOwn(p *putting, home *queue, e *message.Envelope, born bool, i, n int, encode func(*message.Draft, ...message.Property) error) error {
	more := p.reserved[:0]
	if n > 1 && i == 0 {
		more = append(more, message.Property{Name: message.PropGroup, Value: message.GroupValue(n), Own: true})
	}
	e.StoreHost = s.format.host
	if born {
		e.BornHost = s.format.host
	}
	en := p.group.Add()
	if err := encode(&en.Draft, more...); err != nil {
		return err
	}
	en.Home, en.Seq = home, home.seq
	return nil
}
