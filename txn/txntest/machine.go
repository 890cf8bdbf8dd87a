package txntest

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/kv"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/txn"
)

// Machine is one process: a log that survives it, and a Coordinator that does not.
type Machine struct {
	*txn.Coordinator
	Clock *clock.Manual
	log   *memLog
}

// NewMachine starts on an empty log.
func NewMachine() (*Machine, error) {
	return start(&memLog{offsets: map[message.Queue]int64{}}, time.UnixMilli(1_700_000_000_000))
}

// Crash returns the machine that is started on what this one has in its log now.
// This one goes on and does not notice.
func (m *Machine) Crash() (*Machine, error) {
	l := &memLog{end: m.log.end, ids: m.log.ids, offsets: map[message.Queue]int64{}}
	l.records = append(l.records, m.log.records...)
	for q, n := range m.log.offsets {
		l.offsets[q] = n
	}
	return start(l, m.Clock.Now())
}

func start(l *memLog, now time.Time) (*Machine, error) {
	m := &Machine{Clock: clock.NewManual(now), log: l}
	l.clock = m.Clock
	c, err := txn.New(nothing{}, txn.Options{Appender: l, Read: l.read, NewID: l.id, Manual: true, Clock: m.Clock})
	if err != nil {
		return nil, err
	}
	for _, b := range l.records {
		r, err := message.ParseRecord(b)
		if err != nil {
			return nil, err
		}
		c.Apply(&r)
	}
	l.apply, m.Coordinator = c.Apply, c
	c.Start()
	return m, nil
}

// Advance moves the time and does what is due.
func (m *Machine) Advance(d time.Duration) error {
	m.Clock.Advance(d)
	for {
		worked, err := m.Step(context.Background())
		if err != nil || !worked {
			return err
		}
	}
}

// Delivered counts the messages in ordinary topics by their ids.
func (m *Machine) Delivered() (map[message.HalfID]int, error) {
	n := map[message.HalfID]int{}
	for _, b := range m.log.records {
		r, err := message.ParseRecord(b)
		if err != nil {
			return nil, err
		}
		if !message.IsSystemTopic(r.Topic()) {
			n[message.HalfID(r.UniqueID())]++
		}
	}
	return n, nil
}

// nothing is a key-value store that keeps nothing: the state is always rebuilt.
type nothing struct{}

// Apply does nothing.
func (nothing) Apply(context.Context, *kv.Batch, bool) error { return nil }

// Scan yields nothing.
func (nothing) Scan([]byte, []byte) iter.Seq2[kv.KV, error] {
	return func(func(kv.KV, error) bool) {}
}

// memLog is a log of whole records in memory. What was appended is on disk.
type memLog struct {
	clock   *clock.Manual
	records [][]byte
	at      map[int64]int
	end     int64
	ids     int
	offsets map[message.Queue]int64
	apply   func(r *message.Record)
}

func (l *memLog) id() string {
	l.ids++
	return fmt.Sprintf("%032X", l.ids)
}

// Append writes a group.
func (l *memLog) Append(_ context.Context, g *txn.Group) error {
	for i := range g.Copies {
		c := &g.Copies[i]
		var d message.Draft
		if err := c.Encode(&d); err != nil {
			return &txn.CopyError{Index: i, Err: err}
		}
		now := l.clock.Now()
		d.Stamp(l.end, l.offsets[c.Queue], now.UnixMilli())
		c.Receipt = message.Receipt{Queue: c.Queue, Offset: l.offsets[c.Queue], Position: l.end, StoredAt: now}
		l.offsets[c.Queue]++
		l.end += int64(d.Size())
		b := append([]byte(nil), d.Bytes()...)
		l.records = append(l.records, b)
		r, err := message.ParseRecord(b)
		if err != nil {
			return err
		}
		l.apply(&r)
	}
	return nil
}

func (l *memLog) read(position int64, _ int, buf []byte, r *message.Record) ([]byte, error) {
	if l.at == nil {
		l.at = map[int64]int{}
	}
	for i := len(l.at); i < len(l.records); i++ {
		rec, err := message.ParseRecord(l.records[i])
		if err != nil {
			return buf, err
		}
		l.at[rec.Position()] = i
	}
	i, ok := l.at[position]
	if !ok {
		return buf, &message.CorruptError{Offset: position, Reason: "no such record"}
	}
	buf = append(buf[:0], l.records[i]...)
	return buf, r.Reset(buf)
}
