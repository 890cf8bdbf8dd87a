package store_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// Whatever bit of an entry's position or size is wrong, its reader waits for the
// queue to be rebuilt and gets the right message.
func TestWrongEntryIsRebuilt(t *testing.T) {
	sound, at := makeSound(t)
	q := message.Queue{Topic: "t"}
	change := map[string]func(b []byte){
		"the next one's": func(b []byte) { copy(b, b[20:]) },
	}
	for bit := 0; bit < 96; bit += 9 {
		change[fmt.Sprint("bit ", bit)] = func(b []byte) { b[bit/8] ^= 1 << (bit % 8) }
	}
	ways := []func(s *store.Store) error{
		func(s *store.Store) error {
			b, err := s.Read(ctx, q, 30, message.Limit{Count: 10}, nil)
			if err == nil && (len(b.Records) != 10 || b.Records[0].Position() != at[30].Position) {
				err = fmt.Errorf("%d records", len(b.Records))
			}
			return err
		},
		func(s *store.Store) error {
			n := 0
			_, err := s.Scan(q, 30, message.Limit{Count: 10}, nil, func(r *message.Record) error {
				if r.Position() != at[30+n].Position {
					return fmt.Errorf("%d instead of %d", r.Position(), at[30+n].Position)
				}
				n++
				return nil
			})
			return err
		},
		func(s *store.Store) error {
			r, err := s.Get(ctx, at[30].Position)
			if err != nil {
				return err
			}
			from, err := s.OffsetAt(q, r.StoredAt(), message.Lower)
			to, err2 := s.OffsetAt(q, r.StoredAt(), message.Upper)
			if err == nil && err2 == nil && (from > 30 || to < 30) {
				err2 = fmt.Errorf("[%d, %d]", from, to)
			}
			return errors.Join(err, err2)
		},
	}
	for name, change := range change {
		t.Run(name, func(t *testing.T) {
			d := &damaged{t: t, dir: t.TempDir(), at: at}
			require.NoError(t, os.CopyFS(d.dir, os.DirFS(sound)))
			file, off := d.entry(30)
			d.edit(file, off, change, 40)
			for i := range ways {
				dir := t.TempDir()
				require.NoError(t, os.CopyFS(dir, os.DirFS(d.dir)))
				s := open(t, dir)
				require.NoError(t, ways[i](s), "way %d", i)
				require.Len(t, readAll(t, s, q), len(at))
				require.EqualValues(t, 1, s.Stats().QueuesRebuilt, "way %d", i)
				checkOK(t, s)
			}
		})
	}
}

// A right entry is not blamed for a rotten record.
func TestRottenRecordIsNoWrongEntry(t *testing.T) {
	sound, at := makeSound(t)
	q := message.Queue{Topic: "t"}
	for _, off := range []int64{3, 5, 30, 300} {
		d := &damaged{t: t, dir: t.TempDir(), at: at}
		require.NoError(t, os.CopyFS(d.dir, os.DirFS(sound)))
		file, base := d.record(30)
		d.flip(file, base+off)
		s := open(t, d.dir)
		for range 2 {
			_, err := s.Read(ctx, q, 30, message.Limit{}, nil)
			var bad *store.CorruptError
			require.ErrorAs(t, err, &bad)
			require.Equal(t, filepath.Join(d.dir, file), bad.Path)
			require.Equal(t, base, bad.Offset)
		}
		b, err := s.Read(ctx, q, 31, message.Limit{Count: 1000}, nil)
		require.NoError(t, err)
		require.Len(t, b.Records, len(at)-31)
		require.Zero(t, s.Stats().QueuesRebuilt)
	}
}

// Retention looks for the first record that stays. A wrong entry on the way must
// not make it drop others.
func TestWrongEntryBesideRetention(t *testing.T) {
	sound, at := makeSound(t)
	q := message.Queue{Topic: "t"}
	for wrong := range at {
		if wrong%30 != 0 && wrong != 45 && wrong != 67 {
			continue
		}
		d := &damaged{t: t, dir: t.TempDir(), at: at}
		require.NoError(t, os.CopyFS(d.dir, os.DirFS(sound)))
		file, off := d.entry(wrong)
		d.edit(file, off, func(b []byte) { clear(b[:8]) }, 8)
		s := open(t, d.dir, store.WithRetentionBytes(150<<10), store.WithForceExpiry())
		require.NoError(t, s.Retain())
		require.EqualValues(t, checkSegment, s.Log().Start(), "entry %d", wrong)
		first := slices.IndexFunc(at, func(r message.Receipt) bool { return r.Position >= checkSegment })
		start, end, err := s.Bounds(q)
		require.NoError(t, err)
		require.EqualValues(t, len(at), end)
		require.LessOrEqual(t, start, int64(first), "entry %d", wrong)
		b, err := s.Read(ctx, q, int64(first), message.Limit{Count: 1000}, nil)
		require.NoError(t, err)
		require.Len(t, b.Records, len(at)-first, "entry %d", wrong)
	}
}
