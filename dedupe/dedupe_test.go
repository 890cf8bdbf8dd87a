package dedupe

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/kv"
	"github.com/embermq/embermq/internal/kv/kvtest"
	"github.com/embermq/embermq/message"
)

func TestAnswersTheFirstReceipt(t *testing.T) {
	l := newMemLog()
	w := l.open(t, kvtest.New(), time.Minute, 100)
	m := keyed("orders", "42")
	m.QueueID = 3
	first, stored := l.put(t, w, m)
	require.True(t, stored)
	l.clock.Advance(time.Second)
	m.QueueID = 1 // another attempt chose another queue
	again, stored := l.put(t, w, m)
	require.False(t, stored)
	require.Equal(t, first, again)
	require.Equal(t, message.Queue{Topic: "orders", ID: 3}, again.Queue)
	_, stored = l.put(t, w, keyed("payments", "42")) // a key belongs to its topic
	require.True(t, stored)
	require.Equal(t, Stats{Keys: 2, Duplicates: 1, Bytes: w.Stats().Bytes}, w.Stats())
}

func TestWindowEnds(t *testing.T) {
	l := newMemLog()
	w := l.open(t, kvtest.New(), time.Minute, 3)
	put := func(key string) bool {
		_, stored := l.put(t, w, keyed("t", key))
		return stored
	}
	require.True(t, put("a"))
	l.clock.Advance(time.Minute - time.Millisecond)
	require.False(t, put("a"), "a millisecond before its end")
	l.clock.Advance(time.Millisecond)
	require.True(t, put("a"), "at its end")
	require.True(t, put("b"))
	require.True(t, put("c"))
	require.False(t, put("a"))
	require.True(t, put("d")) // the fourth: a is forgotten
	require.True(t, put("a"))
	require.False(t, put("d"))
	require.Equal(t, 3, w.Stats().Keys)
	l.clock.Advance(time.Hour)
	require.True(t, put("e"))
	require.Equal(t, 1, w.Stats().Keys, "old keys leave memory")
	l.start = l.end()
	require.True(t, put("e"), "its record is gone from the log")
}

func TestUnreadableRecord(t *testing.T) {
	l := newMemLog()
	damaged := &message.CorruptError{Offset: 0, Reason: "test"}
	w, err := New(kvtest.New(), Options{Window: time.Minute, Count: 10, Clock: l.clock,
		Read: func(int64, *message.Record) error { return damaged }})
	require.NoError(t, err)
	_, stored := l.put(t, w, keyed("t", "a"))
	require.True(t, stored)
	for range 2 { // whether it was stored cannot be told, and nobody waits for ever
		_, _, err = w.Claim(bg, "t", "a")
		require.ErrorIs(t, err, message.ErrCorrupt)
	}
	require.Empty(t, w.mu.flying)
}

// What is a copy of another record, or no message of a user, is no key.
func TestWhichRecordsCount(t *testing.T) {
	own := func(name string) message.Property {
		return message.Property{Name: name, Value: "0000000000000000", Own: true}
	}
	prop := func(name, value string) message.Property { return message.Property{Name: name, Value: value} }
	waiting := []message.Property{prop(message.PropRealTopic, "t"), prop(message.PropRealQueue, "2"), prop(message.PropUniqKey, "ID")}
	rows := []struct {
		name  string
		in    string
		more  []message.Property
		topic string
	}{
		{name: "message", in: "t", topic: "t"},
		{name: "waits for a time", in: message.TopicTimer, more: waiting, topic: "t"},
		{name: "waits by level", in: message.TopicSchedule, more: waiting, topic: "t"},
		{name: "fired", in: "t", more: []message.Property{own(message.PropTimer)}},
		{name: "carried", in: message.TopicTimer, more: append(waiting[:3:3], own(message.PropCarries))},
		{name: "cancels", in: message.TopicTimer, more: append(waiting[:3:3], prop(message.PropTimerDelUniq, "ID"))},
		{name: "half", in: message.TopicHalf, more: waiting},
		{name: "retry", in: message.PrefixRetry + "g"},
		{name: "retry waits by level", in: message.TopicSchedule, more: []message.Property{prop(message.PropRealTopic, message.PrefixRetry+"g"), prop(message.PropRealQueue, "2")}},
		{name: "retry waits for a time", in: message.TopicTimer, more: []message.Property{prop(message.PropRealTopic, message.PrefixRetry+"g"), prop(message.PropRealQueue, "2")}},
		{name: "moved or redriven", in: "t", more: []message.Property{own(message.PropSettles)}},
		{name: "settled by another store", in: "t", more: []message.Property{prop(message.PropSettles, "ffff")}, topic: "t"},
		{name: "dead", in: message.PrefixDead + "g"},
		{name: "fired by another store", in: "t", more: []message.Property{prop(message.PropTimer, "ffff")}, topic: "t"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			l := newMemLog()
			w := l.open(t, kvtest.New(), time.Minute, 10)
			r := l.add(t, keyed("t", "k"), message.Queue{Topic: row.in, ID: 2}, row.more...)
			w.Apply(r)
			c, receipt, err := w.Claim(bg, "t", "k")
			require.NoError(t, err)
			if row.topic == "" {
				require.NotNil(t, c)
				require.Zero(t, w.Stats().Keys, "it takes no room in the window either")
				return
			}
			require.Nil(t, c)
			want := message.Receipt{Queue: message.Queue{Topic: "t", ID: 2}, Offset: r.Offset(), Position: r.Position(), StoredAt: day}
			if row.in != "t" {
				want.Offset = -1
			}
			if row.in == message.TopicTimer {
				want.Timer = "ID"
			}
			require.Equal(t, want, receipt)
		})
	}
}

// Whoever comes second waits: for the receipt, or for the failure, and then
// tries itself; its own ctx ends the wait.
func TestWaitsForTheOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemLog()
		w := l.open(t, kvtest.New(), time.Minute, 10)
		first, _, err := w.Claim(bg, "t", "k")
		require.NoError(t, err)
		type result struct {
			c   *Claim
			r   message.Receipt
			err error
		}
		claim := func(ctx context.Context) chan result {
			ch := make(chan result, 1)
			go func() {
				c, r, err := w.Claim(ctx, "t", "k")
				ch <- result{c, r, err}
			}()
			synctest.Wait()
			return ch
		}
		gaveUp, cancel := context.WithCancel(bg)
		patient, impatient := claim(bg), claim(gaveUp)
		require.Empty(t, patient)
		cancel()
		require.ErrorIs(t, (<-impatient).err, context.Canceled)
		require.Equal(t, int64(2), w.Stats().Waits)

		first.End() // it has failed
		second := <-patient
		require.NotNil(t, second.c)

		// Known before it is applied: an answer need not wait for the sync.
		third := claim(bg)
		require.Empty(t, third)
		want := message.Receipt{Queue: message.Queue{Topic: "t"}, Offset: 7}
		second.c.Answer(want)
		require.Equal(t, result{r: want}, <-third)
		require.Equal(t, result{r: want}, <-claim(bg))
		second.c.End()
		require.Empty(t, w.mu.flying)
	})
}

func TestBatch(t *testing.T) {
	l := newMemLog()
	w := l.open(t, kvtest.New(), time.Minute, 100)
	old, _ := l.put(t, w, keyed("t", "old"))
	ms := []*message.Message{keyed("t", "a"), {Topic: "t"}, keyed("t", "old"), keyed("u", "a"), keyed("t", "a"), {Topic: "t"}}
	b, err := w.Batch(bg, ms)
	require.NoError(t, err)
	require.Equal(t, []*message.Message{ms[0], ms[1], ms[3], ms[5]}, b.Rest)
	require.Len(t, b.Claims, 2)
	rs := make([]message.Receipt, len(b.Rest))
	for i := range rs {
		rs[i].Offset = int64(10 + i)
	}
	got := b.Receipts(rs)
	require.Equal(t, []message.Receipt{rs[0], rs[1], old, rs[2], rs[0], rs[3]}, got)
	for _, k := range []*message.Message{ms[0], ms[3]} { // answered, not applied yet
		c, _, err := w.Claim(bg, k.Topic, k.IdempotencyKey)
		require.NoError(t, err)
		require.Nil(t, c)
	}
	b.End()
	require.Empty(t, w.mu.flying)

	ctx, cancel := context.WithCancel(bg)
	cancel()
	held, _, err := w.Claim(bg, "t", "held")
	require.NoError(t, err)
	_, err = w.Batch(ctx, []*message.Message{keyed("t", "x"), keyed("t", "held"), keyed("t", "y")})
	require.ErrorIs(t, err, context.Canceled)
	require.Len(t, w.mu.flying, 1, "a batch that failed holds nothing")
	held.End()
}

// Many goroutines put the same keys, alone and in batches whose orders cross.
// Each key is stored exactly once and all get its receipt.
func TestRace(t *testing.T) { require.NoError(t, race(t, 30)) }

func race(t testing.TB, rounds int) error {
	l := newMemLog()
	var mu sync.Mutex
	w, err := New(kvtest.New(), Options{Window: time.Minute, Count: 1000, Clock: l.clock, Read: func(p int64, r *message.Record) error {
		mu.Lock()
		defer mu.Unlock()
		return l.read(p, r)
	}})
	require.NoError(t, err)
	const keys, workers = 40, 8
	var stored atomic.Int64
	receipts := make([]sync.Map, keys)
	appendAll := func(ms []*message.Message) (rs []message.Receipt) {
		mu.Lock()
		defer mu.Unlock()
		for _, m := range ms {
			rec := l.add(t, m, message.Queue{Topic: "t"})
			w.Apply(rec)
			rs = append(rs, receiptOf(rec, "t"))
			stored.Add(1)
		}
		return rs
	}
	var wg sync.WaitGroup
	for n := range workers {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(n), 1))
			for range rounds {
				order := rnd.Perm(keys)[:1+rnd.IntN(5)]
				var ms []*message.Message
				for _, k := range order {
					ms = append(ms, keyed("t", numbered(k)))
				}
				b, err := w.Batch(bg, ms)
				if err != nil {
					t.Error(err)
					return
				}
				runtime.Gosched()
				if rnd.IntN(4) == 0 {
					b.End() // the append has failed
					continue
				}
				for i, r := range b.Receipts(appendAll(b.Rest)) {
					receipts[order[i]].Store(r, true)
				}
				b.End()
			}
		})
	}
	wg.Wait()
	for k := range receipts {
		different := 0
		receipts[k].Range(func(any, any) bool { different++; return true })
		if different != 1 {
			return fmt.Errorf("%s has %d receipts", numbered(k), different)
		}
	}
	if n := stored.Load(); n != keys {
		return fmt.Errorf("%d keys were stored %d times", keys, n)
	}
	if n := len(w.mu.flying); n != 0 {
		return fmt.Errorf("%d claims are left", n)
	}
	return nil
}

func TestOptions(t *testing.T) {
	read := func(int64, *message.Record) error { return nil }
	for _, o := range []Options{{Count: 1, Read: read}, {Window: 1, Read: read}, {Window: 1, Count: 1}, {Window: 1, Count: MaxCount + 1, Read: read}, {Window: -1, Count: 1, Read: read}} {
		_, err := New(nil, o)
		require.ErrorIs(t, err, message.ErrInvalidMessage)
	}
}

// The table finds what a map finds, whatever comes and goes.
func TestTable(t *testing.T) {
	rnd := rand.New(rand.NewPCG(rand.Uint64(), 2))
	var r ring
	r.head, r.tail = 1<<31-5000, 1<<31-5000 // low bits of sequence numbers wrap
	tab := table{ring: &r}
	want := map[uint32][]int64{}
	got := func(h uint32) (ps []int64) {
		tab.find(h, func(e *entry) { ps = append(ps, e.position) })
		return ps
	}
	for i := range 40_000 {
		limit := 6000
		if i > 20_000 {
			limit = 40
		}
		for r.len() > rnd.IntN(limit) {
			e := *r.at(r.head)
			tab.remove(r.head, e.hash)
			r.pop()
			want[e.hash] = want[e.hash][1:]
		}
		h := uint32(rnd.IntN(8))<<22 | uint32(rnd.IntN(300)) // long runs, often equal
		tab.insert(r.push(entry{position: int64(i), hash: h}), h)
		want[h] = append(want[h], int64(i))
		for range 3 {
			h := uint32(rnd.IntN(8))<<22 | uint32(rnd.IntN(300))
			require.ElementsMatch(t, want[h], got(h))
		}
	}
	slots := 0
	for i := range tab.parts {
		slots += len(tab.parts[i].slots)
	}
	require.LessOrEqual(t, slots, 40*8+8*firstSlots, "tables shrink")
}

// A save that fails, at any batch and before or after it is there, is part of
// the next one.
func TestSaveFails(t *testing.T) {
	for _, after := range []bool{false, true} {
		for n := 1; ; n++ {
			l, d := newMemLog(), kvtest.New()
			w := l.open(t, d, time.Hour, 5000)
			fill := func(from, to int) {
				for i := from; i < to; i++ {
					l.put(t, w, keyed("t", numbered(i)))
				}
			}
			fill(0, 1500)
			require.NoError(t, w.Freeze(l.mark())())
			fill(1500, 4500)
			d.Fail, d.After = n, after
			err := w.Freeze(l.mark())()
			if d.Fail > 0 {
				require.Greater(t, n, 3, "a save of several batches")
				require.NoError(t, err)
				break
			}
			require.ErrorIs(t, err, errDisk)
			fill(4500, 6000) // the first thousand leave
			require.NoError(t, w.Freeze(l.mark())())
			again := l.open(t, d, time.Hour, 5000)
			require.Equal(t, 5000, again.Stats().Keys)
			for i := 1000; i < 6000; i += 7 {
				_, stored := l.put(t, again, keyed("t", numbered(i)))
				require.False(t, stored, i)
			}
		}
	}
}

func TestSupersededSave(t *testing.T) {
	l, d := newMemLog(), kvtest.New()
	w := l.open(t, d, time.Hour, 100)
	l.put(t, w, keyed("t", "a"))
	first := w.Freeze(l.mark())
	l.put(t, w, keyed("t", "b"))
	second := w.Freeze(l.mark())
	require.ErrorIs(t, first(), errSuperseded)
	require.NoError(t, second())
	require.Equal(t, 2, l.open(t, d, time.Hour, 100).Stats().Keys)
}

// Saved state that cannot be read is no state.
func TestDamagedRows(t *testing.T) {
	l, d := newMemLog(), kvtest.New()
	w := l.open(t, d, time.Hour, 5000)
	for i := range 1500 {
		l.put(t, w, keyed("t", numbered(i)))
	}
	require.NoError(t, w.Freeze(l.mark())())
	_, ok := l.open(t, d, time.Hour, 5000).Saved()
	require.True(t, ok)
	all := func(d *kvtest.Mem) iter.Seq2[kv.KV, error] { return d.Scan([]byte{0}, []byte{255}) }
	for row := range all(d) {
		k, v := string(row.Key), string(row.Value)
		for _, bad := range []string{"", v[:1], v[:len(v)-1], "\x02" + v[1:], v + v[1:]} {
			cut := d.Cut(0)
			var b kv.Batch
			b.Set([]byte(k), []byte(bad))
			require.NoError(t, cut.Apply(bg, &b, true))
			again := l.open(t, cut, time.Hour, 5000)
			_, ok := again.Saved()
			require.False(t, ok, "%q", k)
			require.Zero(t, again.Stats().Keys)
			require.NoError(t, again.Reset())
			for range all(cut) {
				require.Fail(t, "a row is left")
			}
		}
	}
	require.True(t, errors.Is(damage([]byte("k"), "x"), message.ErrCorrupt))
}
