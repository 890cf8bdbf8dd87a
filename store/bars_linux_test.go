package store_test

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

var (
	bars     = flag.Bool("bars", false, "measure the store against the machine's limits and print a table")
	barsReps = flag.Int("bars.reps", 5, "how often subject and limit are measured in turn")
	barsOnly = flag.String("bars.only", "", "measure rows whose name contains this")
	barsMsgs = flag.Int("bars.reopen", 5_000_000, "messages in the log that is opened after a kill")
)

// TestBars prints what the store does beside what the machine could do at most:
//
//	go test ./store -run '^TestBars$' -bars -v -timeout 30m
//
// Subject and limit take turns, because neither a disk nor a shared processor is
// the same a minute later; a figure is the median of all turns and a ratio is
// the median of the ratios of the turns. It asserts nothing about time.
func TestBars(t *testing.T) {
	if *barsChild != "" {
		t.Skip("this is a child")
	}
	if !*bars {
		t.Skip("run with -bars")
	}
	tab := &table{t: t}
	fmt.Printf("%-38s %14s %14s %7s  %s\n", "row", "measured", "limit", "ratio", "bar")
	measurePuts(tab)
	for _, procs := range []int{1, 2} {
		for _, busy := range []int{1, 4, 16} {
			tab.times(fmt.Sprintf("busyhost/%d/procs=%d p99 vs no yield", busy, procs), "us", "<= 1.5",
				func() float64 { return measureBusy(t, procs, busy) },
				func() float64 { return measureBusy(t, procs, busy, store.WithoutYield()) })
		}
	}
	tab.compare("queues/10000 vs queues/1", "ns", ">= 0.9",
		func() float64 { ns, _ := measureQueues(t, 10_000); return ns },
		func() float64 { ns, _ := measureQueues(t, 1); return ns })
	// So little memory for tails that all queues are written to their files.
	tab.single("queues/10000 open queue files", "", "<= 512",
		func() float64 { _, n := measureQueues(t, 10_000, store.WithTailMemory(1<<20)); return float64(n) })
	for _, size := range []int{100, 1 << 10} {
		tab.single(fmt.Sprintf("drain/%d/scan", size), "ns", "", func() float64 { return measureScan(t, size) })
	}
	tab.single("open/empty", "ms", "< 30", func() float64 { ms, _ := measureEmpty(t); return ms })
	tab.single("open/empty blocks", "MiB", "< 8", func() float64 { _, mib := measureEmpty(t); return mib })
	for _, d := range durabilities {
		measureReopen(tab, d.name)
	}
	measureRoll(tab)
	measureIdle(tab)
}

// measurePuts compares puts with writes of the same record bytes. A message of
// theirs is plain unless the row says keys.
func measurePuts(b *table) {
	t := b.t
	for _, size := range []int{100, 1 << 10} {
		bar := map[int]string{100: ">= 0.75", 1 << 10: ">= 0.88"}[size]
		for _, kind := range []limitKind{growing, reserved, rewritten} {
			b.compare(fmt.Sprintf("put/%d/1p/incache vs pwrite/%v", size, kind), "ns", bar,
				func() float64 { return measurePut(t, plainMessage("orders", size), 1, message.InCache, 300_000) },
				func() float64 { return measurePwrite(t, plainMessage("orders", size), kind, 300_000) })
			bar = ""
		}
		b.compare(fmt.Sprintf("put/%d/1p/incache/keys vs pwrite/growing", size), "ns", "",
			func() float64 { return measurePut(t, benchMessage("orders", size), 1, message.InCache, 300_000) },
			func() float64 { return measurePwrite(t, benchMessage("orders", size), growing, 300_000) })
	}
	for _, size := range []int{100, 1 << 10} {
		b.compare(fmt.Sprintf("put/%d/8p/incache vs pwrite/growing", size), "ns", ">= 1.5",
			func() float64 { return measurePut(t, plainMessage("orders", size), 8, message.InCache, 400_000) },
			func() float64 { return measurePwrite(t, plainMessage("orders", size), growing, 400_000) })
	}
	for _, size := range []int{100, 1 << 10} {
		b.compare(fmt.Sprintf("batch100/%d/1p/incache vs gathered", size), "ns", ">= 0.70",
			func() float64 { return measureBatch(t, plainMessage("orders", size), 400_000) },
			func() float64 { return measureGathered(t, plainMessage("orders", size), 400_000) })
	}
	for _, c := range []struct {
		producers, n int
		bar          string
	}{{1, 1000, ">= 0.95"}, {8, 6000, ">= 0.85"}, {64, 40_000, ">= 0.85"}} {
		b.compare(fmt.Sprintf("put/1024/%dp/ondisk vs ideal", c.producers), "ns", c.bar,
			func() float64 {
				return measurePut(t, plainMessage("orders", 1<<10), c.producers, message.OnDisk, c.n)
			},
			func() float64 { return measureIdeal(t, plainMessage("orders", 1<<10), c.producers, c.n) })
	}
}

// table prints rows as they are measured.
type table struct{ t *testing.T }

func (b *table) want(name string) bool { return strings.Contains(name, *barsOnly) }

// compare measures times; the ratio is limit by subject: 1 is the limit reached.
func (b *table) compare(name, unit, bar string, subject, limit func() float64) {
	b.row(name, unit, bar, subject, limit, func(s, l float64) float64 { return l / s })
}

// times is compare with the ratio the other way round: how much slower.
func (b *table) times(name, unit, bar string, subject, limit func() float64) {
	b.row(name, unit, bar, subject, limit, func(s, l float64) float64 { return s / l })
}

func (b *table) row(name, unit, bar string, subject, limit func() float64, ratio func(s, l float64) float64) {
	if !b.want(name) {
		return
	}
	var ss, ls, rs []float64
	for i := range *barsReps {
		var s, l float64
		if i%2 == 0 {
			s, l = subject(), limit()
		} else {
			l, s = limit(), subject()
		}
		ss, ls, rs = append(ss, s), append(ls, l), append(rs, ratio(s, l))
	}
	fmt.Printf("%-38s %11.4g %-2s %11.4g %-2s %7.2f  %-8s %.2f..%.2f\n", name, median(ss), unit, median(ls), unit,
		median(rs), bar, slices.Min(rs), slices.Max(rs))
}

func (b *table) single(name, unit, bar string, subject func() float64) {
	if !b.want(name) {
		return
	}
	var ss []float64
	for range *barsReps {
		ss = append(ss, subject())
	}
	b.print(name, unit, bar, ss)
}

func (b *table) print(name, unit, bar string, ss []float64) {
	fmt.Printf("%-38s %11.4g %-3s %14s %7s  %-8s %.4g..%.4g\n", name, median(ss), unit, "", "", bar, slices.Min(ss), slices.Max(ss))
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// tempDir is a folder that goes when the measurement ends, not the test: the
// figures need more room together than a disk may have.
func tempDir(t *testing.T) (dir string, remove func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "bars")
	require.NoError(t, err)
	warmMemory(t, filepath.Join(dir, "warm"))
	syscall.Sync() // what the measurement before left is not this one's to write
	return dir, func() { require.NoError(t, os.RemoveAll(dir)) }
}

// warmMemory makes the kernel use as much memory for a file as a measurement will
// and give it back. In a virtual machine memory that was never touched, or was
// returned to the host, costs several times what the write itself does, and who
// gets it is chance.
func warmMemory(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	require.NoError(t, err)
	b := make([]byte, 1<<20)
	for range 768 {
		_, err := f.Write(b)
		require.NoError(t, err)
	}
	require.NoError(t, f.Close())
	require.NoError(t, os.Remove(name))
}

func openIn(t *testing.T, opts ...store.Option) (s *store.Store, closeAll func()) {
	t.Helper()
	dir, remove := tempDir(t)
	s, err := store.Open(dir, opts...)
	require.NoError(t, err)
	return s, func() {
		require.NoError(t, s.Close())
		remove()
	}
}

func perOp(n int, f func()) float64 {
	runtime.GC()
	t0 := time.Now()
	f()
	return float64(time.Since(t0).Nanoseconds()) / float64(n)
}

func measurePut(t *testing.T, m *message.Message, producers int, d message.Durability, n int) float64 {
	s, end := openIn(t, store.WithDurability(d))
	defer end()
	put(t, s, m)
	return perOp(n, func() { produce(t, producers, n, putter(s, m)) })
}

func measurePwrite(t *testing.T, m *message.Message, kind limitKind, n int) float64 {
	dir, remove := tempDir(t)
	defer remove()
	r := newRawLog(t, filepath.Join(dir, "raw"), kind)
	defer r.close()
	rec := benchRecord(t, m)
	return perOp(n, func() {
		for range n {
			require.NoError(t, r.write(rec))
		}
	})
}

func measureBatch(t *testing.T, m *message.Message, n int) float64 {
	s, end := openIn(t, store.WithDurability(message.InCache))
	defer end()
	ms := make([]*message.Message, 100)
	for i := range ms {
		ms[i] = m
	}
	_, err := s.PutBatch(context.Background(), ms)
	require.NoError(t, err)
	return perOp(n, func() {
		for range n / len(ms) {
			_, err := s.PutBatch(context.Background(), ms)
			require.NoError(t, err)
		}
	})
}

func measureGathered(t *testing.T, m *message.Message, n int) float64 {
	dir, remove := tempDir(t)
	defer remove()
	r := newRawLog(t, filepath.Join(dir, "raw"), growing)
	defer r.close()
	rec := benchRecord(t, m)
	var buf []byte
	return perOp(n, func() {
		var err error
		for range n / 100 {
			buf, err = r.gathered(rec, len(m.Body), 100, buf)
			require.NoError(t, err)
		}
	})
}

func measureIdeal(t *testing.T, m *message.Message, producers, n int) float64 {
	dir, remove := tempDir(t)
	defer remove()
	it := &idealCommit{raw: newRawLog(t, filepath.Join(dir, "raw"), rewritten)}
	defer it.raw.close()
	rec := benchRecord(t, m)
	return perOp(n, func() { produce(t, producers, n, it.producer(rec)) })
}

// measureBusy is the p99 in microseconds of 8 producers' puts to disk beside
// goroutines of the host program that compute without a pause.
func measureBusy(t *testing.T, procs, busy int, opts ...store.Option) float64 {
	s, end := openIn(t, opts...)
	defer end()
	put(t, s, benchMessage("orders", 1<<10))
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
	var stop atomic.Bool
	var spin sync.WaitGroup
	for range busy {
		spin.Go(func() {
			for !stop.Load() {
			}
		})
	}
	const producers = 8
	var mu sync.Mutex
	var all []float64
	until := time.Now().Add(time.Second)
	var wg sync.WaitGroup
	for range producers {
		wg.Go(func() {
			var own []float64
			op := putter(s, benchMessage("orders", 1<<10))()
			for time.Now().Before(until) {
				t0 := time.Now()
				if err := op(); err != nil {
					t.Error(err)
					return
				}
				own = append(own, float64(time.Since(t0).Nanoseconds())/1e3)
			}
			mu.Lock()
			all = append(all, own...)
			mu.Unlock()
		})
	}
	wg.Wait()
	stop.Store(true)
	spin.Wait()
	slices.Sort(all)
	return all[len(all)*99/100]
}

// measureQueues spreads puts over so many queues until at least three checkpoints
// have been made. files is how many queue files were open at most.
func measureQueues(t *testing.T, queues int, opts ...store.Option) (ns float64, files int) {
	s, end := openIn(t, append(opts, store.WithDurability(message.InCache))...)
	defer end()
	const topics = 10
	ms := make([]*message.Message, queues)
	for i := range ms {
		topic := fmt.Sprint("topic-", i%topics)
		if i < topics {
			err := s.CreateTopic(context.Background(), store.Topic{Name: topic, WriteQueues: max(queues/topics, 1)})
			require.NoError(t, err)
		}
		ms[i] = benchMessage(topic, 1<<10)
		ms[i].QueueID = int32(i / topics)
	}
	for _, m := range ms {
		put(t, s, m)
	}
	before := s.Stats().Checkpoints
	n := 0
	runtime.GC()
	t0 := time.Now()
	for s.Stats().Checkpoints < before+3 || n < 300_000 {
		for range 50_000 {
			_, err := s.Put(context.Background(), ms[n%queues])
			require.NoError(t, err)
			n++
		}
		files = max(files, openFiles(t, "/consumequeue/"))
	}
	return float64(time.Since(t0).Nanoseconds()) / float64(n), files
}

// openFiles counts this process's descriptors of paths that contain part.
func openFiles(t *testing.T, part string) (n int) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	for _, e := range list {
		if p, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.Contains(p, part) {
			n++
		}
	}
	return n
}

func measureScan(t *testing.T, size int) float64 {
	s, end := openIn(t, store.WithDurability(message.InCache))
	defer end()
	const n = 500_000
	fill(t, s, "orders", size, n)
	q := message.Queue{Topic: "orders"}
	lend := func(*message.Record) error { return nil }
	return perOp(n, func() {
		for from := int64(0); from < n; {
			next, err := s.Scan(q, from, message.Limit{Count: 500}, nil, lend)
			require.NoError(t, err)
			from = next
		}
	})
}

func measureEmpty(t *testing.T) (ms, mib float64) {
	dir, remove := tempDir(t)
	defer remove()
	t0 := time.Now()
	s, err := store.Open(filepath.Join(dir, "new"))
	ms = float64(time.Since(t0).Microseconds()) / 1e3
	require.NoError(t, err)
	time.Sleep(100 * time.Millisecond) // what is prepared in the background counts too
	mib = float64(blocks(t, dir)) / (1 << 20)
	require.NoError(t, s.Close())
	return ms, mib
}

// blocks is how many bytes a folder takes on disk.
func blocks(tb testing.TB, dir string) (n int64) {
	tb.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		n += info.Sys().(*syscall.Stat_t).Blocks * 512
		return nil
	})
	require.NoError(tb, err)
	return n
}

// ---- children: a process that can be killed, and one that does nothing ------

var (
	barsChild = flag.String("bars.child", "", "what this process is for, when it is a child of TestBars")
	barsDir   = flag.String("bars.dir", "", "the child's store")
)

func child(t *testing.T, what, dir string, args ...string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0], append([]string{"-test.run=^TestBarsChild$", "-bars.child=" + what, "-bars.dir=" + dir}, args...)...)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	return cmd, bufio.NewScanner(out)
}

// line returns the child's next line that begins with prefix, without it.
func line(t *testing.T, sc *bufio.Scanner, prefix string) string {
	t.Helper()
	for sc.Scan() {
		if rest, ok := strings.CutPrefix(sc.Text(), prefix); ok {
			return rest
		}
	}
	t.Fatalf("the child ended without a line %q", prefix)
	return ""
}

func TestBarsChild(t *testing.T) {
	switch *barsChild {
	case "":
		t.Skip("not a child")
	case "incache", "ondisk":
		fillForever(t)
	case "idle":
		beIdle(t)
	}
}

// fillForever fills a store and goes on until it is killed.
func fillForever(t *testing.T) {
	d := message.OnDisk
	if *barsChild == "incache" {
		d = message.InCache
	}
	s, err := store.Open(*barsDir, store.WithDurability(d))
	require.NoError(t, err)
	for i := range 10 {
		fill(t, s, fmt.Sprint("topic-", i), 100, *barsMsgs/10)
	}
	fmt.Println("bars: full")
	for {
		for i := range 10 {
			put(t, s, benchMessage(fmt.Sprint("topic-", i), 100))
		}
	}
}

func measureReopen(b *table, durability string) {
	t := b.t
	name := fmt.Sprintf("reopen/kill/%s/%d", durability, *barsMsgs)
	if !b.want(name) {
		return
	}
	dir, remove := tempDir(t)
	defer remove()
	cmd, sc := child(t, durability, dir, fmt.Sprint("-bars.reopen=", *barsMsgs))
	line(t, sc, "bars: full")
	var ms, replayed, rewritten []float64
	for range *barsReps {
		time.Sleep(1300 * time.Millisecond) // somewhere between two checkpoints
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()
		s, err := store.Open(dir, store.WithDurability(map[string]message.Durability{"incache": message.InCache, "ondisk": message.OnDisk}[durability]))
		require.NoError(t, err)
		r := s.Stats().Recovery
		ms = append(ms, float64(r.Took.Microseconds())/1e3)
		replayed, rewritten = append(replayed, float64(r.Replayed)), append(rewritten, float64(r.Rewritten)/(1<<20))
		require.NoError(t, s.Close())
		cmd, sc = child(t, durability, dir, "-bars.reopen=500000")
		line(t, sc, "bars: full")
	}
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	b.print(name, "ms", "< 200", ms)
	b.print("  replayed records", "", "", replayed)
	b.print("  rewritten", "MiB", "", rewritten)
}

// measureRoll looks at single appends while segments roll, and at what a
// stop-the-world costs meanwhile and while a scan runs.
func measureRoll(b *table) {
	if b.want("roll") {
		var worst, typical []float64
		for range *barsReps {
			w, p := rolls(b.t)
			worst, typical = append(worst, w), append(typical, p)
		}
		b.print("roll/incache worst put around a roll", "ms", "", worst)
		b.print("roll/incache p99.9 of all puts", "ms", "", typical)
	}
	if b.want("stw") {
		var puts, scans []float64
		for range *barsReps {
			p, s := stops(b.t)
			puts, scans = append(puts, p), append(scans, s)
		}
		b.print("stw/put p99", "us", "", puts)
		b.print("stw/scan p99", "us", "", scans)
	}
}

func rolls(t *testing.T) (worst, p999 float64) {
	s, end := openIn(t, store.WithDurability(message.InCache), store.WithSegmentSize(8<<20))
	defer end()
	m := benchMessage("orders", 1<<10)
	var all []float64
	var last int64
	for range 100_000 {
		t0 := time.Now()
		r := put(t, s, m)
		d := float64(time.Since(t0).Nanoseconds()) / 1e6
		all = append(all, d)
		if r.Position>>23 != last {
			last = r.Position >> 23
			worst = max(worst, d)
		}
	}
	slices.Sort(all)
	return worst, all[len(all)*999/1000]
}

func stops(t *testing.T) (puts, scans float64) {
	s, end := openIn(t, store.WithDurability(message.InCache))
	defer end()
	q := message.Queue{Topic: "orders"}
	put(t, s, benchMessage(q.Topic, 1<<10))
	puts = pauses(t, putter(s, benchMessage("orders", 1<<10))())
	_, n, err := s.Bounds(q)
	require.NoError(t, err)
	from := int64(0)
	lend := func(*message.Record) error { return nil }
	scans = pauses(t, func() error {
		next, err := s.Scan(q, from, message.Limit{Count: 100}, nil, lend)
		if from = next; from == n {
			from = 0
		}
		return err
	})
	return puts, scans
}

// pauses is the p99 in microseconds of stopping the world while op runs.
func pauses(t *testing.T, op func() error) float64 {
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for !stop.Load() {
			if err := op(); err != nil {
				t.Error(err)
				return
			}
		}
	})
	var all []float64
	var ms runtime.MemStats
	for range 2000 {
		t0 := time.Now()
		runtime.ReadMemStats(&ms) // stops the world
		all = append(all, float64(time.Since(t0).Nanoseconds())/1e3)
		time.Sleep(200 * time.Microsecond)
	}
	stop.Store(true)
	wg.Wait()
	slices.Sort(all)
	return all[len(all)*99/100]
}

type idleReport struct {
	Goroutines, Pebble int
	Wakeups            float64
	Names              []string
}

// beIdle puts a little, waits for the checkpoint behind it and then watches
// itself do nothing.
func beIdle(t *testing.T) {
	before := runtime.NumGoroutine()
	s, err := store.Open(*barsDir, store.WithDurability(message.InCache), store.WithCheckpoint(200*time.Millisecond, 64<<20))
	require.NoError(t, err)
	for range 1000 {
		put(t, s, benchMessage("orders", 100))
	}
	require.NoError(t, s.Commit(context.Background(), "billing", map[message.Queue]int64{{Topic: "orders"}: 1}))
	time.Sleep(3 * time.Second)
	const watch = 10
	n0 := switches(t)
	time.Sleep(watch * time.Second)
	n1 := switches(t)
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	r := idleReport{Goroutines: runtime.NumGoroutine() - before, Wakeups: float64(n1-n0) / watch}
	for _, g := range strings.Split(string(buf), "\n\n") {
		created := g[strings.LastIndex(g, "created by ")+1:]
		switch {
		case strings.Contains(created, "pebble"):
			r.Pebble++
		case strings.Contains(created, "embermq/"):
			r.Names = append(r.Names, strings.SplitN(created, "\n", 2)[0])
		}
	}
	out, err := json.Marshal(r)
	require.NoError(t, err)
	fmt.Printf("bars: %s\n", out)
	require.NoError(t, s.Close())
}

// switches counts how often a thread of this process has gone to sleep.
func switches(t *testing.T) (n int64) {
	tasks, err := filepath.Glob("/proc/self/task/*/status")
	require.NoError(t, err)
	for _, p := range tasks {
		b, err := os.ReadFile(p)
		if err != nil {
			continue // a thread that has ended
		}
		for l := range strings.Lines(string(b)) {
			var k int64
			if _, err := fmt.Sscanf(l, "voluntary_ctxt_switches: %d", &k); err == nil {
				n += k
			}
		}
	}
	return n
}

func measureIdle(b *table) {
	if !b.want("idle") {
		return
	}
	var wakeups, ours, pebble []float64
	for range min(*barsReps, 3) {
		dir, remove := tempDir(b.t)
		cmd, sc := child(b.t, "idle", dir)
		var r idleReport
		require.NoError(b.t, json.Unmarshal([]byte(line(b.t, sc, "bars: ")), &r))
		_ = cmd.Wait()
		remove()
		wakeups, pebble = append(wakeups, r.Wakeups), append(pebble, float64(r.Pebble))
		ours = append(ours, float64(r.Goroutines-r.Pebble))
		b.t.Logf("idle goroutines: %q", r.Names)
	}
	b.print("idle/sleeps of threads a second", "", "0", wakeups)
	b.print("idle/goroutines, ours", "", "<= 6", ours)
	b.print("idle/goroutines, Pebble's", "", "", pebble)
}
