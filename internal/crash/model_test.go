package crash

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"testing"

	"github.com/embermq/embermq/internal/fs"
	"github.com/stretchr/testify/require"
)

// oracle is the rule of the model written a second time, the simple way: it
// keeps the whole file after every store since the last sync.
type oracle struct {
	disk  []byte
	after [][]byte // after[i] is the content after i+1 stores
}

func (o *oracle) now() []byte {
	if len(o.after) > 0 {
		return o.after[len(o.after)-1]
	}
	return o.disk
}

func (o *oracle) write(p []byte, off int) {
	b := bytes.Clone(o.now())
	if end := off + len(p); end > len(b) {
		b = append(b, make([]byte, end-len(b))...)
	}
	copy(b[off:], p)
	o.after = append(o.after, b)
}

func (o *oracle) sync() { o.disk, o.after = o.now(), nil }

// at is b[off:off+n] with zeros behind the end.
func at(b []byte, off, n int) []byte {
	p := make([]byte, n)
	if off < len(b) {
		copy(p, b[off:])
	}
	return p
}

// allows says whether a power cut may leave got.
func (o *oracle) allows(got []byte) bool {
	lengths := map[int]bool{len(o.disk): true}
	for _, b := range o.after {
		lengths[len(b)] = true
	}
	if !lengths[len(got)] {
		return false
	}
	for off := 0; off < len(got); off += pageSize {
		if !o.allowsPage(got, off) {
			return false
		}
	}
	return true
}

func (o *oracle) allowsPage(got []byte, off int) bool {
	for k := -1; k < len(o.after); k++ {
		now := o.disk
		if k >= 0 {
			now = o.after[k]
		}
		ok := true
		for s := off; s < off+pageSize && s < len(got); s += sectorSize {
			n := min(sectorSize, len(got)-s)
			sector := got[s : s+n]
			ok = ok && (bytes.Equal(sector, at(o.disk, s, n)) || bytes.Equal(sector, at(now, s, n)))
		}
		if ok {
			return true
		}
	}
	return false
}

// TestImagesObeyTheModel compares cuts of random workloads with the oracle, and
// demands that each kind of outcome was met.
func TestImagesObeyTheModel(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	var sum Outcome
	for range 150 {
		s := New(r.Uint64())
		s.SetGarbage(GarbageZero)
		var o oracle
		file := newFile(t, s.FS(), "x", "")
		for range 1 + r.IntN(25) {
			if r.IntN(8) == 0 {
				require.NoError(t, file.SyncData())
				o.sync()
				continue
			}
			p := make([]byte, 1+r.IntN(3000))
			for i := range p {
				p[i] = byte(1 + r.IntN(255))
			}
			off := len(o.now())
			if r.IntN(3) == 0 {
				off = r.IntN(20_000)
			}
			put(t, file, int64(off), string(p))
			o.write(p, off)
		}
		require.True(t, bytes.Equal(o.now(), []byte(get(t, s, "x"))), "seed %d", seed)
		for _, mode := range Modes {
			for sub := range uint64(4) {
				c := s.PowerCut(mode, sub)
				require.True(t, o.allows([]byte(get(t, c, "x"))), "seed %d: %s", seed, c.Name())
				out := c.Outcome()
				sum.PagesNew += out.PagesNew
				sum.PagesOld += out.PagesOld
				sum.PagesPrefix += out.PagesPrefix
				sum.PagesTorn += out.PagesTorn
				sum.SizesOld += out.SizesOld
				sum.SizesNew += out.SizesNew
			}
		}
		require.Equal(t, string(o.disk), get(t, s.PowerCut(KeepNone, 0), "x"), "seed %d", seed)
		require.True(t, bytes.Equal(o.now(), []byte(get(t, s.PowerCut(KeepAll, 0), "x"))), "seed %d", seed)
	}
	for _, n := range []int{sum.PagesNew, sum.PagesOld, sum.PagesPrefix, sum.PagesTorn, sum.SizesOld, sum.SizesNew} {
		require.Greater(t, n, 100, "%+v", sum)
	}
}

// A tiny log: frames of length, checksum and body in a file of full length.
const (
	logSegment = 16 << 10
	logRecords = 14
)

func appendFrame(t testing.TB, file fs.File, off int64, body []byte) int64 {
	t.Helper()
	b := make([]byte, 8, 8+len(body))
	binary.LittleEndian.PutUint32(b, uint32(len(body)))
	binary.LittleEndian.PutUint32(b[4:], crc32.ChecksumIEEE(body))
	b = append(b, body...)
	put(t, file, off, string(b))
	return off + int64(len(b))
}

// scan returns the bodies up to the first bad frame.
func scan(b []byte, checked bool) (bodies [][]byte) {
	for len(b) >= 8 {
		n := int(binary.LittleEndian.Uint32(b))
		if n == 0 || n > len(b)-8 {
			return bodies
		}
		body := b[8 : 8+n]
		if checked && crc32.ChecksumIEEE(body) != binary.LittleEndian.Uint32(b[4:]) {
			return bodies
		}
		bodies = append(bodies, body)
		b = b[8+n:]
	}
	return bodies
}

// tinyLog syncs the first half of its records and leaves the rest to fate.
func tinyLog(t testing.TB) (s *Sim, written [][]byte, synced int) {
	s = New(1)
	file := newFile(t, s.FS(), "log", "")
	require.NoError(t, file.Truncate(logSegment))
	require.NoError(t, file.Sync())
	newFile(t, s.FS(), "state", "state")
	newFile(t, s.FS(), "more", "more")
	off := int64(0)
	for i := range logRecords {
		body := bytes.Repeat([]byte{byte('a' + i)}, 700)
		written = append(written, body)
		off = appendFrame(t, file, off, body)
		if i == logRecords/2-1 {
			require.NoError(t, file.SyncData())
		}
	}
	return s, written, logRecords / 2
}

// TestTinyLog: with its checksum the log recovers a prefix that holds what was
// synced; without it a reader meets torn records. A simulator that cannot show
// the second proves nothing by the first.
func TestTinyLog(t *testing.T) {
	s, written, synced := tinyLog(t)
	torn, lengths := 0, map[int]int{}
	for _, mode := range Modes {
		for sub := range uint64(200) {
			c := s.PowerCut(mode, sub)
			b := []byte(get(t, c, "log"))
			got := scan(b, true)
			require.GreaterOrEqual(t, len(got), synced, c.Name())
			lengths[len(got)]++
			for i := range got {
				require.Equal(t, written[i], got[i], c.Name())
			}
			for i, body := range scan(b, false) {
				if i >= len(written) || !bytes.Equal(body, written[i]) {
					torn++
				}
			}
		}
	}
	require.Greater(t, torn, 50)
	require.Greater(t, len(lengths), 4)
}

// BenchmarkImages makes and reads power-cut images of the tiny log.
func BenchmarkImages(b *testing.B) {
	s, _, _ := tinyLog(b)
	for _, bench := range []struct {
		name string
		mode Mode
		read bool
	}{{"none", KeepNone, false}, {"all", KeepAll, false}, {"random", Random(0.5), false}, {"random+scan", Random(0.5), true}} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			buf := make([]byte, logSegment)
			for sub := uint64(0); b.Loop(); sub++ {
				c := s.PowerCut(bench.mode, sub)
				if bench.read {
					f, err := c.FS().Open("log", 0)
					if err != nil {
						b.Fatal(err)
					}
					_, _ = f.ReadAt(buf, 0)
					scan(buf, true)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "images/s")
		})
	}
	b.Run("kill", func(b *testing.B) {
		for b.Loop() {
			s.Kill()
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "images/s")
	})
}

// BenchmarkLife is a whole life: write and sync 20 records, die, cut, read.
func BenchmarkLife(b *testing.B) {
	base := New(1)
	file := newFile(b, base.FS(), "log", string(make([]byte, logSegment)))
	require.NoError(b, file.Close())
	body := make([]byte, 500)
	buf := make([]byte, logSegment)
	b.ReportAllocs()
	for sub := uint64(0); b.Loop(); sub++ {
		s := base.Kill()
		f, err := s.FS().Open("log", 0)
		if err != nil {
			b.Fatal(err)
		}
		for i := range 20 {
			_, _ = f.WriteAt(body, int64(i*500))
			if i%4 == 3 {
				_ = f.SyncData()
			}
		}
		f, _ = s.PowerCut(Random(0.5), sub).FS().Open("log", 0)
		_, _ = f.ReadAt(buf, 0)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lives/s")
}

// BenchmarkBigSparse cuts a log of 64 MiB segments of which little is written.
func BenchmarkBigSparse(b *testing.B) {
	s := New(1)
	file := newFile(b, s.FS(), "log", "")
	require.NoError(b, file.Truncate(64<<20))
	require.NoError(b, file.Sync())
	for i := range 20 {
		put(b, file, int64(i*500), "record")
	}
	for sub := uint64(0); b.Loop(); sub++ {
		s.PowerCut(Random(0.5), sub)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "images/s")
}
