package rocketmq

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/interop/rocketmq/oracle"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// theirWriter makes one store with Java. It puts delayed and half messages as a
// broker does, which turns them into records of its own topics before they come
// to its store.
type theirWriter struct {
	p      plan
	s      *oracle.Store
	levels []int64 // positions of the messages of level 18, 2 hours
	timers map[string]int64
	halves map[int64]int64 // position by offset in the half topic
}

func (w *theirWriter) put(ctx context.Context, ms ...oracle.Message) ([]oracle.Receipt, error) {
	got, err := w.s.Put(ctx, ms...)
	for _, g := range got {
		if !g.OK() {
			return nil, fmt.Errorf("put: %+v", g)
		}
	}
	return got, err
}

func (w *theirWriter) one(ctx context.Context, topic string, queue int32, m oracle.Message) (oracle.Receipt, error) {
	m.Topic, m.Queue, m.BornAt, m.BornHost, m.StoreHost = topic, queue, 1_700_000_000_000, w.p.host(), w.p.host()
	got, err := w.put(ctx, m)
	if err != nil {
		return oracle.Receipt{}, err
	}
	return got[0], nil
}

// held puts what waits for its time or for a verdict, and now and then what ends
// the wait.
func (w *theirWriter) held(ctx context.Context, r *rand.Rand) error {
	if w.p.Features.has(delayed) {
		if err := w.level(ctx); err != nil {
			return err
		}
		if err := w.timer(ctx, r); err != nil {
			return err
		}
	}
	if w.p.Features.has(halves) {
		return w.half(ctx, r)
	}
	return nil
}

const slowestLevel = 18

func (w *theirWriter) level(ctx context.Context) error {
	got, err := w.one(ctx, message.TopicSchedule, slowestLevel-1, oracle.Message{Body: []byte("by level"), Properties: map[string]string{
		message.PropDelay: strconv.Itoa(slowestLevel), message.PropRealTopic: "later", message.PropRealQueue: "1"}})
	w.levels = append(w.levels, got.Position)
	return err
}

func (w *theirWriter) timer(ctx context.Context, r *rand.Rand) error {
	due, id := time.Now().Add(1000*time.Hour), fmt.Sprintf("%032X", r.Uint64())
	past := r.IntN(3) == 0
	if past {
		due = time.Now().Add(-1000 * time.Hour) // long since delivered
	}
	props := map[string]string{message.PropTimerOutMs: strconv.FormatInt(due.UnixMilli(), 10), message.PropUniqKey: id,
		message.PropRealTopic: "later", message.PropRealQueue: "2"}
	got, err := w.one(ctx, message.TopicTimer, 0, oracle.Message{Body: []byte("at a time"), Properties: props})
	if err != nil || past {
		return err
	}
	if r.IntN(3) == 0 {
		props[message.PropUniqKey], props[message.PropTimerDelUniq] = fmt.Sprintf("%032X", r.Uint64()), "later+"+id
		_, err = w.one(ctx, message.TopicTimer, 0, oracle.Message{Body: []byte("cancel"), Properties: props})
		return err
	}
	if w.timers == nil {
		w.timers = make(map[string]int64)
	}
	w.timers[id] = got.Position
	return nil
}

func (w *theirWriter) half(ctx context.Context, r *rand.Rand) error {
	id := fmt.Sprintf("%032X", r.Uint64())
	got, err := w.one(ctx, message.TopicHalf, 0, oracle.Message{Body: []byte("paid"), Properties: map[string]string{message.PropTranMsg: "true",
		message.PropProducerGroup: "payments", message.PropUniqKey: id, message.PropRealTopic: "paid", message.PropRealQueue: "0"}})
	if err != nil {
		return err
	}
	if w.halves == nil {
		w.halves = make(map[int64]int64)
	}
	verdict := r.IntN(3)
	if verdict == 0 {
		w.halves[got.Offset] = got.Position
		return nil
	}
	if verdict == 1 {
		if _, err := w.one(ctx, "paid", 0, oracle.Message{Body: []byte("paid"), SysFlag: message.FlagCommit, PreparedOffset: got.Position,
			Properties: map[string]string{message.PropTranMsg: "true", message.PropProducerGroup: "payments", message.PropUniqKey: id}}); err != nil {
			return err
		}
		if r.IntN(3) == 0 {
			return nil // the broker fell between the copy and its op record
		}
	}
	_, err = w.one(ctx, message.TopicOpHalf, 0, oracle.Message{Body: fmt.Appendf(nil, "%d,", got.Offset), Properties: map[string]string{message.PropTags: "d"}})
	return err
}

// waiting writes how far a broker has delivered the level, and returns what waits
// behind that.
func (w *theirWriter) waiting() (map[int64]bool, error) {
	waits := make(map[int64]bool)
	for _, at := range w.timers {
		waits[at] = true
	}
	for _, at := range w.halves {
		waits[at] = true
	}
	if len(w.levels) == 0 {
		return waits, nil
	}
	done := len(w.levels) / 2
	for _, at := range w.levels[done:] {
		waits[at] = true
	}
	config := filepath.Join(w.p.Dir, "config")
	if err := os.MkdirAll(config, 0o700); err != nil {
		return nil, err
	}
	return waits, os.WriteFile(filepath.Join(config, "delayOffset.json"), fmt.Appendf(nil, `{"offsetTable":{%d:%d}}`, slowestLevel, done), 0o600)
}

// sameWaiting: what waits in the imported store is what waited for Java.
func sameWaiting(t *testing.T, s *store.Store, want map[int64]bool) {
	t.Helper()
	have := make(map[int64]bool)
	for timer, err := range s.Timers().Pending("", time.Time{}, time.Time{}) {
		require.NoError(t, err)
		have[timer.Position] = true
	}
	for h := range s.Halves().All() {
		have[h.Position] = true
	}
	require.Equal(t, want, have)
}
