package schedule

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/internal/kv"
	"github.com/embermq/embermq/message"
)

// kvRig is a rig on Pebble.
func kvRig(t testing.TB, db *kv.DB, log *fakeLog, clk clock.Clock, near int) (*rig, error) {
	r := &rig{t: t, log: log, ids: message.NewIDs(clk.Now)}
	if m, ok := clk.(*clock.Manual); ok {
		r.clock = m
	}
	r.o = Options{Manual: true, Clock: clk, Near: near, Appender: log, Read: log.read}
	s, err := New(db, r.o)
	if err != nil {
		return nil, err
	}
	mark, ok := s.Saved()
	if !ok {
		mark = message.Mark{}
		if err := s.Reset(); err != nil {
			return nil, err
		}
	}
	for _, rec := range log.recs {
		if rec.pos >= mark.Offset {
			s.Apply(parse(rec.b))
		}
	}
	log.apply = s.Apply
	r.Schedule = s
	return r, s.Start(bg)
}

// Power cuts at every few file operations of a run on Pebble: each image finds
// what its log says and delivers it once.
func TestPowerCut(t *testing.T) {
	sim := crash.New(3)
	db, err := kv.Open(sim.FS(), kv.Options{})
	require.NoError(t, err)
	clk := clock.NewManual(day)
	r, err := kvRig(t, db, newFakeLog(clk), clk, 20)
	require.NoError(t, err)
	images := 0
	check := func(mode crash.Mode) {
		images++
		disk, err := kv.Open(sim.PowerCut(mode, uint64(images)).FS(), kv.Options{})
		require.NoError(t, err, mode.String())
		defer func() { require.NoError(t, disk.Close()) }()
		c := clock.NewManual(clk.Now())
		log := r.log.cut(r.log.synced)
		log.clock = c
		again, err := kvRig(t, disk, log, c, 20)
		require.NoError(t, err, mode.String())
		defer again.Close()
		require.EqualValues(t, len(readTruth(log.recs).due), again.Timers().Len(), "%s image %d", mode, images)
		require.NoError(t, again.runUntil(c.Now().AddDate(1, 0, 0)))
		for body, n := range readTruth(log.recs).delivered {
			require.Equal(t, 1, n, "%s, %s image %d", body, mode, images)
		}
		require.Zero(t, again.Timers().Len())
	}
	for i := range 200 {
		r.after("t", fmt.Sprintf("w%d", i), time.Duration(1+i*37%100)*time.Second)
		if i%4 == 0 {
			clk.Advance(time.Second)
			r.steps()
		}
		if i%9 == 0 {
			require.NoError(t, r.save())
			check(crash.KeepNone)
		}
		if i%5 == 0 {
			check(crash.Modes[i/5%len(crash.Modes)])
		}
	}
	require.NoError(t, r.Close())
	require.NoError(t, db.Close())
}

// Rows that cannot be read rebuild the view, now or at the next open.
func TestBrokenRows(t *testing.T) {
	r := newRig(t)
	for i := range 10 {
		r.after("t", fmt.Sprint(i), time.Duration(i+1)*time.Second)
	}
	require.NoError(t, r.save())
	require.NoError(t, r.Close())
	b := new(kv.Batch)
	b.Set(timerKey(nil, key{day.Add(3 * time.Second).UnixMilli(), 1 << 40}), []byte{9})
	require.NoError(t, r.disk.Apply(bg, b, true))
	require.NoError(t, r.open())
	require.ErrorIs(t, r.Stats().Err, message.ErrCorrupt)
	r.after("t", "late", time.Minute)
	require.NoError(t, r.save())
	require.NoError(t, r.Close())
	require.NoError(t, r.open())
	require.NoError(t, r.Stats().Err)
	require.EqualValues(t, 11, r.Timers().Len())
	require.NoError(t, r.save())
	require.NoError(t, r.Close())
	b.Reset()
	b.Set([]byte(keyMark), []byte("?"))
	require.NoError(t, r.disk.Apply(bg, b, true))
	require.NoError(t, r.open())
	require.EqualValues(t, 11, r.Timers().Len())
	require.NoError(t, r.runUntil(day.Add(time.Hour)))
	require.Len(t, r.bodies(), 11)
}
