package consumer_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/consumer"
	"github.com/embermq/embermq/message"
)

var (
	modelRuns = flag.Int("model.runs", 150, "runs of TestPushModel")
	modelSeed = flag.Uint64("model.seed", 0, "run this seed of TestPushModel alone")
)

// TestPushModel lets members of a group come, go and crash with their engine while
// messages arrive and handlers are slow, fail and panic. In the end every message
// was handled or is a dead letter; none was handled twice without a crash in
// between; and where order is kept, no handler saw a message before all earlier
// ones of its line were settled.
func TestPushModel(t *testing.T) {
	first, n := uint64(1), uint64(*modelRuns)
	if *modelSeed != 0 {
		first, n = *modelSeed, 1
	}
	for seed := first; seed < first+n; seed++ {
		synctest.Test(t, func(t *testing.T) {
			m := &model{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 0))}
			m.run()
		})
	}
}

type model struct {
	t       *testing.T
	seed    uint64
	rng     *rand.Rand // of the test's goroutine
	f       *fake
	order   consumer.Order
	batch   int
	members []*running
	joined  int

	mu      sync.Mutex
	chance  *rand.Rand // of the handlers
	epoch   int        // crashes so far
	put     []string
	lines   map[string][]string // the messages of each line, in order
	settled map[string]bool     // handled or buried
	handled map[string]int      // epoch of the latest success
	last    map[string]int      // of each line, the place of the latest delivery in this epoch
	wrong   []string
}

func (m *model) run() {
	m.f = newFake(m.t, map[string]int{"orders": 3})
	m.order = consumer.Order(m.rng.IntN(3))
	m.batch = 1 + m.rng.IntN(4)
	m.chance = rand.New(rand.NewPCG(m.seed, 1))
	m.lines, m.settled = make(map[string][]string), make(map[string]bool)
	m.handled, m.last = make(map[string]int), make(map[string]int)
	moves, crashes := 0, 0
	m.join()
	for i := range 200 {
		switch n := m.rng.IntN(100); {
		case n < 55:
			m.send()
		case n < 80:
			sleep(time.Duration(m.rng.IntN(400)) * time.Millisecond)
		case n < 88 && len(m.members) < 3:
			m.join()
			moves++
		case n < 94 && len(m.members) > 0:
			m.leave()
			moves++
		case n < 96, i > 150 && crashes == 0:
			m.crash()
			crashes++
		}
	}
	if crashes == 0 {
		m.crash()
	}
	for moves < 2 {
		m.join()
		sleep(time.Second)
		moves++
	}
	for len(m.members) > 1 {
		m.leave()
	}
	if len(m.members) == 0 {
		m.join()
	}
	sleep(2 * time.Hour)
	m.leave()
	m.check()
	m.f.close(m.t)
}

func (m *model) send() {
	m.mu.Lock()
	defer m.mu.Unlock()
	q, key := int32(m.rng.IntN(3)), fmt.Sprint("k", m.rng.IntN(4))
	id := fmt.Sprint(len(m.put))
	line := fmt.Sprint(q)
	if m.order == consumer.PerKey {
		line += key
	}
	m.put = append(m.put, id)
	m.lines[line] = append(m.lines[line], id)
	m.f.put(m.t, &message.Message{Topic: "orders", QueueID: q, ShardingKey: key, Body: []byte(id),
		Properties: map[string]string{"line": line, "place": fmt.Sprint(len(m.lines[line]) - 1)}})
}

func (m *model) join() {
	m.joined++
	opts := []consumer.Option{
		consumer.WithMember(fmt.Sprint("m", m.joined)), consumer.WithOrder(m.order), consumer.WithBatch(m.batch),
		consumer.WithWorkers(1 + m.rng.IntN(5)), consumer.WithRetry(consumer.Steps(time.Second, 5*time.Second)),
		consumer.WithMaxAttempts(6), consumer.WithPrefetch(8+m.rng.IntN(50), 1<<20), consumer.WithSpan(int64(20 + m.rng.IntN(50))),
	}
	p := consumer.NewPush(m.f, "billing", opts...)
	require.NoError(m.t, p.Subscribe("orders", nil, consumer.One(m.handle)))
	m.members = append(m.members, run(p))
	synctest.Wait()
}

func (m *model) leave() {
	i := m.rng.IntN(len(m.members))
	m.members[i].stop(m.t)
	m.members = append(m.members[:i], m.members[i+1:]...)
}

// crash kills the engine; some of what was settled lately is lost.
func (m *model) crash() {
	m.f.close(m.t)
	for _, r := range m.members {
		<-r.result // some error, and no later one
	}
	m.members = nil
	synctest.Wait()
	m.mu.Lock()
	m.epoch++
	clear(m.last)
	m.mu.Unlock()
	m.f = m.f.reopen(m.t, m.rng.IntN(20))
	m.join()
}

func (m *model) handle(ctx context.Context, d *consumer.Delivery) error {
	m.mu.Lock()
	id := string(d.Body())
	if m.order != consumer.Unordered {
		m.checkOrderLocked(d, id)
	}
	epoch, ok := m.handled[id]
	if ok && epoch == m.epoch {
		m.wrong = append(m.wrong, "handled twice: "+id)
	}
	slow := time.Duration(m.chance.IntN(4)) * 30 * time.Millisecond
	fate := m.chance.IntN(100)
	m.mu.Unlock()
	time.Sleep(slow)
	m.mu.Lock()
	defer m.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err() // its result does not count
	}
	switch {
	case fate < 8:
		return errNo
	case fate < 10:
		return consumer.RetryAfter(time.Duration(fate) * 100 * time.Millisecond)
	case fate < 12:
		panic("ouch")
	case fate < 13:
		m.settled[id] = true
		return consumer.DeadLetter("bad")
	}
	m.settled[id] = true
	m.handled[id] = m.epoch
	return nil
}

func (m *model) checkOrderLocked(d *consumer.Delivery, id string) {
	line, _ := d.Property("line")
	text, _ := d.Property("place")
	place := 0
	_, _ = fmt.Sscan(text, &place)
	if last, ok := m.last[line]; ok && place < last {
		m.wrong = append(m.wrong, fmt.Sprintf("%s of line %s comes behind a later one", id, line))
	}
	m.last[line] = place
	for _, earlier := range m.lines[line][:place] {
		if !m.settled[earlier] && !m.dead(earlier) {
			m.wrong = append(m.wrong, fmt.Sprintf("%s of line %s comes before %s is settled", id, line, earlier))
		}
	}
}

// dead reports whether a message was buried after its last attempt.
func (m *model) dead(id string) bool {
	for _, body := range m.f.bodies("%DLQ%billing") {
		if body == id {
			m.settled[id] = true
			return true
		}
	}
	return false
}

func (m *model) check() {
	m.mu.Lock()
	defer m.mu.Unlock()
	require.Empty(m.t, m.wrong, "seed %d, %v", m.seed, m.order)
	for _, id := range m.put {
		require.True(m.t, m.settled[id] || m.dead(id), "seed %d, %v: message %s was skipped", m.seed, m.order, id)
	}
	for id := range int32(3) {
		_, end, err := m.f.Bounds(orders(id))
		require.NoError(m.t, err)
		require.EqualValues(m.t, end, max(m.f.committed("billing", orders(id)), 0), "seed %d, %v: queue %d", m.seed, m.order, id)
	}
}
