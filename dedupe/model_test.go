package dedupe

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/kv/kvtest"
	"github.com/embermq/embermq/message"
)

var (
	modelRuns = flag.Int("dedupe.runs", 300, "runs of TestModel")
	modelSeed = flag.Uint64("dedupe.seed", 0, "replay this run only")
)

// TestModel compares a window with the plainest one, which looks through all
// records of the log, over random puts, passing time, expiry, saves, and crashes
// at any point of a save.
func TestModel(t *testing.T) {
	if *modelSeed != 0 {
		require.NoError(t, runModel(t, *modelSeed))
		return
	}
	base := rand.Uint64() >> 1
	for i := range *modelRuns {
		seed := base + uint64(i)
		require.NoError(t, runModel(t, seed), "replay: go test ./dedupe -run '^TestModel$' -dedupe.seed=%d", seed)
	}
}

type model struct {
	t      testing.TB
	rnd    *rand.Rand
	log    *memLog
	disk   *kvtest.Mem
	w      *Window
	window time.Duration
	count  int
	synced int // records of the log that a crash keeps for certain
}

func runModel(t testing.TB, seed uint64) error {
	rnd := rand.New(rand.NewPCG(seed, 3))
	m := &model{t: t, rnd: rnd, log: newMemLog(), disk: kvtest.New(), window: time.Duration(1+rnd.IntN(60)) * time.Second, count: 1 + rnd.IntN(40)}
	m.w = m.log.open(t, m.disk, m.window, m.count)
	for range 200 {
		if err := m.step(); err != nil {
			return err
		}
	}
	return nil
}

func (m *model) step() error {
	switch k := m.rnd.IntN(20); {
	case k < 12:
		return m.put()
	case k < 14:
		m.log.clock.Advance(time.Duration(m.rnd.IntN(5000)) * time.Millisecond)
	case k < 15:
		for range m.rnd.IntN(30) { // records without a key
			m.w.Apply(m.log.add(m.t, &message.Message{Topic: "t"}, message.Queue{Topic: "t"}))
		}
	case k < 17:
		m.synced = len(m.log.records) // the second law: the log first
		if m.rnd.IntN(4) == 0 {
			m.disk.Fail, m.disk.After = 1+m.rnd.IntN(3), m.rnd.IntN(2) == 0
		}
		_ = m.w.Freeze(m.log.mark())()
		m.disk.Fail = 0
	case k < 18:
		if n := len(m.log.records); n > 0 { // retention never takes what is not saved
			p := m.log.records[m.rnd.IntN(n)].Position()
			if saved, ok := m.w.Saved(); ok && p <= saved.Offset {
				m.log.start = max(m.log.start, p)
			}
		}
	default:
		return m.crash()
	}
	return nil
}

// put compares the answer with what the log says.
func (m *model) put() error {
	msg := keyed([]string{"t", "u"}[m.rnd.IntN(2)], numbered(m.rnd.IntN(30)))
	want, known := m.known(msg)
	got, stored := m.log.put(m.t, m.w, msg)
	if stored == known || known && got != want {
		return fmt.Errorf("put of %s %s: stored %v, receipt %+v; the log has %+v, %v", msg.Topic, msg.IdempotencyKey, stored, got, want, known)
	}
	return nil
}

// known looks through the log: the last count records with keys are the window.
func (m *model) known(msg *message.Message) (r message.Receipt, ok bool) {
	from := m.log.clock.Now().Add(-m.window)
	for i, n := len(m.log.records)-1, 0; i >= 0 && n < m.count; i-- {
		rec := &m.log.records[i]
		key, has := rec.Property(message.PropIdempotency)
		if !has {
			continue
		}
		n++
		if key == msg.IdempotencyKey && rec.Topic() == msg.Topic && rec.StoredAt().After(from) && rec.Position() >= m.log.start {
			r, ok = receiptOf(rec, msg.Topic), true
		}
	}
	return r, ok
}

// crash keeps some of what was not synced, of the log and of the disk, and opens
// again, now and then with other options.
func (m *model) crash() error {
	keep := m.synced + m.rnd.IntN(len(m.log.records)-m.synced+1)
	m.log.records = m.log.records[:keep]
	m.synced = keep
	m.disk = m.disk.Cut(m.rnd.IntN(m.disk.Versions()))
	if m.rnd.IntN(10) == 0 {
		m.count, m.window = 1+m.rnd.IntN(40), time.Duration(1+m.rnd.IntN(60))*time.Second
		m.disk = kvtest.New() // more keys than were kept must come from the log
		m.log.start = 0
	}
	m.w = m.log.open(m.t, m.disk, m.window, m.count)
	mark, ok := m.w.Saved()
	if !ok {
		if err := m.w.Reset(); err != nil {
			return err
		}
	} else if mark.Offset > m.log.end() {
		return fmt.Errorf("mark %d is ahead of the log, which ends at %d", mark.Offset, m.log.end())
	}
	for i := range m.log.records {
		if r := &m.log.records[i]; r.Position() >= max(mark.Offset, m.log.start) {
			m.w.Apply(r)
		}
	}
	return nil
}
