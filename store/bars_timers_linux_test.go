package store_test

import (
	"bufio"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

var (
	timerBars    = flag.Bool("bars.timers", false, "measure delayed messages through the store")
	timerPending = flag.Int("bars.pending", 10_000_000, "timers of TestTimerBars/pending")
)

// TestTimerBars measures delayed messages of 200 bytes as a user meets them:
// put with Put, delivered when a reader behind a Watch has read them.
//
//	go test ./store -run '^TestTimerBars$/put' -bars.timers -v
//
// The rows are put, fire, pending and overdue. It asserts that every message comes
// once and not early, and nothing about speed.
func TestTimerBars(t *testing.T) {
	if !*timerBars {
		t.Skip("run with -bars.timers")
	}
	t.Run("put", putTimers)
	t.Run("fire", fireTimers)
	t.Run("pending", manyPending)
	t.Run("overdue", overdueTimers)
}

func delayed(body int) *message.Message {
	return &message.Message{Topic: "orders", Tag: "paid", Body: make([]byte, body)}
}

// putTimers puts a million timers, due at random times of the next day.
func putTimers(t *testing.T) {
	const n = 1_000_000
	for _, producers := range []int{1, 8} {
		for range *barsReps {
			s, end := openIn(t, store.WithDurability(message.InCache))
			var seed atomic.Uint64
			start := time.Now()
			produce(t, producers, n, func() func() error {
				m, rnd := delayed(200), rand.New(rand.NewPCG(1, seed.Add(1)))
				return func() error {
					m.Delay = time.Hour + time.Duration(rnd.Int64N(int64(24*time.Hour)))
					_, err := s.Put(ctx, m)
					return err
				}
			})
			took := time.Since(start)
			require.EqualValues(t, n, s.Timers().Len())
			t.Logf("put/%dp: %.0f timers/s", producers, n/took.Seconds())
			end()
		}
	}
}

// fireTimers has 50,000 messages due in each of ten seconds.
func fireTimers(t *testing.T) {
	const n, span, ahead = 500_000, 10 * time.Second, 6 * time.Second
	for range *barsReps {
		s, end := openIn(t, store.WithDurability(message.InCache), store.WithTopicQueues(4))
		l := watchLateness(t, s, n)
		begin := time.Now().Add(ahead)
		m := delayed(200)
		for i := range n {
			m.DeliverAt = begin.Add(span * time.Duration(i) / n)
			m.QueueID = int32(i % 4)
			putDue(t, s, m)
		}
		put := time.Until(begin)
		require.Positive(t, put, "the first was due before the last was put")
		l.wait()
		t.Logf("fire/50k a second: %s", l)
		end()
	}
}

// putDue writes into the body when the message is due.
func putDue(t *testing.T, s *store.Store, m *message.Message) {
	m.DeliverAt = m.DeliverAt.Truncate(time.Millisecond)
	copy(m.Body, fmt.Sprintf("%020d", m.DeliverAt.UnixMilli()))
	if _, err := s.Put(ctx, m); err != nil {
		t.Fatal(err)
	}
}

// lateness is a reader behind a Watch that notes how late each message is read.
type lateness struct {
	t    *testing.T
	late []time.Duration
	done sync.WaitGroup
}

// watchLateness reads n messages of the four queues of orders.
func watchLateness(t *testing.T, s *store.Store, n int) *lateness {
	l := &lateness{t: t, late: make([]time.Duration, 0, n)}
	if len(s.Topics()) == 0 {
		require.NoError(t, s.CreateTopic(ctx, store.Topic{Name: "orders"}))
	}
	var qs []message.Queue
	from := map[message.Queue]int64{}
	for id := range int32(4) {
		q := message.Queue{Topic: "orders", ID: id}
		_, end, err := s.Bounds(q)
		require.NoError(t, err)
		qs, from[q] = append(qs, q), end
	}
	w := s.Watch(nil, qs...)
	l.done.Go(func() {
		defer w.Close()
		for len(l.late) < n {
			q, err := w.Next(ctx)
			if err != nil {
				t.Error(err)
				return
			}
			for {
				next, err := s.Scan(q, from[q], message.Limit{Count: 1000}, nil, l.note)
				if err != nil {
					t.Error(err)
					return
				}
				if next == from[q] {
					break
				}
				from[q] = next
			}
		}
	})
	return l
}

func (l *lateness) note(r *message.Record) error {
	var due int64
	for _, c := range r.Body()[:20] {
		due = due*10 + int64(c-'0')
	}
	late := time.Since(time.UnixMilli(due))
	if late < 0 {
		return fmt.Errorf("%v early", -late)
	}
	l.late = append(l.late, late)
	return nil
}

func (l *lateness) wait() {
	l.done.Wait()
	require.Len(l.t, l.late, cap(l.late))
}

func (l *lateness) String() string {
	slices.Sort(l.late)
	n := len(l.late)
	ms := func(i int) float64 { return float64(l.late[i].Microseconds()) / 1e3 }
	return fmt.Sprintf("%d read, late p50 %.1f ms, p99 %.1f, p99.9 %.1f, max %.1f", n, ms(n/2), ms(n*99/100), ms(n*999/1000), ms(n-1))
}

// manyPending puts ten million timers, due within 40 days, and opens them again.
func manyPending(t *testing.T) {
	dir, remove := tempDir(t)
	defer remove()
	s, err := store.Open(dir, store.WithDurability(message.InCache))
	require.NoError(t, err)
	before := anonymous(t)
	most, stop := before, make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
				most = max(most, anonymous(t))
			}
		}
	})
	start := time.Now()
	m, rnd := delayed(200), rand.New(rand.NewPCG(1, 2))
	for range *timerPending {
		m.Delay = time.Hour + time.Duration(rnd.Int64N(int64(40*24*time.Hour)))
		if _, err := s.Put(ctx, m); err != nil {
			t.Fatal(err)
		}
	}
	took := time.Since(start)
	close(stop)
	wg.Wait()
	after := anonymous(t)
	require.EqualValues(t, *timerPending, s.Timers().Len())
	start = time.Now()
	require.NoError(t, s.Close())
	closed := time.Since(start)
	start = time.Now()
	s, err = store.Open(dir, store.WithDurability(message.InCache))
	require.NoError(t, err)
	opened := time.Since(start)
	require.EqualValues(t, *timerPending, s.Timers().Len())
	t.Logf("pending/%d: put %.0f/s; memory grew by %d MB at most, by %d MB at the end; closed in %v, opened in %v",
		*timerPending, float64(*timerPending)/took.Seconds(), (most-before)>>20, (after-before)>>20, closed, opened)
	require.NoError(t, s.Close())
}

// anonymous is the memory of the process that belongs to no file.
func anonymous(t *testing.T) int64 {
	f, err := os.Open("/proc/self/status")
	require.NoError(t, err)
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		var kb int64
		if _, err := fmt.Sscanf(sc.Text(), "RssAnon: %d kB", &kb); err == nil {
			return kb << 10
		}
	}
	t.Fatal("no RssAnon")
	return 0
}

// overdueTimers opens a store with a million overdue messages and at once puts
// new ones, a thousand a second.
func overdueTimers(t *testing.T) {
	const n, fresh = 1_000_000, 10_000
	dir, remove := tempDir(t)
	defer remove()
	s, err := store.Open(dir, store.WithDurability(message.InCache), store.WithTopicQueues(4))
	require.NoError(t, err)
	require.NoError(t, s.CreateTopic(ctx, store.Topic{Name: "orders"}))
	m := delayed(200)
	m.Topic = "backlog"
	due := time.Now().Add(12 * time.Second)
	for i := range n {
		m.DeliverAt = due.Add(time.Duration(i) * time.Microsecond)
		if _, err := s.Put(ctx, m); err != nil {
			t.Fatal(err)
		}
	}
	require.NoError(t, s.Close())
	require.Positive(t, time.Until(due), "they were due before all were put")
	time.Sleep(time.Until(due.Add(2 * time.Second)))
	runtime.GC()
	start := time.Now()
	s, err = store.Open(dir, store.WithDurability(message.InCache))
	require.NoError(t, err)
	opened := time.Since(start)
	l := watchLateness(t, s, fresh)
	m = delayed(200)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for i := range fresh {
		m.DeliverAt, m.QueueID = time.Now().Add(200*time.Millisecond), int32(i%4)
		putDue(t, s, m)
		<-tick.C
	}
	l.wait()
	left := s.Timers().Len()
	t.Logf("overdue/1M: opened in %v; new ones meanwhile: %s; %d overdue ones were left", opened, l, left)
	require.Positive(t, left, "the new ones met no backlog")
	for s.Timers().Len() > 0 {
		time.Sleep(10 * time.Millisecond)
	}
	t.Logf("overdue/1M: all delivered after %v", time.Since(start))
	require.NoError(t, s.Close())
}
