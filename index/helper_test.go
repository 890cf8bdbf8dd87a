package index

import (
	"context"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/message"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func allSynced() int64 { return math.MaxInt64 }

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC)

// small are the options of a test that runs the builder itself.
func small() Options {
	return Options{Slots: 16, Entries: 10, Manual: true, Synced: allSynced, Location: time.UTC, Clock: clock.NewManual(epoch)}
}

func memory(t testing.TB) *crash.Sim {
	t.Helper()
	sim := crash.New(1)
	require.NoError(t, sim.FS().MkdirAll("index"))
	require.NoError(t, sim.FS().MkdirAll("ember"))
	require.NoError(t, sim.FS().SyncDir("."))
	return sim
}

func open(t testing.TB, sim *crash.Sim, o Options) *Index {
	t.Helper()
	x, err := Open(sim.FS().Sub("index"), sim.FS().Sub("ember"), o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, x.Close()) })
	return x
}

// encode makes a record at a position.
func encode(m *message.Message, e *message.Envelope, position, stored int64) message.Record {
	var d message.Draft
	if err := d.Encode(m, message.Queue{Topic: m.Topic, ID: 0}, e); err != nil {
		panic(err)
	}
	d.Stamp(position, 0, stored)
	r, err := message.ParseRecord(d.Bytes())
	if err != nil {
		panic(err)
	}
	return r
}

func envelope(uniq string) *message.Envelope {
	e := &message.Envelope{}
	if uniq != "" {
		e.Reserved = []message.Property{{Name: message.PropUniqKey, Value: uniq}}
	}
	return e
}

// fakeLog is a log in memory. The builder's goroutine scans it while a test adds.
type fakeLog struct {
	mu      *sync.Mutex
	records []message.Record
	end     int64
	stored  int64
	start   int64
	at      map[int64]int
}

func newLog() *fakeLog {
	return &fakeLog{mu: new(sync.Mutex), stored: epoch.UnixMilli(), at: map[int64]int{}}
}

// add appends a record one second after the one before it.
func (l *fakeLog) add(topic, uniq string, keys ...string) *message.Record {
	return l.addEnvelope(topic, envelope(uniq), keys...)
}

func (l *fakeLog) addEnvelope(topic string, e *message.Envelope, keys ...string) *message.Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := encode(&message.Message{Topic: topic, Keys: keys, Body: []byte("b")}, e, l.end, l.stored)
	l.at[l.end] = len(l.records)
	l.records = append(l.records, r)
	l.end += int64(r.Size())
	l.stored += 1000
	return &l.records[len(l.records)-1]
}

func (l *fakeLog) read(position int64) (*message.Record, error) {
	i, ok := l.at[position]
	if !ok || position < l.start || i >= len(l.records) {
		return nil, fmt.Errorf("no record at %d: %w", position, message.ErrNotFound)
	}
	return &l.records[i], nil
}

func (l *fakeLog) scan(from, to int64, f func(*message.Record) error) (int64, error) {
	l.mu.Lock()
	records := l.records
	from = max(from, l.start)
	l.mu.Unlock()
	for i := range records {
		r := &records[i]
		if r.Position() < from {
			continue
		}
		if r.Position() >= to {
			return r.Position(), nil
		}
		if err := f(r); err != nil {
			return r.Position(), err
		}
	}
	return to, nil
}

// begin is where the log starts; expire moves it.
func (l *fakeLog) begin() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.start
}

func (l *fakeLog) expire(start int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.start = start
}

func (l *fakeLog) mark() message.Mark {
	if len(l.records) == 0 {
		return message.Mark{}
	}
	return message.Mark{Offset: l.end, Fingerprint: l.records[len(l.records)-1].Fingerprint()}
}

// find returns the positions that a query yields.
func (l *fakeLog) find(x *Index, q Query) ([]int64, Result, error) {
	if err := x.Wait(context.Background(), math.MaxInt64); err != nil {
		return nil, Result{}, err
	}
	var got []int64
	res, err := x.Find(context.Background(), q, l.read, func(r *message.Record) bool {
		got = append(got, r.Position())
		return true
	})
	return got, res, err
}

func (l *fakeLog) mustFind(t testing.TB, x *Index, topic, key string) []int64 {
	t.Helper()
	got, _, err := l.find(x, Query{Topic: topic, Key: key})
	require.NoError(t, err)
	return got
}

func save(t testing.TB, x *Index, m message.Mark) {
	t.Helper()
	require.NoError(t, x.Freeze(m)())
}

func findings(t testing.TB, x *Index) (found []string) {
	t.Helper()
	require.NoError(t, x.Check(context.Background(), nil, func(path string, off int64, reason string) {
		found = append(found, fmt.Sprintf("%s at %d: %s", path, off, reason))
	}))
	return found
}
