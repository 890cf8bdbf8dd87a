package store_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/internal/kv"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// damaged is a copy of a closed store that a test breaks.
type damaged struct {
	t   testing.TB
	dir string
	at  []message.Receipt // of topic t queue 0, in order

	sound *store.Store // what it was copied from, read-only
}

const (
	checkSegment = 64 << 10
	checkQueue   = 200 // ten entries a file
)

func makeSound(t testing.TB) (dir string, at []message.Receipt) {
	dir = t.TempDir()
	s := must(store.Open(dir, store.WithSegmentSize(checkSegment), store.WithQueueFileSize(checkQueue)))
	for i := range 180 {
		at = append(at, put(t, s, &message.Message{Topic: "t", Tag: "tag", Keys: []string{fmt.Sprint("k", i)}, Body: fmt.Appendf(nil, "%0900d", i)}))
	}
	require.NoError(t, s.Commit(ctx, "g", map[message.Queue]int64{{Topic: "t"}: 60}))
	require.NoError(t, s.Close())
	return dir, at
}

func (d *damaged) path(name string) string { return filepath.Join(d.dir, name) }

func (d *damaged) edit(name string, off int64, f func(b []byte), n int) {
	file := must(os.OpenFile(d.path(name), os.O_RDWR, 0))
	defer file.Close()
	b := make([]byte, n)
	must(file.ReadAt(b, off))
	f(b)
	must(file.WriteAt(b, off))
}

func (d *damaged) flip(name string, off int64) {
	d.edit(name, off, func(b []byte) { b[0] ^= 4 }, 1)
}

// record is where message i lies.
func (d *damaged) record(i int) (name string, off int64) {
	p := d.at[i].Position
	return fmt.Sprintf("commitlog/%020d", p/checkSegment*checkSegment), p % checkSegment
}

// entry is where the queue entry of message i lies.
func (d *damaged) entry(i int) (name string, off int64) {
	at := int64(i) * 20
	return fmt.Sprintf("consumequeue/t/0/%020d", at/checkQueue*checkQueue), at % checkQueue
}

// Thirty damages. Check names file, offset and reason of each, in a store that
// is open or through OpenReadOnly, and not a byte changes. Where Open itself
// refuses the directory it names the same.
func TestCheckNamesDamage(t *testing.T) {
	sound, at := makeSound(t)
	whole := must(store.OpenReadOnly(sound))
	defer func() { require.NoError(t, whole.Close()) }()
	type damage struct {
		name   string
		plant  func(d *damaged) (file string, off int64)
		reason string
	}
	inRecord := func(i int, off int64) func(d *damaged) (string, int64) {
		return func(d *damaged) (string, int64) {
			name, base := d.record(i)
			d.flip(name, base+off)
			return name, base
		}
	}
	inEntry := func(i int, off int64, n int, change func(b []byte)) func(d *damaged) (string, int64) {
		return func(d *damaged) (string, int64) {
			name, base := d.entry(i)
			d.edit(name, base+off, change, n)
			return name, base
		}
	}
	flipped := func(b []byte) { b[len(b)-1] ^= 1 }
	stray := func(name string) func(d *damaged) (string, int64) {
		return func(d *damaged) (string, int64) {
			require.NoError(d.t, os.WriteFile(d.path(name), []byte("x"), 0o600))
			return name, 0
		}
	}
	remove := func(name string) func(d *damaged) (string, int64) {
		return func(d *damaged) (string, int64) {
			require.NoError(d.t, os.Remove(d.path(name)))
			return name, 0
		}
	}
	const second = "commitlog/00000000000000065536"
	for _, c := range []damage{
		{"record: size", inRecord(5, 3), ""},
		{"record: magic", inRecord(5, 5), ""},
		{"record: queue number", inRecord(5, 15), "checksum"},
		{"record: queue offset", inRecord(5, 27), "checksum"},
		{"record: position", inRecord(5, 35), "position"},
		{"record: store time", inRecord(5, 60), "checksum"},
		{"record: body", inRecord(5, 300), "checksum"},
		{"record: property", inRecord(5, 88+900+8), "checksum"},
		{"record: its checksum", func(d *damaged) (string, int64) {
			name, off := d.record(6) // the digits end in front of the next record
			d.flip(name, off-4)
			name, off = d.record(5)
			return name, off
		}, "checksum"},
		{"record: zeroed sector", func(d *damaged) (string, int64) {
			name, off := d.record(5)
			d.edit(name, (off+600)/512*512, func(b []byte) { clear(b) }, 512)
			return name, off
		}, ""},
		{"records swapped", func(d *damaged) (string, int64) {
			name, a := d.record(5)
			_, b := d.record(6)
			_, c := d.record(7)
			d.edit(name, a, func(p []byte) {
				swapped := append(append([]byte(nil), p[b-a:]...), p[:b-a]...)
				copy(p, swapped)
			}, int(c-a))
			return name, a
		}, "position"},
		{"blank at a segment's end", func(d *damaged) (string, int64) {
			i := 0
			for d.at[i].Position < checkSegment {
				i++
			}
			name, off := d.record(i - 1)
			b := must(os.ReadFile(d.path(name)))
			off += int64(binary.BigEndian.Uint32(b[off:]))
			d.flip(name, off+6)
			return name, off
		}, ""},
		{"segment is short", func(d *damaged) (string, int64) {
			require.NoError(d.t, os.Truncate(d.path(second), 5000))
			return second, 5000
		}, "5000 bytes"},
		{"segment is missing", func(d *damaged) (string, int64) {
			require.NoError(d.t, os.Remove(d.path("commitlog/00000000000000065536")))
			return second, 0
		}, "missing"},
		{"last segment is missing", func(d *damaged) (string, int64) {
			require.NoError(d.t, os.Remove(d.path("commitlog/00000000000000131072")))
			last := d.at[len(d.at)-1]
			r := must(d.sound.Get(ctx, last.Position))
			return "commitlog", last.Position + int64(r.Size()) - 1
		}, "does not reach the watermark"},
		{"first segment is missing", func(d *damaged) (string, int64) {
			require.NoError(d.t, os.Remove(d.path("commitlog/00000000000000000000")))
			return "commitlog/00000000000000000000", 0
		}, "missing"},
		{"stray file in the log", stray("commitlog/00000000000000065536.bak"), "stray"},
		{"queue entry: position", inEntry(3, 0, 8, flipped), ""},
		{"queue entry: size", inEntry(3, 8, 4, flipped), ""},
		{"queue entry: tag", inEntry(3, 12, 8, flipped), "tag hash"},
		{"queue entry: another record's", func(d *damaged) (string, int64) {
			name, off := d.entry(3)
			_, from := d.entry(4)
			var other [20]byte
			d.edit(name, from, func(b []byte) { copy(other[:], b) }, 20)
			d.edit(name, off, func(b []byte) { copy(b, other[:]) }, 20)
			return name, off
		}, "record 4"},
		{"queue file is missing", remove("consumequeue/t/0/00000000000000000400"), ""},
		{"queue file is short", func(d *damaged) (string, int64) {
			require.NoError(d.t, os.Truncate(d.path("consumequeue/t/0/00000000000000000400"), 60))
			return "consumequeue/t/0/00000000000000000400", 60
		}, "length"},
		{"stray file among queue files", stray("consumequeue/t/0/notes"), "stray"},
		{"stray file among topics", stray("consumequeue/notes"), "stray"},
		{"queue folder of nobody", func(d *damaged) (string, int64) {
			require.NoError(d.t, os.MkdirAll(d.path("consumequeue/t/77"), 0o700))
			return stray("consumequeue/t/77/00000000000000000000")(d)
		}, "does not exist"},
		{"queues image", func(d *damaged) (string, int64) { d.flip("ember/queues", 40); return "ember/queues", 0 }, ""},
		{"first slot of synced", func(d *damaged) (string, int64) { d.flip("ember/synced", 20); return "ember/synced", 0 }, "slot"},
		{"second slot of synced", func(d *damaged) (string, int64) { d.flip("ember/synced", 512+20); return "ember/synced", 512 }, "slot"},
		{"both slots of synced", func(d *damaged) (string, int64) {
			d.flip("ember/synced", 20)
			d.flip("ember/synced", 512+20)
			return "ember/synced", 0
		}, ""},
		{"FORMAT", func(d *damaged) (string, int64) { d.flip("ember/FORMAT", 30); return "ember/FORMAT", 0 }, "checksum"},
		{"foreign list", stray("ember/foreign"), "list of ranges"},
		{"stray file in ember", stray("ember/notes"), "stray"},
		{"stray file beside the folders", stray("notes"), "stray"},
		{"stray file in the index", stray("index/notes"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := &damaged{t: t, dir: t.TempDir(), at: at, sound: whole}
			require.NoError(t, os.CopyFS(d.dir, os.DirFS(sound)))
			file, off := c.plant(d)
			before := dirHash(t, d.dir)
			s, err := store.OpenReadOnly(d.dir)
			var ce *store.CorruptError
			if errors.As(err, &ce) {
				require.Equal(t, d.path(file), ce.Path)
				require.Equal(t, off, ce.Offset)
				require.Contains(t, ce.Reason, c.reason)
			} else {
				require.NoError(t, err)
				expectDamage(t, s, d.dir, file, off, c.reason)
				require.NoError(t, s.Close())
			}
			require.Equal(t, before, dirHash(t, d.dir))
		})
	}
}

func expectDamage(t testing.TB, s *store.Store, dir, file string, off int64, reason string) {
	t.Helper()
	before := dirHash(t, dir)
	r, err := s.Check(ctx)
	require.NoError(t, err)
	require.False(t, r.OK())
	found := false
	for _, d := range r.Damages {
		found = found || d.Path == filepath.Join(dir, file) && d.Offset == off && d.Reason != "" && strings.Contains(d.Reason, reason)
	}
	require.True(t, found, "%s at %d (%s) is not among %v", file, off, reason, r.Damages)
	require.Equal(t, before, dirHash(t, dir))
}

// A sound store has nothing to report, however it is opened.
func TestCheckSound(t *testing.T) {
	dir, _ := makeSound(t)
	s := must(store.OpenReadOnly(dir))
	checkOK(t, s)
	require.NoError(t, s.Close())
	s = open(t, dir)
	checkOK(t, s)
	r := must(s.Check(ctx))
	require.EqualValues(t, 180, r.Records)
	require.EqualValues(t, 180, r.Entries)
}

// An offset behind its queue's end is set to the end by the next Open, which says
// so; a row that cannot be read is damage.
func TestOffsetBehindTheEnd(t *testing.T) {
	dir, _ := makeSound(t)
	meta := must(fs.OS(filepath.Join(dir, "ember/meta")))
	db := must(kv.Open(meta, kv.Options{MustExist: true, Clock: clock.Real{}}))
	var b kv.Batch
	key := append([]byte("p/o/g\x00t\x00"), 0, 0, 0, 0)
	b.Set(key, binary.BigEndian.AppendUint64([]byte{1}, 500))
	require.NoError(t, db.Apply(ctx, &b, true))
	require.NoError(t, db.Close())
	s := open(t, dir)
	require.Equal(t, 1, s.Stats().Recovery.Clamped)
	offset, ok, err := s.Committed(ctx, "g", message.Queue{Topic: "t"})
	require.NoError(t, err)
	require.True(t, ok)
	require.EqualValues(t, 180, offset)
	checkOK(t, s)
	b.Reset()
	b.Set([]byte("p/topic/bad"), []byte{1, 2, 3})
	require.NoError(t, s.Meta().Apply(ctx, &b, true))
	r := must(s.Check(ctx))
	require.Len(t, r.Damages, 1)
	require.Equal(t, filepath.Join(dir, "ember/meta"), r.Damages[0].Path)
	b.Reset()
	b.Delete([]byte("p/topic/bad"))
	require.NoError(t, s.Meta().Apply(ctx, &b, true))
}
