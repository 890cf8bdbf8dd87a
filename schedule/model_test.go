package schedule

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/kv/kvtest"
	"github.com/embermq/embermq/message"
)

var (
	imagesFlag = flag.Int("images", 20_000, "crash images in TestModel")
	seedFlag   = flag.Uint64("seed", 0, "replay one seed of TestModel")
)

// model runs random calls on a Schedule. The truth about any prefix of the log is
// read off its records alone, by a few lines that know nothing of the Schedule.
type model struct {
	*rig
	rng    *rand.Rand
	n      int               // bodies count up: they tell messages apart
	ids    []message.TimerID // all that were ever given
	body   map[message.TimerID]string
	images int
	// promised are the ids of which Cancel said that they are cancelled.
	promised map[message.TimerID]bool
}

// truth is what a log says.
type truth struct {
	due       map[string]int64 // of pending bodies
	topic     map[string]string
	delivered map[string]int
	cancelled map[string]bool
	waited    map[string][]int64 // all due times that a body ever had
}

func readTruth(recs []rec) truth {
	tr := truth{map[string]int64{}, map[string]string{}, map[string]int{}, map[string]bool{}, map[string][]int64{}}
	byID := map[string]string{}
	for _, rc := range recs {
		r := parse(rc.b)
		body := string(r.Body())
		switch topic := r.Topic(); {
		case topic == message.TopicTopics:
			name, _ := r.OwnValue(message.PropDeletes)
			for b, t := range tr.topic {
				if t == name {
					delete(tr.due, b)
				}
			}
		case topic == message.TopicTimer || topic == message.TopicSchedule:
			real, _ := r.Property(message.PropRealTopic)
			if del, ok := r.Property(message.PropTimerDelUniq); ok {
				b := byID[strings.TrimPrefix(del, real+"+")]
				delete(tr.due, b)
				tr.cancelled[b] = true
				continue
			}
			var due int64
			if out, ok := r.Property(message.PropTimerOutMs); ok {
				due, _ = parseMillis(out)
			} else {
				v, _ := r.OwnValue(message.PropDue)
				due, _ = message.ParseHex16(v)
			}
			byID[r.UniqueID()] = body
			tr.due[body], tr.topic[body], tr.cancelled[body] = due, real, false
			tr.waited[body] = append(tr.waited[body], due)
		default:
			if strings.HasPrefix(body, "w") {
				tr.delivered[body]++
				delete(tr.due, body)
			}
		}
	}
	return tr
}

func newModel(t testing.TB, seed uint64) *model {
	rng := rand.New(rand.NewPCG(seed, 1))
	m := &model{rng: rng, body: map[message.TimerID]string{}, promised: map[message.TimerID]bool{}}
	m.rig = &rig{t: t, clock: clock.NewManual(day), disk: kvtest.New()}
	m.rig.ids = message.NewIDs(m.clock.Now)
	m.log = newFakeLog(m.clock)
	m.o = Options{Manual: true, Clock: m.clock, Near: 1 + rng.IntN(30), Batch: 1 + rng.IntN(12),
		Dirty: 1 + rng.IntN(50), Remember: 1 + rng.IntN(100), CatchUp: 1000}
	if rng.IntN(2) == 0 {
		m.o.saveBytes = 1 + rng.IntN(600)
	}
	return m
}

var modelTopics = []string{"a", "b", "c"}

func (m *model) run(ops int) error {
	if err := m.open(); err != nil {
		return err
	}
	defer func() { m.Close() }()
	for i := range ops {
		if err := m.op(); err != nil {
			return fmt.Errorf("op %d: %w", i, err)
		}
		if i%4 == 0 {
			if err := m.live(); err != nil {
				return fmt.Errorf("op %d: %w", i, err)
			}
		}
		if m.rng.IntN(2) == 0 {
			if err := m.image(m.rng.IntN(6) == 0); err != nil {
				return fmt.Errorf("op %d: image: %w", i, err)
			}
		}
	}
	return nil
}

// maybeFail makes the next append or batch fail now and then.
func (m *model) maybeFail() {
	m.log.fail = nil
	if m.rng.IntN(8) == 0 {
		err := []error{message.ErrDiskFull, errDisk, &CopyError{m.rng.IntN(2), errors.New("refused")}}[m.rng.IntN(3)]
		m.log.fail = func(*Group) error { m.log.fail = nil; return err }
	}
}

func (m *model) op() error {
	m.maybeFail()
	defer func() { m.log.fail = nil }()
	switch k := m.rng.IntN(100); {
	case k < 35:
		m.putRandom()
	case k < 40:
		m.log.write(message.Queue{Topic: "a"}, &message.Message{Body: []byte("plain")})
	case k < 55:
		d := []time.Duration{time.Millisecond, 100 * time.Millisecond, time.Second, 10 * time.Second, 24 * time.Hour, -5 * time.Second}
		m.clock.Advance(d[m.rng.IntN(len(d))])
	case k < 70:
		for range 1 + m.rng.IntN(4) {
			if _, err := m.Step(bg); err != nil && !expected(err) {
				return err
			}
		}
	case k < 78:
		return m.cancel()
	case k < 84:
		if id, ok := m.someID(); ok {
			_, err := m.Timers().Reschedule(bg, id, m.clock.Now().Add(m.delay()))
			if err != nil && !expected(err) {
				return err
			}
		}
	case k < 86:
		if m.log.end > 0 {
			_, err := m.Carry(bg, m.rng.Int64N(m.log.end+1))
			if err != nil && !expected(err) && !errors.Is(err, message.ErrCorrupt) {
				return err
			}
		}
	case k < 87:
		m.deleteTopic(modelTopics[m.rng.IntN(3)])
	case k < 90:
		m.Freeze(m.log.mark()) // the sync of the log fails: it is never saved
	default:
		m.disk.Fail, m.disk.After = m.rng.IntN(4), m.rng.IntN(2) == 0
		err := m.save()
		m.disk.Fail = 0
		if err != nil && !errors.Is(err, errDisk) {
			return err
		}
	}
	return nil
}

func expected(err error) bool {
	return errors.Is(err, message.ErrDiskFull) || errors.Is(err, errDisk) || errors.As(err, new(*CopyError))
}

func (m *model) delay() time.Duration {
	return time.Duration(1+m.rng.IntN(40)) * []time.Duration{time.Millisecond, 50 * time.Millisecond, time.Second, time.Hour}[m.rng.IntN(4)]
}

func (m *model) putRandom() {
	for range 1 + m.rng.IntN(6) {
		m.n++
		msg := &message.Message{Topic: modelTopics[m.rng.IntN(3)], Body: []byte(fmt.Sprintf("w%d", m.n))}
		if m.rng.IntN(4) == 0 {
			msg.DelayLevel = 1 + m.rng.IntN(18)
		} else {
			msg.Delay = m.delay()
		}
		if _, ro := m.put(msg); ro.Timer != "" {
			m.ids = append(m.ids, ro.Timer)
			m.body[ro.Timer] = string(msg.Body)
		}
	}
}

func (m *model) someID() (message.TimerID, bool) {
	if len(m.ids) == 0 {
		return "", false
	}
	return m.ids[m.rng.IntN(len(m.ids))], true
}

func (m *model) cancel() error {
	id, ok := m.someID()
	if !ok {
		return nil
	}
	before := readTruth(m.log.recs)
	how, err := m.Timers().Cancel(bg, id)
	if err != nil {
		if expected(err) {
			return nil
		}
		return err
	}
	b := m.body[id]
	_, pending := before.due[b]
	switch {
	case how == Cancelled:
		// What went with its topic is gone as durably as the topic: a deletion that is
		// under way promises nothing yet.
		if pending || m.log.synced == len(m.log.recs) {
			m.promised[id] = true
		}
		if before.delivered[b] > 0 {
			return fmt.Errorf("%s was delivered and then cancelled", b)
		}
	case pending:
		return fmt.Errorf("%s was pending, and Cancel said %v", b, how)
	case how == Delivered && before.delivered[b] == 0:
		return fmt.Errorf("%s was not delivered, and Cancel said so", b)
	}
	return nil
}

// live compares the running Schedule with the truth.
func (m *model) live() error { return m.compare(m.rig) }

func (m *model) compare(r *rig) error {
	tr := readTruth(r.log.recs)
	if n := r.Timers().Len(); n != int64(len(tr.due)) {
		return fmt.Errorf("%d timers pending, want %d", n, len(tr.due))
	}
	counts := map[string]int64{}
	for b := range tr.due {
		counts[tr.topic[b]]++
	}
	for _, t := range modelTopics {
		if n := r.Timers().Count(t); n != counts[t] {
			return fmt.Errorf("%d timers of %s, want %d", n, t, counts[t])
		}
	}
	want := make([]int64, 0, len(tr.due))
	for _, due := range tr.due {
		want = append(want, due)
	}
	slices.Sort(want)
	var got []int64
	for t, err := range r.Timers().Pending("", time.Time{}, time.Time{}) {
		if err != nil {
			return err
		}
		got = append(got, t.Due.UnixMilli())
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("pending %v, want %v", got, want)
	}
	return m.judge(tr, r)
}

// judge finds early and double deliveries and broken promises.
func (m *model) judge(tr truth, r *rig) error {
	for _, d := range r.log.deliveries() {
		b := string(d.Body())
		if !strings.HasPrefix(b, "w") {
			continue
		}
		if tr.delivered[b] > 1 {
			return fmt.Errorf("%s was delivered %d times", b, tr.delivered[b])
		}
		k, _ := ends(d)
		if waited := tr.waited[b]; len(waited) == 0 || d.StoredAtMillis() < slices.Min(waited) || k.due > d.StoredAtMillis() {
			return fmt.Errorf("%s was delivered at %d, due at %v", b, d.StoredAtMillis(), waited)
		}
	}
	for id := range m.promised {
		if tr.delivered[m.body[id]] > 0 {
			return fmt.Errorf("%s was delivered after it was cancelled", m.body[id])
		}
	}
	return nil
}

// image crashes: a prefix of the log survives, groups as a whole, and a prefix of
// the batches. A new Schedule must find exactly what the log says and deliver it.
func (m *model) image(goOn bool) error {
	m.images++
	cut := m.log.synced + m.rng.IntN(len(m.log.recs)-m.log.synced+1)
	for cut > m.log.synced && !m.log.recs[cut-1].end {
		cut--
	}
	r := &rig{t: m.t, clock: clock.NewManual(m.clock.Now()), disk: m.disk.Cut(m.rng.IntN(m.disk.Versions())), ids: m.rig.ids, o: m.o}
	r.log = m.log.cut(cut)
	r.log.clock, r.o.Clock = r.clock, r.clock
	r.clock.Advance([]time.Duration{0, time.Second, 36 * time.Hour, -time.Hour}[m.rng.IntN(4)])
	if err := r.open(); err != nil {
		return err
	}
	if err := m.compare(r); err != nil {
		return fmt.Errorf("after open, %d of %d records: %w", cut, len(m.log.recs), err)
	}
	if goOn {
		if err := m.Close(); err != nil {
			return err
		}
		m.rig = r
		return nil
	}
	defer func() { r.Close() }()
	if m.rng.IntN(3) == 0 {
		if err := r.save(); err != nil {
			return err
		}
	}
	want := len(readTruth(r.log.recs).due)
	have := len(r.log.deliveries())
	if err := r.runUntil(r.clock.Now().AddDate(1, 0, 0)); err != nil {
		return err
	}
	if got := len(r.log.deliveries()) - have; got != want {
		return fmt.Errorf("%d of %d were delivered", got, want)
	}
	if err := m.compare(r); err != nil {
		return fmt.Errorf("in the end: %w", err)
	}
	if err := r.save(); err != nil {
		return err
	}
	for k := range r.disk.Scan([]byte(prefixTimer), end(prefixTimer)) {
		t, _ := parseTimer(k.Key, k.Value, "")
		return fmt.Errorf("a row is left: %+v", t)
	}
	return nil
}

func TestModel(t *testing.T) {
	if *seedFlag != 0 {
		require.NoError(t, newModel(t, *seedFlag).run(80))
		return
	}
	want := *imagesFlag
	if testing.Short() {
		want /= 10
	}
	images := 0
	for images < want {
		seed := rand.Uint64()
		m := newModel(t, seed)
		require.NoError(t, m.run(80), "-seed %d", seed)
		images += m.images
	}
	t.Logf("%d crash images", images)
}
