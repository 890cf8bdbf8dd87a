package commitlog

import (
	"errors"
	"flag"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/message"
)

var rotAll = flag.Bool("rot.all", false, "TestBitRot flips every bit of a 64 KiB log and cuts it at every byte; about a minute")

// rotLog is a log of 64 KiB and all that is known about it.
type rotLog struct {
	sim    *crash.Sim
	o      Options
	files  []string
	starts []int64 // of each record
	sizes  []int
	texts  []string
	synced int64 // what the watermark file says
}

const rotSegment = 8 << 10

// newRotLog fills 64 KiB. A log that is not clean has a tail behind the watermark.
func newRotLog(t *testing.T, clean bool) *rotLog {
	t.Helper()
	r := &rotLog{sim: crash.New(1), o: Options{SegmentSize: rotSegment, MaxUnsynced: 2 << 10, Manual: true, Owner: 9, Found: 9, DiskReserve: -1}}
	l := open(t, r.sim.FS(), r.o)
	seq := NewSequence(0)
	for i := 0; l.Appended() < 64<<10-400; i++ {
		g := put(t, &Group{OnDisk: clean || l.Appended() < 63<<10}, seq, 1, 100+i%300, fmt.Sprint(i))
		require.NoError(t, l.Append(ctx, g))
		e := &g.Entries[0]
		end := e.Mark().Offset
		r.starts = append(r.starts, end-int64(e.Draft.Size()))
		r.sizes = append(r.sizes, e.Draft.Size())
		r.texts = append(r.texts, string(body(fmt.Sprintf("%d/0", i), 100+i%300)))
		if g.OnDisk {
			require.NoError(t, l.SaveDurably())
			r.synced, r.o.Verify = end, e.Mark()
		}
	}
	if clean {
		require.NoError(t, l.Close())
		r.o.Found = 0
	}
	r.sim = r.sim.Kill()
	first := 0
	if !clean {
		first = 7 // the rest is as in one that is closed
	}
	for i := first; i < 8; i++ {
		r.files = append(r.files, "commitlog/"+segmentName(int64(i)*rotSegment))
	}
	return r
}

// look opens a damaged copy and reads every record. What is read must be right or a
// typed error, and the log must not end in front of its watermark.
func (r *rotLog) look(sim *crash.Sim) (class string, err error) {
	root := sim.FS()
	l, err := Open(root.Sub("commitlog"), root.Sub("ember"), r.o)
	var bad *message.CorruptError
	if errors.As(err, &bad) {
		return "Open says so", nil
	}
	if err != nil {
		return "", fmt.Errorf("open: %T: %w", err, err)
	}
	defer l.Abandon()
	if l.Visible() < r.synced {
		return "", fmt.Errorf("the log ends at %d, in front of its watermark %d", l.Visible(), r.synced)
	}
	class = "nothing hit"
	if l.Recovery().CutBytes > 0 || l.Visible() < r.starts[len(r.starts)-1]+int64(r.sizes[len(r.sizes)-1]) {
		class = "cut behind the watermark"
	}
	var rec message.Record
	for i, at := range r.starts {
		if at >= l.Visible() {
			break
		}
		switch _, err := l.Record(at, r.sizes[i], nil, &rec); {
		case errors.As(err, &bad):
			class = "a read says so"
		case err != nil:
			return "", fmt.Errorf("record %d: %T: %w", i, err, err)
		case string(rec.Body()) != r.texts[i] || rec.Position() != at:
			return "", fmt.Errorf("record %d is %.40q, and not %.40q", i, rec.Body(), r.texts[i])
		}
	}
	n := 0
	_, err = l.Scan(0, l.Visible(), func(got *message.Record) error {
		if string(got.Body()) != r.texts[n] {
			return fmt.Errorf("scanned record %d is %.40q", n, got.Body())
		}
		n++
		return nil
	})
	if err != nil && !errors.As(err, &bad) {
		return "", fmt.Errorf("scan: %w", err)
	}
	if err == nil && n < len(r.starts) && class != "cut behind the watermark" {
		return "", fmt.Errorf("a scan ends after %d of %d records and says nothing", n, len(r.starts))
	}
	return class, nil
}

// rotCase is one damage.
type rotCase struct {
	name string
	do   func(sim *crash.Sim) error
}

// TestBitRot flips bits, cuts files, and zeroes, swaps and ages sectors of a log of
// 64 KiB and of its watermark.
func TestBitRot(t *testing.T) {
	for _, clean := range []bool{true, false} {
		t.Run(fmt.Sprintf("closed=%t", clean), func(t *testing.T) {
			r := newRotLog(t, clean)
			cases := make(chan rotCase, 64)
			go func() {
				defer close(cases)
				r.flips(cases)
				r.cuts(cases)
				r.sectors(cases)
			}()
			count := map[string]int{}
			var mu sync.Mutex
			var wg sync.WaitGroup
			var failed atomic.Bool
			for range runtime.GOMAXPROCS(0) {
				wg.Go(func() {
					for c := range cases {
						if failed.Load() {
							continue
						}
						mu.Lock()
						sim := r.sim.Kill()
						mu.Unlock()
						class, err := "", c.do(sim)
						if err == nil {
							class, err = r.look(sim)
						}
						mu.Lock()
						count[class]++
						if err != nil && !failed.Swap(true) {
							t.Errorf("%s: %v", c.name, err)
						}
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			report(t, count)
			for _, class := range []string{"nothing hit", "Open says so", "a read says so"} {
				require.Positive(t, count[class], class)
			}
		})
	}
}

func (r *rotLog) step(n int) int {
	if *rotAll {
		return 1
	}
	return n
}

// flips are single bits.
func (r *rotLog) flips(to chan<- rotCase) {
	for _, name := range append([]string{"ember/synced"}, r.files...) {
		size := rotSegment
		step := r.step(61)
		if name == "ember/synced" {
			size, step = 1024, r.step(7)
		}
		for bit := 0; bit < 8*size; bit += step {
			to <- rotCase{fmt.Sprintf("bit %d of %s", bit, name), func(sim *crash.Sim) error { return sim.FlipBit(name, int64(bit/8), bit%8) }}
		}
	}
}

// cuts are files that are too short.
func (r *rotLog) cuts(to chan<- rotCase) {
	for _, name := range r.files {
		for size := 0; size < rotSegment; size += r.step(67) {
			to <- rotCase{fmt.Sprintf("%s cut to %d", name, size), func(sim *crash.Sim) error {
				f, err := sim.FS().Open(name, 0)
				if err != nil {
					return err
				}
				return errors.Join(f.Truncate(int64(size)), f.Sync(), f.Close())
			}}
		}
	}
}

// sectors are zeroed, as they were before, or in each other's place.
func (r *rotLog) sectors(to chan<- rotCase) {
	for _, name := range r.files {
		for at := int64(0); at < rotSegment; at += sector {
			to <- rotCase{fmt.Sprintf("sector at %d of %s zeroed", at, name), func(sim *crash.Sim) error { return sim.ZeroSector(name, at) }}
			to <- rotCase{fmt.Sprintf("sector at %d of %s stale", at, name), func(sim *crash.Sim) error { return sim.StaleSector(name, at) }}
			for other := int64(0); other < at; other += sector * int64(r.step(3)) {
				to <- rotCase{fmt.Sprintf("sectors at %d and %d of %s swapped", at, other, name), func(sim *crash.Sim) error { return sim.SwapSectors(name, at, other) }}
			}
		}
	}
}
