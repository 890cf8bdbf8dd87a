package store_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// TestRepair damages a sound store in many ways. Afterwards Open and Check find
// nothing, whatever was changed lies in aside, every record that was not hit is
// read at its old offset, and a second repair has nothing to do.
func TestRepair(t *testing.T) {
	sound, at := makeSound(t)
	whole := must(store.OpenReadOnly(sound))
	defer func() { require.NoError(t, whole.Close()) }()
	const second = "commitlog/00000000000000065536"
	inRecord := func(i int, off int64) func(d *damaged) {
		return func(d *damaged) {
			name, base := d.record(i)
			d.flip(name, base+off)
		}
	}
	write := func(name string) func(d *damaged) {
		return func(d *damaged) { require.NoError(d.t, os.WriteFile(d.path(name), []byte("x"), 0o600)) }
	}
	inSegment := func(lo, hi int64) (lost []int) {
		for i, r := range at {
			if r.Position >= lo && r.Position < hi {
				lost = append(lost, i)
			}
		}
		return lost
	}
	for _, c := range []struct {
		name  string
		plant func(d *damaged)
		lost  []int // records
	}{
		{"first record", inRecord(0, 3), []int{0}},
		{"size", inRecord(5, 3), []int{5}},
		{"magic", inRecord(5, 5), []int{5}},
		{"body", inRecord(5, 300), []int{5}},
		{"three apart", func(d *damaged) { inRecord(5, 300)(d); inRecord(9, 35)(d); inRecord(100, 27)(d) }, []int{5, 9, 100}},
		{"two beside each other", func(d *damaged) { inRecord(5, 3)(d); inRecord(6, 3)(d) }, []int{5, 6}},
		{"swapped", func(d *damaged) {
			name, a := d.record(5)
			_, b := d.record(6)
			_, c := d.record(7)
			d.edit(name, a, func(p []byte) { copy(p, append(bytes.Clone(p[b-a:]), p[:b-a]...)) }, int(c-a))
		}, []int{5, 6}},
		{"last record of a segment, and the blank", func(d *damaged) {
			i := inSegment(0, checkSegment)
			name, off := d.record(i[len(i)-1])
			d.edit(name, off, func(p []byte) { clear(p) }, int(checkSegment-off))
		}, inSegment(0, checkSegment)[len(inSegment(0, checkSegment))-1:]},
		{"blank", func(d *damaged) {
			i := inSegment(0, checkSegment)
			last := i[len(i)-1]
			name, off := d.record(last)
			r := must(d.sound.Get(ctx, at[last].Position))
			d.edit(name, off+int64(r.Size()), func(p []byte) { p[5] ^= 1 }, 8)
		}, nil},
		{"last record", inRecord(179, 300), []int{179}},
		{"segment is missing", func(d *damaged) { require.NoError(d.t, os.Remove(d.path(second))) }, inSegment(checkSegment, 2*checkSegment)},
		{"first segment is missing", func(d *damaged) {
			require.NoError(d.t, os.Remove(d.path("commitlog/00000000000000000000")))
		}, inSegment(0, checkSegment)},
		{"segment is all zeros", func(d *damaged) {
			require.NoError(d.t, os.WriteFile(d.path(second), make([]byte, checkSegment), 0o600))
		}, inSegment(checkSegment, 2*checkSegment)},
		{"last segment is missing", func(d *damaged) {
			require.NoError(d.t, os.Remove(d.path("commitlog/00000000000000131072")))
		}, inSegment(2*checkSegment, 3*checkSegment)},
		{"segment is long", func(d *damaged) {
			b := must(os.ReadFile(d.path(second)))
			require.NoError(d.t, os.WriteFile(d.path(second), append(b, "tail"...), 0o600))
		}, nil},
		{"stray file in the log", write("commitlog/00000000000000065536.bak"), nil},
		{"stray file in ember", write("ember/notes"), nil},
		{"stray file beside the folders", write("notes"), nil},
		{"stray file among topics", write("consumequeue/notes"), nil},
		{"queue entries", func(d *damaged) {
			name, off := d.entry(3)
			d.edit(name, off, func(p []byte) { clear(p) }, 20)
		}, nil},
		{"queues image", func(d *damaged) { d.flip("ember/queues", 40) }, nil},
		{"synced", func(d *damaged) { d.flip("ember/synced", 20); d.flip("ember/synced", 512+20) }, nil},
		{"FORMAT", func(d *damaged) { d.flip("ember/FORMAT", 30) }, nil},
		{"foreign", write("ember/foreign"), nil},
		{"meta", func(d *damaged) {
			for _, name := range must(filepath.Glob(d.path("ember/meta/*"))) {
				if b := must(os.ReadFile(name)); strings.HasPrefix(filepath.Base(name), "MANIFEST") {
					clear(b)
					require.NoError(d.t, os.WriteFile(name, b, 0o600))
				}
			}
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := &damaged{t: t, dir: t.TempDir(), at: at, sound: whole}
			require.NoError(t, os.CopyFS(d.dir, os.DirFS(sound)))
			c.plant(d)
			before := readTree(t, d.dir)
			report, err := store.Repair(ctx, d.dir)
			require.NoError(t, err)
			require.Empty(t, report.Left)
			require.Equal(t, c.name == "meta", report.MetaLost)
			allKept(t, before, d.dir)
			readsAll(t, d.dir, at, c.lost)

			hash := dirHash(t, filepath.Join(d.dir, "commitlog"))
			again, err := store.Repair(ctx, d.dir)
			require.NoError(t, err)
			require.Empty(t, again)
			require.Equal(t, hash, dirHash(t, filepath.Join(d.dir, "commitlog")))
		})
	}
}

// readsAll reads the queue in full: what was lost is passed, the rest is where
// it was, and what comes next follows.
func readsAll(t testing.TB, dir string, at []message.Receipt, lost []int) {
	t.Helper()
	s := must(store.Open(dir))
	gone := map[int64]bool{}
	for _, i := range lost {
		gone[at[i].Offset] = true
	}
	start, end, err := s.Bounds(message.Queue{Topic: "t"})
	require.NoError(t, err)
	var got, want []string
	for next := start; next < end; {
		b, err := s.Read(ctx, message.Queue{Topic: "t"}, next, message.Limit{Count: 7}, nil)
		require.NoError(t, err)
		for _, r := range b.Records {
			got = append(got, fmt.Sprintf("%d %s", r.Offset(), r.Body()))
		}
		require.Greater(t, b.Next, next)
		next = b.Next
	}
	for i, r := range at {
		if !gone[r.Offset] {
			want = append(want, fmt.Sprintf("%d %0900d", r.Offset, i))
		}
	}
	require.Equal(t, want, got)
	r := put(t, s, &message.Message{Topic: "t", Body: []byte("behind")})
	require.GreaterOrEqual(t, r.Offset, end)
	checked(t, s)
	require.NoError(t, s.Close())
}

func readTree(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name := must(filepath.Rel(dir, path))
		out[name] = must(os.ReadFile(path))
		return nil
	}))
	return out
}

// allKept undoes the repair with what lies in aside and compares with what was
// there. What a writer changes in any opening is left out: the watermark,
// Pebble's files and checkpoint.
func allKept(t testing.TB, before map[string][]byte, dir string) {
	t.Helper()
	now := readTree(t, dir)
	const aside = "ember/aside/repair-1/"
	for name, kept := range now {
		rest, ok := strings.CutPrefix(name, aside)
		if !ok {
			continue
		}
		if segment, at, ok := strings.Cut(rest, "-"); ok && strings.HasPrefix(rest, "commitlog/") {
			off := must(strconv.Atoi(at))
			b := now[segment]
			if n := off + len(kept) - len(b); n > 0 {
				b = append(b, make([]byte, n)...)
			}
			copy(b[off:], kept)
			now[segment] = b
			continue
		}
		now[rest] = kept // of the folder of its name, in ember or beside it
		now["ember/"+rest] = kept
		now[strings.TrimPrefix(rest, filepath.Base(dir)+"/")] = kept
	}
	for name, b := range before {
		if strings.HasPrefix(name, "ember/meta/") || name == "ember/synced" || name == "checkpoint" {
			continue
		}
		require.True(t, bytes.Equal(bytes.TrimRight(b, "\x00"), bytes.TrimRight(now[name], "\x00")), "bytes of %s are gone", name)
	}
}
