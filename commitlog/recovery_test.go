package commitlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
)

// scene is a log with a history, made for damaging it.
type scene struct {
	t     *testing.T
	sim   *crash.Sim
	o     Options
	seq   *Sequence
	ends  []int64 // where each record ends
	texts []string
}

const (
	sceneSegment = 4 << 10
	sceneW       = 1 << 10
)

// newScene writes n records of about 200 bytes, synced up to synced of them, and
// kills the process, or closes when synced is n and clean is set.
func newScene(t *testing.T, n, synced int, clean bool) *scene {
	t.Helper()
	s := &scene{t: t, sim: crash.New(1), seq: NewSequence(0)}
	s.o = Options{SegmentSize: sceneSegment, MaxUnsynced: sceneW, OnDisk: true, Manual: true, Owner: 9, Found: 9, DiskReserve: -1}
	l := open(t, s.sim.FS(), s.o)
	for i := range n {
		if i == synced {
			require.NoError(t, l.SaveDurably())
		}
		g := put(t, &Group{OnDisk: i < synced}, s.seq, 1, 100, fmt.Sprint(i))
		require.NoError(t, l.Append(ctx, g))
		s.ends = append(s.ends, g.Entries[0].Mark().Offset)
		s.texts = append(s.texts, string(body(fmt.Sprintf("%d/0", i), 100)))
	}
	if clean {
		require.NoError(t, l.Close())
	}
	s.sim = s.sim.Kill()
	return s
}

func (s *scene) file(position int64) (fs.File, int64) {
	s.t.Helper()
	base := position / sceneSegment * sceneSegment
	f, err := s.sim.FS().Open("commitlog/"+segmentName(base), 0)
	require.NoError(s.t, err)
	return f, position - base
}

func (s *scene) write(position int64, p []byte) {
	s.t.Helper()
	f, off := s.file(position)
	_, err := f.WriteAt(p, off)
	require.NoError(s.t, err)
	require.NoError(s.t, f.Close())
}

// make gives the file at base a length.
func (s *scene) make(base, size int64) {
	s.t.Helper()
	f, err := s.sim.FS().Open("commitlog/"+segmentName(base), fs.Create)
	require.NoError(s.t, err)
	require.NoError(s.t, f.Truncate(size))
	require.NoError(s.t, f.Close())
}

func (s *scene) start(i int) int64 { return s.ends[i-1] }

func (s *scene) open(o Options) (*Log, error) {
	return Open(s.sim.FS().Sub("commitlog"), s.sim.FS().Sub("ember"), o)
}

// bytesOf is the whole tree, for proofs that nothing was changed.
func bytesOf(t *testing.T, root fs.FS) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, dir := range []string{"commitlog", "ember", "ember/aside"} {
		es, err := root.List(dir)
		if err != nil {
			continue
		}
		for _, e := range es {
			if !e.Dir {
				b, err := fs.Read(root, dir+"/"+e.Name)
				require.NoError(t, err)
				out[dir+"/"+e.Name] = string(b)
			}
		}
	}
	return out
}

// TestTornOrCorrupt is the table of what a bad place in the log means.
func TestTornOrCorrupt(t *testing.T) {
	flip := func(s *scene, position int64) {
		f, off := s.file(position)
		var b [1]byte
		_, err := f.ReadAt(b[:], off)
		require.NoError(t, err)
		b[0] ^= 0x40
		s.write(position, b[:])
		require.NoError(t, f.Close())
	}
	for _, c := range []struct {
		name    string
		clean   bool
		n       int
		synced  int
		damage  func(s *scene)
		kept    int // records, when it is a torn tail
		cut     bool
		corrupt string // reason, when it is corruption
	}{
		{name: "nothing", n: 12, synced: 8, damage: func(*scene) {}, kept: 12},
		{name: "clean", n: 12, synced: 12, clean: true, damage: func(*scene) {}, kept: 12},
		{name: "last record flipped", n: 12, synced: 8, damage: func(s *scene) { flip(s, s.start(11)+90) }, kept: 11, cut: true},
		{name: "last record's size flipped", n: 12, synced: 8, damage: func(s *scene) { flip(s, s.start(11)+3) }, kept: 11, cut: true},
		{name: "last record's magic flipped", n: 12, synced: 8, damage: func(s *scene) { flip(s, s.start(11)+5) }, kept: 11, cut: true},
		{name: "last record half zero", n: 12, synced: 8, damage: func(s *scene) { s.write(s.start(11)+50, zeros[:100]) }, kept: 11, cut: true},
		{name: "first unsynced record flipped", n: 12, synced: 8, damage: func(s *scene) { flip(s, s.start(8)+60) }, kept: 8, cut: true},
		{name: "first unsynced record zero", n: 12, synced: 8, damage: func(s *scene) { s.write(s.start(8), zeros[:s.ends[8]-s.start(8)]) }, kept: 8, cut: true},
		{name: "garbage behind the end", n: 12, synced: 8, damage: func(s *scene) { s.write(s.ends[11]+3, []byte("garbage")) }, kept: 12, cut: true},
		{name: "watermark's record flipped", n: 12, synced: 8, damage: func(s *scene) { flip(s, s.ends[7]-5) }, corrupt: "another record lies"},
		{name: "clean end's record flipped", n: 12, synced: 12, clean: true, damage: func(s *scene) { flip(s, s.ends[11]-5) }, corrupt: "another record lies"},
		{name: "clean, zeros for the last record", n: 12, synced: 12, clean: true, damage: func(s *scene) { s.write(s.start(11), zeros[:s.ends[11]-s.start(11)]) }, corrupt: "another record lies"},
		{name: "all files gone", n: 12, synced: 8, damage: func(s *scene) {
			require.NoError(t, s.sim.FS().Remove("commitlog/"+segmentName(0)))
		}, corrupt: "does not reach"},
		{name: "last file gone", n: 40, synced: 38, damage: func(s *scene) {
			base := s.ends[39] / sceneSegment * sceneSegment
			require.NoError(t, s.sim.FS().Remove("commitlog/"+segmentName(base)))
		}, corrupt: "does not reach"},
		{name: "first file gone in the middle", n: 60, synced: 58, damage: func(s *scene) {
			require.NoError(t, s.sim.FS().Remove("commitlog/"+segmentName(sceneSegment)))
		}, corrupt: "segment missing"},
		{name: "first file gone", n: 60, synced: 58, damage: func(s *scene) {
			require.NoError(t, s.sim.FS().Remove("commitlog/"+segmentName(0)))
		}, corrupt: "segment missing"},
		{name: "file too short", n: 12, synced: 8, damage: func(s *scene) {
			s.make(0, sceneSegment-1)
		}, corrupt: "bytes instead of"},
		{name: "stray file", n: 12, synced: 8, damage: func(s *scene) {
			require.NoError(t, fs.WriteFile(s.sim.FS(), "commitlog/.DS_Store", nil))
		}, corrupt: "stray file"},
		{name: "empty last file", n: 12, synced: 8, damage: func(s *scene) {
			s.make(sceneSegment, 0)
		}, kept: 12},
		{name: "empty file of full length", n: 12, synced: 8, damage: func(s *scene) {
			s.make(sceneSegment, sceneSegment)
		}, kept: 12},
		{name: "both watermarks torn", n: 12, synced: 8, damage: func(s *scene) {
			f, err := s.sim.FS().Open("ember/synced", 0)
			require.NoError(t, err)
			for _, off := range []int64{20, slotSize + 20} {
				_, err = f.WriteAt([]byte("x"), off)
				require.NoError(t, err)
			}
			require.NoError(t, f.Close())
		}, corrupt: "no valid watermark"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t, c.n, c.synced, c.clean)
			c.damage(s)
			before := bytesOf(t, s.sim.FS())
			if c.corrupt != "" {
				_, err := s.open(s.o)
				var bad *message.CorruptError
				require.ErrorAs(t, err, &bad)
				require.ErrorIs(t, err, message.ErrCorrupt)
				require.Contains(t, bad.Reason, c.corrupt)
				require.Equal(t, before, bytesOf(t, s.sim.FS()), "a refused log is left as it was")
				require.Zero(t, s.sim.OpenFiles())
				return
			}
			ro := s.o
			ro.ReadOnly = true
			l, err := s.open(ro)
			require.NoError(t, err)
			require.Equal(t, s.texts[:c.kept], texts(t, l))
			require.Equal(t, c.cut, l.Recovery().CutBytes > 0)
			require.NoError(t, l.Close())
			require.Equal(t, before, bytesOf(t, s.sim.FS()), "read-only writes nothing")

			l, err = s.open(s.o)
			require.NoError(t, err)
			r := l.Recovery()
			require.Equal(t, s.texts[:c.kept], texts(t, l))
			require.Equal(t, c.cut, r.CutBytes > 0)
			require.Equal(t, c.cut, r.Aside != "")
			require.Equal(t, c.clean, r.Clean)
			require.Equal(t, s.ends[c.kept-1], r.End)
			appendText(t, l, NewSequence(int64(c.kept)), true, "next")
			require.NoError(t, l.Close())
			l, err = s.open(s.o)
			require.NoError(t, err)
			require.Equal(t, append(s.texts[:c.kept:c.kept], "next/0"), texts(t, l))
			require.Empty(t, l.Recovery().Aside)
			require.NoError(t, l.Close())
			require.Zero(t, s.sim.OpenFiles())
		})
	}
}

// TestSyncedRot: a record that was synced is damaged, and the saved watermark is
// older than it, as after a power cut. A valid record W behind it tells.
func TestSyncedRot(t *testing.T) {
	s := newScene(t, 30, 30, false)
	old := crash.New(1) // a watermark from the very start
	l := open(t, old.FS(), s.o)
	_ = l
	b, err := fs.Read(old.FS(), "ember/synced")
	require.NoError(t, err)
	require.NoError(t, fs.WriteFile(s.sim.FS(), "ember/synced", b))
	s.write(s.start(3)+40, []byte("rot"))
	before := bytesOf(t, s.sim.FS())
	_, err = s.open(s.o)
	var bad *message.CorruptError
	require.ErrorAs(t, err, &bad)
	require.Equal(t, s.start(3), bad.Offset)
	require.Contains(t, bad.Reason, "a valid record follows")
	require.Equal(t, before, bytesOf(t, s.sim.FS()))

	// Read-only: everything but the one record.
	ro := s.o
	ro.ReadOnly = true
	l, err = s.open(ro)
	require.NoError(t, err)
	require.Len(t, l.Recovery().Damage, 1)
	var got []string
	var damages []error
	require.NoError(t, l.Walk(ctx, l.Visible(), func(r *message.Record) { got = append(got, string(r.Body())) },
		func(err error) { damages = append(damages, err) }))
	require.Equal(t, append(append([]string(nil), s.texts[:3]...), s.texts[4:]...), got)
	require.Len(t, damages, 1)
	end, err := l.Scan(0, l.Visible(), func(*message.Record) error { return nil })
	require.ErrorAs(t, err, &bad)
	require.Equal(t, s.start(3), end)
	next, ok, err := l.Resume(end + 1)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, s.ends[3], next)
	require.NoError(t, l.Close())
}

// TestAside reads back what recovery put aside.
func TestAside(t *testing.T) {
	s := newScene(t, 12, 8, false)
	at := s.ends[11]
	s.write(at, []byte("left over"))
	l, err := s.open(s.o)
	require.NoError(t, err)
	name := l.Recovery().Aside
	require.Equal(t, "aside/commitlog-"+segmentName(at), name)
	b, err := fs.Read(s.sim.FS(), "ember/"+name)
	require.NoError(t, err)
	require.Equal(t, []byte("left over"), bytes.TrimRight(b[16:], "\x00"))
	require.NoError(t, l.Abandon())
	s.write(at, []byte("left over"))
	l, err = s.open(s.o)
	require.NoError(t, err)
	require.Equal(t, name+"-2", l.Recovery().Aside)
	f, off := s.file(at)
	tail := make([]byte, sceneSegment-off)
	_, err = f.ReadAt(tail, off)
	require.True(t, err == nil || err == io.EOF)
	require.True(t, isZero(tail))
	require.NoError(t, l.Close())
}

// TestHalfGroup cuts a group that a crash left in part.
func TestHalfGroup(t *testing.T) {
	s := newScene(t, 3, 3, false)
	l, err := s.open(s.o)
	require.NoError(t, err)
	g := put(t, &Group{}, s.seq, 3, 50, "g")
	require.NoError(t, l.Append(ctx, g))
	s.sim = s.sim.Kill()
	last := g.Entries[2].Position
	s.write(last, zeros[:g.Entries[2].Draft.Size()])
	l, err = s.open(s.o)
	require.NoError(t, err)
	require.Equal(t, s.texts, texts(t, l))
	require.Equal(t, 2, l.Recovery().CutRecords)
	require.Equal(t, s.ends[2], l.Recovery().End)
	require.NoError(t, l.Close())
}

// foreign turns the record at position into what another program would write: no
// checksum of ours.
func foreign(t *testing.T, s *scene, position int64, size int) {
	t.Helper()
	f, off := s.file(position)
	b := make([]byte, size)
	_, err := f.ReadAt(b, off)
	require.NoError(t, err)
	copy(b[len(b)-sumSize:], "__OTHER#\x010123456789\x02")
	s.write(position, b)
	require.NoError(t, f.Close())
}

func TestAnotherProgramWrote(t *testing.T) {
	for _, c := range []struct {
		name  string
		clean bool
		found uint64
		taken bool
	}{
		{"behind a clean end", true, 9, true},
		{"abort is missing", false, 0, true},
		{"abort is another's", false, 4, true},
		{"abort is ours", false, 9, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t, 8, 8, c.clean)
			// Its records are those of a log that went on, without checksums.
			l, err := s.open(s.o)
			require.NoError(t, err)
			slots, err := fs.Read(s.sim.FS(), "ember/synced")
			require.NoError(t, err)
			if c.clean {
				var sl slot
				sl, _, err = readSlots(s.sim.FS().Sub("ember"))
				require.NoError(t, err)
				sl.clean = true
				sl.sequence++
				sl.encode(slots[sl.sequence%2*slotSize:])
			}
			g := put(t, &Group{}, s.seq, 1, 100, "java")
			require.NoError(t, l.Append(ctx, g))
			h := put(t, &Group{}, s.seq, 1, 100, "java too")
			require.NoError(t, l.Append(ctx, h))
			s.sim = s.sim.Kill()
			require.NoError(t, fs.WriteFile(s.sim.FS(), "ember/synced", slots))
			for _, e := range []*Entry{&g.Entries[0], &h.Entries[0]} {
				foreign(t, s, e.Position, e.Draft.Size())
			}
			o := s.o
			o.Found = c.found
			l, err = s.open(o)
			require.NoError(t, err)
			rec := l.Recovery()
			if !c.taken {
				require.Equal(t, s.texts, texts(t, l))
				require.Empty(t, rec.Foreign)
				require.Positive(t, rec.CutBytes)
				return
			}
			want := append(s.texts[:8:8], string(body("java/0", 100)), string(body("java too/0", 100)))
			require.Equal(t, want, texts(t, l))
			end := h.Entries[0].Mark().Offset
			require.Equal(t, []Range{{s.ends[7], end}}, rec.Foreign)
			require.False(t, rec.Clean)
			m := l.LastMark()
			require.Equal(t, end, m.Offset)
			ok, err := l.MarkMatches(m)
			require.NoError(t, err)
			require.True(t, ok)
			ok, err = l.MarkMatches(message.Mark{Offset: m.Offset, Fingerprint: m.Fingerprint + 1})
			require.NoError(t, err)
			require.False(t, ok)
			// What we append behind it is ours again, and the range is known by now.
			appendText(t, l, s.seq, true, "ours")
			require.NoError(t, l.Close())
			o.Foreign, o.Found = rec.Foreign, 9
			l, err = s.open(o)
			require.NoError(t, err)
			require.Equal(t, append(want, "ours/0"), texts(t, l))
			require.True(t, l.Recovery().Clean)
			require.NoError(t, l.Close())
		})
	}
}

// TestImport opens a directory without a watermark.
func TestImport(t *testing.T) {
	s := newScene(t, 20, 20, true)
	for i := range 20 {
		start := int64(0)
		if i > 0 {
			start = s.start(i)
		}
		if start/sceneSegment != s.ends[i]/sceneSegment {
			start = s.ends[i] / sceneSegment * sceneSegment
		}
		foreign(t, s, start, int(s.ends[i]-start))
	}
	require.NoError(t, fs.RemoveAll(s.sim.FS(), "ember"))
	require.NoError(t, s.sim.FS().MkdirAll("ember"))
	s.o.Found = 0
	l, err := s.open(s.o)
	require.NoError(t, err)
	require.Equal(t, s.texts, texts(t, l))
	require.True(t, l.Recovery().Import)
	require.Equal(t, []Range{{0, s.ends[19]}}, l.Recovery().Foreign)
	require.NoError(t, l.Close())
}

// TestImportTornName: the last record has no properties, and of its topic's name
// only a part reached the disk. All lengths and the body's checksum fit.
func TestImportTornName(t *testing.T) {
	const topic = "orders"
	for kept := range len(topic) + 1 {
		t.Run(fmt.Sprintf("%d bytes of the name", kept), func(t *testing.T) {
			s := newScene(t, 5, 5, true)
			start, end := s.start(4), s.ends[4]
			f, off := s.file(start)
			b := make([]byte, end-start)
			_, err := f.ReadAt(b, off)
			require.NoError(t, err)
			require.NoError(t, f.Close())
			r, err := message.ParseRecord(b)
			require.NoError(t, err)
			b = b[:len(b)-len(r.PropertyBytes())]
			binary.BigEndian.PutUint32(b, uint32(len(b)))
			name := b[len(b)-2-len(topic):]
			clear(name[kept:])
			clear(name[len(topic):]) // the length of the properties
			s.write(start, make([]byte, end-start))
			s.write(start, b)
			require.NoError(t, fs.RemoveAll(s.sim.FS(), "ember"))
			require.NoError(t, s.sim.FS().MkdirAll("ember"))
			s.o.Import = true
			s.o.Found = 0
			l, err := s.open(s.o)
			require.NoError(t, err)
			if kept == len(topic) {
				require.Equal(t, s.texts, texts(t, l))
				require.Equal(t, start+int64(len(b)), l.Recovery().End)
				require.Zero(t, l.Recovery().CutBytes)
			} else {
				require.Equal(t, s.texts[:4], texts(t, l))
				require.Equal(t, start, l.Recovery().End)
				require.Positive(t, l.Recovery().CutBytes)
			}
			require.NoError(t, l.Close())
		})
	}
}

func TestAcceptLog(t *testing.T) {
	s := newScene(t, 40, 40, true)
	base := s.ends[39] / sceneSegment * sceneSegment
	require.NoError(t, s.sim.FS().Remove("commitlog/"+segmentName(base)))
	_, err := s.open(s.o)
	require.ErrorIs(t, err, message.ErrCorrupt)
	s.o.AcceptLog = true
	l, err := s.open(s.o)
	require.NoError(t, err)
	require.True(t, l.Recovery().Accepted)
	got := texts(t, l)
	require.Equal(t, s.texts[:len(got)], got)
	require.Positive(t, len(got))
	appendText(t, l, NewSequence(int64(len(got))), true, "next")
	require.NoError(t, l.Close())
	s.o.AcceptLog = false
	l, err = s.open(s.o)
	require.NoError(t, err)
	require.True(t, l.Recovery().Clean)
	require.NoError(t, l.Close())
}

// TestFirstSegment tells a first file that is lost from one that has expired.
func TestFirstSegment(t *testing.T) {
	s := newScene(t, 80, 80, true)
	segment := func(i int64) string { return "commitlog/" + segmentName(i*sceneSegment) }
	one, err := fs.Read(s.sim.FS(), segment(1))
	require.NoError(t, err)
	l, err := s.open(s.o)
	require.NoError(t, err)
	removed, err := l.Expire(2 * sceneSegment)
	require.NoError(t, err)
	require.Len(t, removed, 2)
	killed := s.sim.Kill()
	require.NoError(t, l.Close())

	t.Run("expired", func(t *testing.T) {
		l, err := s.open(s.o)
		require.NoError(t, err)
		require.EqualValues(t, 2*sceneSegment, l.Start())
		require.NoError(t, l.Close())
	})
	t.Run("expiry died half way", func(t *testing.T) {
		require.NoError(t, fs.WriteFile(s.sim.FS(), segment(1), one))
		l, err := s.open(s.o)
		require.NoError(t, err)
		require.EqualValues(t, sceneSegment, l.Start())
		require.NoError(t, l.Close())
		require.NoError(t, s.sim.FS().Remove(segment(1)))
	})
	t.Run("either slot of the watermark", func(t *testing.T) {
		sim := s.sim
		for off := int64(0); off < 2*slotSize; off += slotSize {
			s.sim = killed.Kill()
			f, err := s.sim.FS().Open("ember/synced", 0)
			require.NoError(t, err)
			_, err = f.WriteAt([]byte("x"), off+20)
			require.NoError(t, err)
			require.NoError(t, f.Close())
			l, err := s.open(s.o)
			require.NoError(t, err)
			require.NoError(t, l.Close())
		}
		s.sim = sim
	})
	t.Run("lost", func(t *testing.T) {
		require.NoError(t, s.sim.FS().Remove(segment(2)))
		before := bytesOf(t, s.sim.FS())
		_, err := s.open(s.o)
		var bad *message.CorruptError
		require.ErrorAs(t, err, &bad)
		require.Equal(t, s.sim.FS().Path(segment(2)), bad.Path)
		require.Equal(t, "segment missing", bad.Reason)

		ro := s.o
		ro.ReadOnly = true
		l, err := s.open(ro)
		require.NoError(t, err)
		require.EqualValues(t, 2*sceneSegment, l.Start())
		require.Equal(t, []error{bad}, l.Recovery().Damage)
		_, err = l.Scan(l.Start(), l.Visible(), func(*message.Record) error { return nil })
		require.ErrorIs(t, err, message.ErrCorrupt)
		require.NoError(t, l.Close())
		require.Equal(t, before, bytesOf(t, s.sim.FS()))

		s.o.AcceptLog = true
		l, err = s.open(s.o)
		require.NoError(t, err)
		require.True(t, l.Recovery().Accepted)
		require.EqualValues(t, 3*sceneSegment, l.Start())
		require.NoError(t, l.Close())
		s.o.AcceptLog = false
		l, err = s.open(s.o)
		require.NoError(t, err)
		require.NoError(t, l.Close())
	})
}

func TestReadOnlyBesideWriter(t *testing.T) {
	s := newScene(t, 12, 8, false)
	before := bytesOf(t, s.sim.FS())
	ro := s.o
	ro.ReadOnly, ro.LiveWriter = true, true
	l, err := s.open(ro)
	require.NoError(t, err)
	require.Equal(t, s.texts[:8], texts(t, l))
	require.ErrorIs(t, l.Append(ctx, put(t, &Group{}, s.seq, 1, 1, "x")), message.ErrReadOnly)
	_, err = l.Expire(100)
	require.ErrorIs(t, err, message.ErrReadOnly)
	require.NoError(t, l.Close())
	require.Equal(t, before, bytesOf(t, s.sim.FS()))
}
