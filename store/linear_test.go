package store_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/internal/env"
	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

var (
	linearRuns = flag.Int("linear.schedules", 4, "schedules of TestI16Linearizable")
	linearOps  = flag.Int("linear.ops", 10_000, "calls in each schedule")
)

const linearCallers = 8

// TestI16Linearizable lets eight callers put, put with a key that others use too,
// read and ask for ends, all at once, and then looks for an order in which one caller
// alone would have got the same answers.
//
// A queue is only ever appended to, so its state is its length, and every answer
// tells a length: a put made it offset+1, a read found it. So the order exists exactly when
// no call that began after another had returned tells a smaller length (or the
// same one, if it is a put); that is checked in one pass for each queue.
func TestI16Linearizable(t *testing.T) {
	calls := 0
	for seed := range uint64(*linearRuns) {
		h := runSchedule(t, seed)
		for q, ops := range h.byQueue() {
			if err := linearizable(ops); err != nil {
				t.Fatalf("schedule %d, %s: %v", seed, q, err)
			}
			calls += len(ops)
		}
	}
	t.Logf("%d schedules, %d answers", *linearRuns, calls)
	require.GreaterOrEqual(t, calls, *linearRuns**linearOps/2, "too little was done")
}

// op is an answer. Times are ticks of one counter, so they order all calls.
type op struct {
	q          message.Queue
	begun, end int64
	length     int64 // of the queue, after a put, or as it was seen
	put        bool
	atLeast    bool // the queue may have been longer
	key        string
	what       string
}

// linearizable looks for two calls in the wrong order.
func linearizable(ops []op) error {
	slices.SortFunc(ops, func(a, b op) int { return int(a.begun - b.begun) })
	byEnd := slices.Clone(ops)
	slices.SortFunc(byEnd, func(a, b op) int { return int(a.end - b.end) })
	var longest op // told by the calls that returned before this one began
	next := 0
	seen := map[int64]bool{}
	for _, o := range ops {
		for ; next < len(byEnd) && byEnd[next].end < o.begun; next++ {
			if byEnd[next].length > longest.length {
				longest = byEnd[next]
			}
		}
		if o.put && seen[o.length] {
			return fmt.Errorf("%s: two puts have offset %d", o.what, o.length-1)
		}
		seen[o.length] = seen[o.length] || o.put
		if !o.atLeast && o.length < longest.length || o.put && o.length == longest.length {
			return fmt.Errorf("%s tells length %d, although %s had told %d before", o.what, o.length, longest.what, longest.length)
		}
	}
	// Nothing is seen before somebody has begun to put it.
	puts := slices.DeleteFunc(slices.Clone(ops), func(o op) bool { return !o.put })
	slices.SortFunc(puts, func(a, b op) int { return int(a.length - b.length) })
	for i, p := range puts {
		if p.length != int64(i)+1 {
			return fmt.Errorf("nobody has put offset %d", i)
		}
	}
	first := slices.Clone(puts) // first[i]: the put of i.. that begins last among those up to i
	for i := 1; i < len(first); i++ {
		if first[i-1].begun > first[i].begun {
			first[i] = first[i-1]
		}
	}
	for _, o := range ops {
		if o.length > int64(len(puts)) {
			return fmt.Errorf("%s tells length %d of %d", o.what, o.length, len(puts))
		}
		if o.length > 0 && first[o.length-1].begun > o.end {
			return fmt.Errorf("%s saw length %d before %s had begun", o.what, o.length, first[o.length-1].what)
		}
	}
	return nil
}

// history is what all callers were told.
type history struct {
	tick atomic.Int64
	ops  []op
}

// byQueue sorts the answers by queue. Puts of one key count once: between the
// moment when the first began and the moment when the first returned.
func (h *history) byQueue() map[message.Queue][]op {
	keyed := map[string]op{}
	all := map[message.Queue][]op{}
	for _, o := range h.ops {
		if o.key == "" {
			all[o.q] = append(all[o.q], o)
			continue
		}
		first, ok := keyed[o.key]
		if ok {
			if first.q != o.q || first.length != o.length {
				all[o.q] = append(all[o.q], op{what: "a second record of key " + o.key, length: 1 << 40}) // which fails
			}
			first.begun, first.end = min(first.begun, o.begun), min(first.end, o.end)
		} else {
			first = o
		}
		keyed[o.key] = first
		o.put, o.atLeast = false, true
		all[o.q] = append(all[o.q], o)
	}
	for _, o := range keyed {
		all[o.q] = append(all[o.q], o)
	}
	return all
}

// caller is one goroutine of a schedule.
type caller struct {
	t   *testing.T
	s   *store.Store
	h   *history
	rnd *rand.Rand
	own []op
	err error
}

func runSchedule(t *testing.T, seed uint64) *history {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 16))
	sim := crash.New(seed)
	f := fs.NewFaulty(sim.FS())
	var pauses atomic.Uint64
	f.Before(func(fs.Op, string) error {
		for range (pauses.Add(1) * (2*seed + 1)) % 4 {
			runtime.Gosched() // the disk takes its time
		}
		return nil
	})
	e := env.Real()
	e.Open = func(string, bool) (fs.FS, error) { return f, nil }
	durability := []message.Durability{message.OnDisk, message.InCache}[rnd.IntN(2)]
	s, err := store.Open("linear", store.WithEnvironment(e), store.WithDurability(durability), store.WithSegmentSize(1<<20), store.WithMaxUnsynced(64<<10),
		store.WithTopicQueues(2), store.WithDedupe(time.Hour, 100_000), store.WithCheckpoint(time.Millisecond, 64<<10), store.WithTailMemory(64<<10))
	require.NoError(t, err)
	require.NoError(t, s.CreateTopic(ctx, store.Topic{Name: "t", ReadQueues: 2, WriteQueues: 2}))
	h := &history{}
	var wg sync.WaitGroup
	callers := make([]*caller, linearCallers)
	for i := range callers {
		c := &caller{t: t, s: s, h: h, rnd: rand.New(rand.NewPCG(seed, uint64(100+i)))}
		callers[i] = c
		wg.Go(func() {
			for n := 0; n < *linearOps/linearCallers && c.err == nil; n++ {
				c.err = c.call(n)
			}
		})
	}
	wg.Wait()
	for _, c := range callers {
		require.NoError(t, c.err, "schedule %d", seed)
		h.ops = append(h.ops, c.own...)
	}
	checkOK(t, s)
	require.NoError(t, s.Close())
	return h
}

// call makes one random call and notes what it tells.
func (c *caller) call(n int) error {
	q := message.Queue{Topic: "t", ID: int32(c.rnd.IntN(2))}
	o := op{q: q, begun: c.h.tick.Add(1)}
	note := func(o op) {
		o.end = c.h.tick.Add(1)
		c.own = append(c.own, o)
	}
	if c.rnd.IntN(8) == 0 {
		runtime.Gosched()
	}
	m := &message.Message{Topic: "t", QueueID: q.ID, Body: []byte("body")}
	switch k := c.rnd.IntN(10); {
	case k < 3:
		r, err := c.s.Put(ctx, m)
		o.length, o.put, o.what = r.Offset+1, true, "a put"
		note(o)
		return err
	case k < 4:
		rs, err := c.s.PutBatch(ctx, []*message.Message{m, m})
		for i, r := range rs {
			note(op{q: q, begun: o.begun, length: r.Offset + 1, put: true, what: fmt.Sprintf("message %d of a batch", i)})
		}
		return err
	case k < 6:
		// Others are about to use the same key.
		m.IdempotencyKey = fmt.Sprint("key ", n/2)
		r, err := c.s.Put(ctx, m)
		o.q, o.length, o.put, o.key, o.what = r.Queue, r.Offset+1, true, m.IdempotencyKey, "a put of "+m.IdempotencyKey
		note(o)
		return err
	case k < 8:
		_, end, err := c.s.Bounds(q)
		o.length, o.what = end, "Bounds"
		note(o)
		return err
	}
	_, end, err := c.s.Bounds(q)
	if err != nil {
		return err
	}
	o.begun = c.h.tick.Add(1)
	from := max(0, end-int64(c.rnd.IntN(20)))
	b, err := c.s.Read(ctx, q, from, message.Limit{Count: 64}, nil)
	for i := range b.Records {
		if err == nil && b.Records[i].Offset() != from+int64(i) {
			err = fmt.Errorf("read %d, got %d", from+int64(i), b.Records[i].Offset())
		}
	}
	o.length, o.what, o.atLeast = from+int64(len(b.Records)), "a read", len(b.Records) == 64
	note(o)
	return err
}

// The checker sees what it is there for.
func TestLinearizableSees(t *testing.T) {
	put := func(begun, end, offset int64) op {
		return op{begun: begun, end: end, length: offset + 1, put: true, what: "put"}
	}
	see := func(begun, end, length int64) op {
		return op{begun: begun, end: end, length: length, what: "read"}
	}
	for name, ops := range map[string][]op{
		"one offset twice":            {put(1, 2, 0), put(3, 4, 0)},
		"order turned round":          {put(1, 2, 1), put(3, 4, 0)},
		"a read that is late":         {put(1, 2, 0), see(3, 4, 0)},
		"a read that forgets":         {put(1, 9, 0), see(2, 3, 1), see(4, 5, 0)},
		"a read from the future":      {see(1, 2, 1), put(3, 4, 0)},
		"a put behind what was read":  {put(1, 2, 0), put(1, 9, 1), see(3, 4, 2), put(5, 6, 2), see(7, 8, 2)},
		"an offset that nobody knows": {put(1, 2, 0), put(3, 4, 2)},
	} {
		require.Error(t, linearizable(ops), name)
	}
	require.NoError(t, linearizable([]op{put(1, 5, 1), put(2, 6, 0), see(3, 4, 0), see(3, 7, 2)}))
}
