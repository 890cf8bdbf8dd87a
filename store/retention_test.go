package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/progress"
	"github.com/embermq/embermq/store"
)

// disk is a lab whose disk gets the size that a test wants, with a log of 64 KiB
// segments.
type disk struct{ *lab }

func newDisk(t testing.TB, opts ...store.Option) *disk {
	return &disk{newLab(t, append(opts, store.WithDurability(message.InCache), store.WithMaxUnsynced(64<<10), store.WithReserve(-1))...)}
}

// fill makes the disk used to percent by giving it a capacity that fits.
func (d *disk) fill(percent int) {
	d.sim.SetCapacity(1 << 40)
	u := must(d.sim.FS().Usage())
	d.sim.SetCapacity(((u.Total-u.Free)*100 + int64(percent) - 1) / int64(percent))
}

// put10 puts ten messages of 6 KiB, about a segment.
func (d *disk) put10(topic string) {
	d.t.Helper()
	for range 10 {
		put(d.t, d.s, &message.Message{Topic: topic, Body: make([]byte, 6<<10)})
	}
}

func (d *disk) segments() (bases []int64) {
	for _, s := range d.s.Log().Segments() {
		bases = append(bases, s.Base/(64<<10))
	}
	return bases
}

func (d *disk) retain() []int64 {
	d.t.Helper()
	require.NoError(d.t, d.s.Retain())
	return d.segments()
}

func TestRetentionByAge(t *testing.T) {
	d := newDisk(t, store.WithRetention(time.Hour))
	for range 5 {
		d.put10("t")
		d.clock.Advance(10 * time.Minute)
	}
	all := d.segments()
	require.Len(t, all, 5)
	require.Equal(t, all, d.retain(), "nothing is an hour old")
	d.clock.Advance(25 * time.Minute)
	require.Equal(t, all[1:], d.retain(), "its last message, not its first, must be an hour old")
	d.clock.Advance(24 * time.Hour)
	require.Equal(t, all[4:], d.retain(), "the active segment stays")
	start, end, err := d.s.Bounds(message.Queue{Topic: "t"})
	require.NoError(t, err)
	require.EqualValues(t, 50, end)
	require.Positive(t, start)
	_, err = d.s.Read(ctx, message.Queue{Topic: "t"}, start-1, message.Limit{}, nil)
	require.ErrorIs(t, err, store.ErrOutOfRange)
	require.EqualValues(t, 4, d.s.Stats().Expired)
	checkOK(t, d.s)
	d.kill()
	again, _, err := d.s.Bounds(message.Queue{Topic: "t"})
	require.NoError(t, err)
	require.Equal(t, start, again)
	checkOK(t, d.s)
	require.NoError(t, d.s.Close())
}

func TestRetentionByBytes(t *testing.T) {
	d := newDisk(t, store.WithRetention(0), store.WithRetentionBytes(150<<10))
	for range 5 {
		d.put10("t")
	}
	all := d.segments()
	got := d.retain()
	require.Equal(t, all[len(all)-len(got):], got, "oldest first")
	require.LessOrEqual(t, len(got), 3)
	require.NoError(t, d.s.Close())
}

// The watermarks, with groups that guard and groups that do not.
func TestWatermarks(t *testing.T) {
	d := newDisk(t, store.WithRetention(time.Hour))
	q := message.Queue{Topic: "t"}
	for range 6 {
		d.put10("t")
		d.clock.Advance(20 * time.Minute)
	}
	all := d.segments()
	require.GreaterOrEqual(t, len(all), 6)
	d.fill(74)
	d.clock.Set(d.clock.Now().Add(-2 * time.Hour)) // as if all were young
	require.Equal(t, all, d.retain())
	d.clock.Advance(2 * time.Hour)

	d.fill(75)
	got := d.retain()
	require.Less(t, len(got), len(all), "expired ones go")
	require.Equal(t, all[len(all)-len(got):], got, "the oldest first")
	young := got
	d.fill(84)
	require.Equal(t, young, d.retain(), "at 84 % young ones stay")

	// A group that needs the third of those left, one that broadcasts, and a
	// reader without a group.
	kept := young[1] * (64 << 10)
	first := int64(0)
	for _, r := range readAll(t, d.s, q) {
		if r.Position() >= kept {
			first = r.Offset()
			break
		}
	}
	require.NoError(t, d.s.Commit(ctx, "billing", map[message.Queue]int64{q: first}))
	require.NoError(t, d.s.Progress().CreateGroup(ctx, progress.Group{Name: "all", Broadcast: true}))
	start, _, _ := d.s.Bounds(q)
	require.NoError(t, d.s.Commit(ctx, "all", map[message.Queue]int64{q: start}))
	held := read(t, d.s, q, start, nil)[0]
	body := string(held.Body())
	d.fill(85)
	inScan := 0
	_, err := d.s.Scan(q, start, message.Limit{Count: 1}, nil, func(r *message.Record) error {
		inScan++
		got = d.retain()
		require.Equal(t, body, string(r.Body()), "a reader inside a segment keeps its bytes")
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, 1, inScan)
	require.Equal(t, young[1:], got, "young ones go")
	require.Equal(t, body, string(held.Body()))
	d.fill(85)
	require.Equal(t, young[1:], d.retain(), "up to what a group needs")
	require.True(t, d.s.Stats().Guarded)
	require.Equal(t, first, must3(d.s.Bounds(q)))

	_, err = d.s.Put(ctx, &message.Message{Topic: "t"})
	require.NoError(t, err, "below 90 % puts go on")
	d.fill(90)
	require.Equal(t, young[1:], d.retain(), "at 90 % data stays")
	_, err = d.s.Put(ctx, &message.Message{Topic: "t"})
	require.ErrorIs(t, err, store.ErrDiskFull)
	_, err = d.s.PutBatch(ctx, []*message.Message{{Topic: "t"}})
	require.ErrorIs(t, err, store.ErrDiskFull)
	_, err = d.s.PutAsync(ctx, &message.Message{Topic: "t"}).Wait(ctx)
	require.ErrorIs(t, err, store.ErrDiskFull)
	require.True(t, d.s.Stats().DiskFull)
	// Reads, commits and deletions go on.
	rs := readAll(t, d.s, q)
	require.NotEmpty(t, rs)
	end := rs[len(rs)-1].Offset() + 1
	require.NoError(t, d.s.Commit(ctx, "billing", map[message.Queue]int64{q: end}))
	require.NoError(t, d.s.Sync(ctx))
	d.fill(90)
	got = d.retain()
	require.Less(t, len(got), len(young)-1, "nobody needs the young ones any more")
	require.False(t, d.s.Stats().DiskFull, "the room they took is there again")
	put(t, d.s, &message.Message{Topic: "t"})
	checkOK(t, d.s)
	require.NoError(t, d.s.Close())
}

// A disk that fills takes young messages, but nothing that waits: neither for its
// time nor for a verdict.
func TestWatermarksSpareWhatWaits(t *testing.T) {
	d := newDisk(t, store.WithRetention(72*time.Hour))
	const n = 20
	var halves []message.HalfID
	for i := range n {
		put(t, d.s, &message.Message{Topic: "late", Body: []byte{byte(i)}, Delay: 48 * time.Hour})
		halves = append(halves, d.prepare("later", "x"))
	}
	for range 6 {
		d.put10("t")
	}
	before := d.segments()
	d.fill(86)
	after := d.retain()
	require.Greater(t, after[0], before[0], "young segments go, the one of what waits too")
	require.EqualValues(t, n, d.s.Timers().Len())
	require.EqualValues(t, n, d.s.Halves().Len())
	d.sim.SetCapacity(1 << 40)
	d.kill()
	d.advance(48*time.Hour - time.Millisecond)
	require.EqualValues(t, n, d.s.Timers().Len())
	d.advance(time.Millisecond)
	require.Equal(t, n, d.count("late"))
	for _, id := range halves {
		require.Equal(t, message.Committed, d.commit(id))
	}
	require.Equal(t, n, d.count("later"))
	checkOK(t, d.s)
	require.NoError(t, d.s.Close())
}

func must3[A, B any](a A, _ B, err error) A {
	if err != nil {
		panic(err)
	}
	return a
}

func TestRetentionGuard(t *testing.T) {
	q := message.Queue{Topic: "t"}
	load := func(t *testing.T, opts ...store.Option) *disk {
		d := newDisk(t, append([]store.Option{store.WithRetention(time.Hour)}, opts...)...)
		for range 4 {
			d.put10("t")
		}
		require.NoError(t, d.s.Commit(ctx, "g", map[message.Queue]int64{q: 0}))
		d.clock.Advance(2 * time.Hour)
		return d
	}
	t.Run("a live group", func(t *testing.T) {
		d := load(t)
		require.Len(t, d.retain(), 4)
		require.True(t, d.s.Stats().Guarded)
		require.NoError(t, d.s.Progress().DeleteGroup(ctx, "g"))
		require.Len(t, d.retain(), 1)
		require.False(t, d.s.Stats().Guarded)
		require.NoError(t, d.s.Close())
	})
	t.Run("WithForceExpiry", func(t *testing.T) {
		d := load(t, store.WithForceExpiry())
		require.Len(t, d.retain(), 1)
		require.NoError(t, d.s.Close())
	})
	t.Run("unseen for 30 days", func(t *testing.T) {
		d := load(t)
		d.clock.Advance(29 * 24 * time.Hour)
		require.Len(t, d.retain(), 4)
		d.clock.Advance(2 * 24 * time.Hour)
		require.Equal(t, []string{"g"}, d.s.Stats().StaleGroups)
		require.Len(t, d.retain(), 1)
		require.NoError(t, d.s.Close())
	})
	t.Run("of another topic", func(t *testing.T) {
		d := load(t)
		require.NoError(t, d.s.Progress().DeleteGroup(ctx, "g"))
		put(t, d.s, &message.Message{Topic: "u"})
		require.NoError(t, d.s.Commit(ctx, "h", map[message.Queue]int64{{Topic: "u"}: 0}))
		require.Len(t, d.retain(), 1)
		require.NoError(t, d.s.Close())
	})
	t.Run("a deleted topic", func(t *testing.T) {
		d := load(t)
		require.NoError(t, d.s.DeleteTopic(ctx, "t"))
		require.Len(t, d.retain(), 1)
		require.NoError(t, d.s.Close())
	})
}

// The simulated disk runs full: puts fail at once, reads and commits go on, and
// puts work again when there is room, without a reopen.
func TestFullDiskSimulated(t *testing.T) {
	for _, durability := range []message.Durability{message.OnDisk, message.InCache} {
		t.Run(fmt.Sprint(durability), func(t *testing.T) {
			l := newLab(t, store.WithDurability(durability), store.WithWatermarks(store.Watermarks{Clean: 100, Force: 100, Full: 100}))
			q := message.Queue{Topic: "t"}
			put(t, l.s, &message.Message{Topic: "t"})
			u := must(l.sim.FS().Usage())
			l.sim.SetCapacity(u.Total - u.Free + 300<<10)
			var err error
			n := int64(1)
			for ; err == nil && n < 10_000; n++ {
				_, err = l.s.Put(ctx, &message.Message{Topic: "t", Body: make([]byte, 4<<10)})
				l.clock.Advance(2 * time.Second)
			}
			n--
			require.ErrorIs(t, err, store.ErrDiskFull)
			require.NoError(t, l.s.Stats().Poisoned)
			_, err = l.s.Put(ctx, &message.Message{Topic: "t"})
			require.ErrorIs(t, err, store.ErrDiskFull)
			require.Len(t, readAll(t, l.s, q), int(n))
			require.NoError(t, l.s.Commit(ctx, "g", map[message.Queue]int64{q: n}))
			require.NoError(t, l.s.DeleteTopic(ctx, "t"), "the store's own records take the reserve")
			l.sim.SetCapacity(1 << 40)
			l.clock.Advance(time.Second)
			r := put(t, l.s, &message.Message{Topic: "t"})
			require.Equal(t, n, r.Offset)
			checkOK(t, l.s)
			l.kill()
			require.Len(t, readAll(t, l.s, q), 1)
			checkOK(t, l.s)
			require.NoError(t, l.s.Close())
		})
	}
}
