package txn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/kv/kvtest"
	"github.com/embermq/embermq/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	bg  = context.Background()
	day = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

// fakeLog is a log of whole records in memory. It is an Appender.
type fakeLog struct {
	mu      sync.Mutex
	clock   clock.Clock
	recs    []rec
	end     int64
	offsets map[message.Queue]int64
	births  map[string]int64
	synced  int // so many records survive a power cut
	apply   func(r *message.Record)
	fail    func(g *Group) error // asked before a group is written
	entered chan struct{}        // when set: an append announces itself …
	gate    chan struct{}        // … and waits
}

type rec struct {
	b   []byte
	pos int64
	end bool // the last one of its group
}

func newFakeLog(c clock.Clock) *fakeLog {
	return &fakeLog{clock: c, offsets: map[message.Queue]int64{}, births: map[string]int64{}}
}

// cut is the log's first n records.
func (l *fakeLog) cut(n int) *fakeLog {
	c := newFakeLog(l.clock)
	c.recs = slices.Clone(l.recs[:n])
	for _, r := range c.recs {
		v := parse(r.b)
		c.offsets[v.Queue()] = v.Offset() + 1
		c.end = r.pos + int64(len(r.b))
		if name, ok := v.OwnValue(message.PropDeletes); ok {
			c.births[strings.Clone(name)] = c.end
		}
	}
	c.synced = n
	return c
}

func parse(b []byte) *message.Record {
	r, err := message.ParseRecord(b)
	if err != nil {
		panic(err)
	}
	return &r
}

func (l *fakeLog) Append(ctx context.Context, g *Group) error {
	if l.gate != nil {
		l.entered <- struct{}{}
		<-l.gate
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		if err := l.fail(g); err != nil {
			return err
		}
	}
	drafts := make([]message.Draft, len(g.Copies))
	for i := range g.Copies {
		c := &g.Copies[i]
		real := c.Real.Topic
		if real == "" {
			real = c.Queue.Topic
		}
		if l.births[real] > c.Of && !g.New {
			return &CopyError{i, message.ErrNotFound}
		}
		var more []message.Property
		if i == 0 && len(g.Copies) > 1 {
			more = append(more, message.Property{Name: message.PropGroup, Value: message.GroupValue(len(g.Copies)), Own: true})
		}
		if err := c.Encode(&drafts[i], more...); err != nil {
			return &CopyError{i, err}
		}
	}
	for i := range drafts {
		g.Copies[i].Receipt = l.writeLocked(&drafts[i], g.Copies[i].Queue, i == len(drafts)-1)
	}
	l.synced = len(l.recs)
	return nil
}

func (l *fakeLog) writeLocked(d *message.Draft, q message.Queue, last bool) message.Receipt {
	now := l.clock.Now()
	d.Stamp(l.end, l.offsets[q], now.UnixMilli())
	b := bytes.Clone(d.Bytes())
	receipt := message.Receipt{Queue: q, Offset: l.offsets[q], Position: l.end}
	l.recs = append(l.recs, rec{b, l.end, last})
	l.offsets[q]++
	l.end += int64(len(b))
	if l.apply != nil {
		l.apply(parse(b))
	}
	return receipt
}

// write puts one record of any kind.
func (l *fakeLog) write(q message.Queue, m *message.Message, props ...message.Property) message.Receipt {
	l.mu.Lock()
	defer l.mu.Unlock()
	var d message.Draft
	if err := d.Encode(m, q, &message.Envelope{Reserved: props}); err != nil {
		panic(err)
	}
	return l.writeLocked(&d, q, true)
}

func (l *fakeLog) read(pos int64, size int, buf []byte, r *message.Record) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i, ok := slices.BinarySearchFunc(l.recs, pos, func(r rec, p int64) int { return int(r.pos - p) })
	if !ok || l.recs[i].b == nil {
		return buf, &message.CorruptError{Offset: pos, Reason: "no such record"}
	}
	if size != len(l.recs[i].b) {
		panic(fmt.Sprintf("size %d, want %d", size, len(l.recs[i].b)))
	}
	buf = append(buf[:0], l.recs[i].b...)
	return buf, r.Reset(buf)
}

func (l *fakeLog) mark() message.Mark {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := message.Mark{Offset: l.end}
	if n := len(l.recs); n > 0 {
		m.Fingerprint = parse(l.recs[n-1].b).Fingerprint()
	}
	return m
}

// deliveries are the records of ordinary topics.
func (l *fakeLog) deliveries() (out []*message.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.recs {
		if r.b == nil {
			continue
		}
		if v := parse(r.b); !message.IsSystemTopic(v.Topic()) {
			out = append(out, v)
		}
	}
	return out
}

// rig is a Coordinator on fakes, without a goroutine unless asked for.
type rig struct {
	*Coordinator
	clock *clock.Manual
	log   *fakeLog
	disk  *kvtest.Mem
	ids   int
	o     Options
}

// newRig makes a rig; its ids are small numbers.
func newRig(set ...func(*Options)) *rig {
	r := &rig{clock: clock.NewManual(day), disk: kvtest.New()}
	r.log = newFakeLog(r.clock)
	r.o = Options{Manual: true, Clock: r.clock}
	for _, f := range set {
		f(&r.o)
	}
	return r
}

func (r *rig) nextID() string {
	r.ids++
	return fmt.Sprintf("%032X", r.ids)
}

// open makes a Coordinator from disk and log.
func (r *rig) open() error {
	o := r.o
	o.Appender, o.Read, o.NewID = r.log, r.log.read, r.nextID
	c, err := New(r.disk, o)
	if err != nil {
		return err
	}
	mark, ok := c.Saved()
	if !ok {
		mark = message.Mark{}
		if err := c.Reset(); err != nil {
			return err
		}
	}
	for _, rec := range r.log.recs {
		if rec.pos >= mark.Offset && rec.b != nil {
			c.Apply(parse(rec.b))
		}
	}
	r.log.apply = c.Apply
	r.Coordinator = c
	c.Start()
	return nil
}

func mustRig(t testing.TB, set ...func(*Options)) *rig {
	t.Helper()
	r := newRig(set...)
	if err := r.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(bg); err != nil {
			t.Error(err)
		}
	})
	return r
}

// save is a checkpoint.
func (r *rig) save() error {
	f := r.Freeze(r.log.mark())
	return f()
}

func (r *rig) prepare(t testing.TB, topic, body, group string) message.HalfID {
	t.Helper()
	_, id, err := r.Halves().Prepare(bg, &message.Message{Topic: topic, Body: []byte(body)}, group, message.HalfOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// steps does everything that is due now.
func (r *rig) steps() error {
	for n := 0; ; n++ {
		worked, err := r.Step(bg)
		if err != nil || !worked {
			return err
		}
		if n > 10_000 {
			return errors.New("the driver does not come to rest")
		}
	}
}

func (r *rig) advance(d time.Duration) error {
	r.clock.Advance(d)
	return r.steps()
}

// bodies are what was delivered, in order.
func (r *rig) bodies() (out []string) {
	for _, v := range r.log.deliveries() {
		out = append(out, string(v.Body()))
	}
	return out
}
