package schedule

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/internal/kv"
	"github.com/embermq/embermq/internal/kv/kvtest"
	"github.com/embermq/embermq/message"
)

var bigFlag = flag.Int("pending", 0, "TestPendingMemory with so many timers, such as 10000000")

// nullLog makes waiting records on the fly and keeps none, for sizes that no
// memory holds.
type nullLog struct {
	d      message.Draft
	m      message.Message
	ids    *message.IDs
	rng    *rand.Rand
	levels Levels
	end    int64
	offset int64
	now    time.Time
	spread time.Duration
	props  []message.Property
	r      message.Record
}

func newNullLog(spread time.Duration) *nullLog {
	l := &nullLog{rng: rand.New(rand.NewPCG(1, 2)), now: day, spread: spread}
	l.levels, _ = ParseLevels("")
	l.ids = message.NewIDs(func() time.Time { return l.now })
	l.m = message.Message{Topic: "orders", Tag: "a", Body: make([]byte, 200)}
	return l
}

// next is the record of one more timer. It is valid until the next call.
func (l *nullLog) next() *message.Record {
	l.m.Delay = time.Duration(l.rng.Int64N(int64(l.spread))) + time.Hour
	ro, err := l.levels.Route(&l.m, l.now, l.ids.Next, l.props[:0])
	if err == nil {
		err = l.d.Encode(&l.m, ro.Queue, &message.Envelope{Reserved: ro.Reserved})
	}
	if err == nil {
		l.props = ro.Reserved
		l.d.Stamp(l.end, l.offset, l.now.UnixMilli())
		l.end += int64(l.d.Size())
		l.offset++
		err = l.r.Reset(l.d.Bytes())
	}
	if err != nil {
		panic(err)
	}
	return &l.r
}

func (l *nullLog) Append(context.Context, *Group) error { return nil }
func (l *nullLog) read(int64, int, []byte, *message.Record) ([]byte, error) {
	return nil, message.ErrNotFound
}

func BenchmarkApplyPut(b *testing.B) {
	const n = 100_000
	l := newNullLog(24 * time.Hour)
	recs := make([]message.Record, n)
	for i := range recs {
		recs[i] = l.next().Clone()
	}
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		s, err := New(kvtest.New(), Options{Appender: l, Read: l.read, Manual: true, Clock: clock.NewManual(day)})
		require.NoError(b, err)
		b.StartTimer()
		for i := range recs {
			s.Apply(&recs[i])
		}
	}
	b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds(), "timers/s")
}

// BenchmarkApplyOther is what every ordinary message pays while timers wait.
func BenchmarkApplyOther(b *testing.B) {
	l := newNullLog(time.Hour)
	s, err := New(kvtest.New(), Options{Appender: l, Read: l.read, Manual: true})
	require.NoError(b, err)
	s.Apply(l.next())
	var d message.Draft
	require.NoError(b, d.Encode(&message.Message{Body: make([]byte, 100), Tag: "a", Keys: []string{"k1", "k2"}}, message.Queue{Topic: "t"}, nil))
	d.Stamp(1<<20, 0, 0)
	r, err := message.ParseRecord(d.Bytes())
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		s.Apply(&r)
	}
}

// BenchmarkFire is 100,000 timers due within two seconds of real time, fired by
// the goroutine.
func BenchmarkFire(b *testing.B) {
	for b.Loop() {
		const n, span = 100_000, 2 * time.Second
		log := newFakeLog(clock.Real{})
		r := &rig{t: b, disk: kvtest.New(), log: log, ids: message.NewIDs(nil), o: Options{}}
		require.NoError(b, r.open())
		log.recs = make([]rec, 0, 2*n)
		var late []time.Duration
		done := make(chan struct{})
		apply := log.apply
		log.apply = func(v *message.Record) {
			apply(v)
			if k, ok := ends(v); ok {
				if late = append(late, time.Since(time.UnixMilli(k.due))); len(late) == n {
					close(done)
				}
			}
		}
		start := time.Now()
		for i := range n {
			m := &message.Message{Topic: "t", Body: make([]byte, 200), DeliverAt: start.Add(1500*time.Millisecond + span*time.Duration(i)/n)}
			ro, err := r.Schedule.o.Levels.Route(m, time.Now(), r.ids.Next, nil)
			require.NoError(b, err)
			log.write(ro.Queue, m, ro.Reserved...)
		}
		put := time.Since(start)
		<-done
		slices.Sort(late)
		b.ReportMetric(float64(n)/put.Seconds(), "put/s")
		b.ReportMetric(float64(late[n/2].Microseconds())/1000, "late-p50-ms")
		b.ReportMetric(float64(late[n*99/100].Microseconds())/1000, "late-p99-ms")
		b.ReportMetric(float64(late[n-1].Microseconds())/1000, "late-max-ms")
		require.NoError(b, r.Close())
	}
}

// BenchmarkFireRate fires overdue timers as fast as the room can.
func BenchmarkFireRate(b *testing.B) {
	fired := 0
	for b.Loop() {
		b.StopTimer()
		const n = 100_000
		r := &rig{t: b, clock: clock.NewManual(day), disk: kvtest.New(), ids: message.NewIDs(nil)}
		r.log = newFakeLog(r.clock)
		r.o = Options{Manual: true, Clock: r.clock}
		require.NoError(b, r.open())
		for i := range n {
			r.after("t", "x", time.Duration(i+1)*10*time.Microsecond)
		}
		r.clock.Advance(time.Second)
		b.StartTimer()
		r.steps()
		fired += n
		require.Zero(b, r.Timers().Len())
	}
	b.ReportMetric(float64(fired)/b.Elapsed().Seconds(), "timers/s")
}

// TestPendingMemory puts very many timers on Pebble, saving when asked to, and
// opens again. It tells what that took.
func TestPendingMemory(t *testing.T) {
	if *bigFlag == 0 {
		t.Skip("no -pending")
	}
	files, err := fs.OS(t.TempDir())
	require.NoError(t, err)
	db, err := kv.Open(files, kv.Options{})
	require.NoError(t, err)
	l := newNullLog(40 * 24 * time.Hour)
	o := Options{Appender: l, Read: l.read, Manual: true, Clock: clock.NewManual(day)}
	s, err := New(db, o)
	require.NoError(t, err)
	require.NoError(t, s.Start(bg))
	runtime.GC()
	before := rssAnon(t)
	var most atomic.Int64
	saved := make(chan error, 1)
	saved <- nil
	start := time.Now()
	for i := range *bigFlag {
		s.Apply(l.next())
		if s.NeedsSave() {
			select {
			case err := <-saved:
				require.NoError(t, err)
				f := s.Freeze(message.Mark{Offset: l.end})
				go func() { saved <- f() }()
			default:
				if n := s.Stats().Unsaved; n > 2*DefaultDirty { // the store slows its producers
					err := <-saved
					require.NoError(t, err)
					saved <- nil
				}
			}
		}
		if i%10_000 == 0 {
			most.Store(max(most.Load(), rssAnon(t)))
		}
	}
	require.NoError(t, <-saved)
	require.NoError(t, s.Freeze(message.Mark{Offset: l.end})())
	put := time.Since(start)
	require.EqualValues(t, *bigFlag, s.Timers().Len())
	require.NoError(t, s.Close())
	require.NoError(t, db.Close())
	start = time.Now()
	db, err = kv.Open(files, kv.Options{})
	require.NoError(t, err)
	opened := time.Since(start)
	s, err = New(db, o)
	require.NoError(t, err)
	require.NoError(t, s.Start(bg))
	total := time.Since(start)
	require.EqualValues(t, *bigFlag, s.Timers().Len())
	t.Logf("%d timers: put and saved in %v (%.0f/s), RssAnon grew by at most %d MB; reopened in %v, of which Pebble %v; %d in memory",
		*bigFlag, put, float64(*bigFlag)/put.Seconds(), (most.Load()-before)>>20, total, opened, s.Stats().Memory)
	require.Less(t, (most.Load()-before)>>20, int64(150))
	require.Less(t, total, time.Second)
	require.NoError(t, s.Close())
	require.NoError(t, db.Close())
}

// rssAnon is the process's own memory, where the system tells it.
func rssAnon(t testing.TB) int64 {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip("no /proc")
	}
	for _, line := range splitLines(b) {
		var kb int64
		if _, err := fmt.Sscanf(line, "RssAnon: %d kB", &kb); err == nil {
			return kb << 10
		}
	}
	t.Skip("no RssAnon")
	return 0
}

func splitLines(b []byte) (out []string) {
	for len(b) > 0 {
		i := slices.Index(b, '\n')
		if i < 0 {
			i = len(b) - 1
		}
		out, b = append(out, string(b[:i])), b[i+1:]
	}
	return out
}
