package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/group"
	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/internal/env"
	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// TestI15Law drives every view of a store whose log is seldom synced, and looks at
// each write: nothing that derives from a record may reach a file before the record
// is on disk.
func TestI15Law(t *testing.T) {
	total := make([]int, len(lawParts))
	for seed := range uint64(12) {
		l := newLaw()
		if err := lawfulLife(seed, l); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for i, n := range l.seen.list() {
			total[i] += n
		}
	}
	for i, name := range lawParts {
		t.Logf("%8d %s", total[i], name)
		require.Greater(t, total[i], 10, name)
	}
}

// lawfulLife does random things to all views and returns the first breach.
func lawfulLife(seed uint64, l *law) error {
	rnd := rand.New(rand.NewPCG(seed, 15))
	now := clock.NewManual(time.UnixMilli(1_700_000_000_000))
	sim := crash.New(seed)
	l.watch(sim)
	e := env.Env{Open: func(string, bool) (fs.FS, error) { return sim.FS(), nil }, Clock: now, Manual: true, PID: 7}
	s, err := store.Open("law", store.WithEnvironment(e), store.WithDurability(message.InCache), store.WithMaxUnsynced(64<<10),
		store.WithSegmentSize(64<<10), store.WithQueueFileSize(200), store.WithTopicQueues(1), store.WithDedupe(time.Hour, 1000))
	if err != nil {
		return err
	}
	w := &lawful{rnd: rnd, clock: now, s: s, l: l}
	err = w.live()
	if err == nil {
		err = s.Close()
	} else {
		err = errors.Join(err, s.Abandon())
	}
	return errors.Join(err, l.err())
}

type lawful struct {
	rnd   *rand.Rand
	clock *clock.Manual
	s     *store.Store
	l     *law
	halfs []message.HalfID
	claim group.Claim
}

func (w *lawful) live() error {
	for _, topic := range []string{"t", "u"} {
		if err := w.s.CreateTopic(ctx, store.Topic{Name: topic}); err != nil {
			return err
		}
	}
	seat, err := w.s.Groups().Join(ctx, group.Member{Group: "g", Subscriptions: map[string]string{"t": "*"}})
	if err != nil {
		return err
	}
	w.claim = seat.Claim()
	for i := range 150 {
		if err := w.step(i); err != nil {
			return err
		}
		if err := w.l.err(); err != nil {
			return err
		}
	}
	return nil
}

func (w *lawful) step(i int) error {
	switch k := w.rnd.IntN(24); {
	case k < 8:
		m := &message.Message{Topic: "t", Keys: []string{"k"}, Body: make([]byte, w.rnd.IntN(300))}
		if k < 4 {
			m.IdempotencyKey = fmt.Sprint("key", i)
		}
		r, err := w.s.Put(ctx, m)
		if err == nil {
			w.l.place(r.Queue, r.Offset, r.Position, 1)
		}
		return err
	case k < 11:
		_, err := w.s.Put(ctx, &message.Message{Topic: "u", Delay: time.Duration(1+w.rnd.IntN(60)) * time.Second, Body: []byte("later")})
		return err
	case k < 13:
		_, id, err := w.s.Halves().Prepare(ctx, &message.Message{Topic: "u", Body: []byte("half")}, "p", message.HalfOptions{})
		w.halfs = append(w.halfs, id)
		return err
	case k < 14 && len(w.halfs) > 0:
		id := w.halfs[0]
		w.halfs = w.halfs[1:]
		_, _, err := w.s.Halves().Commit(ctx, id)
		return err
	case k < 18:
		return w.settle()
	case k < 20:
		return w.s.Checkpoint(ctx)
	case k < 21:
		return w.s.Queues().Flush()
	case k < 22:
		w.clock.Advance(time.Duration(w.rnd.IntN(20)) * time.Second)
		return w.s.Step(ctx)
	case k < 23:
		c, cancel := context.WithCancel(ctx)
		cancel()
		_ = w.s.Sync(c) // its sync may come later, or not at all
		return nil
	}
	_, end, err := w.s.Bounds(message.Queue{Topic: "t"})
	if err != nil {
		return err
	}
	return w.s.Commit(ctx, "readers", map[message.Queue]int64{{Topic: "t"}: end})
}

// settle settles some record, seldom the lowest, so that ranges come about.
func (w *lawful) settle() error {
	q := message.Queue{Topic: "t"}
	_, end, err := w.s.Bounds(q)
	if err != nil || end == 0 {
		return err
	}
	v := message.Verdict{Queue: q, Offset: w.rnd.Int64N(end), Kind: message.Done}
	if w.rnd.IntN(4) == 0 {
		v.Kind = message.Retry
	}
	err = w.s.Settle(ctx, w.claim, v)
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrOutOfRange) {
		return nil
	}
	return err
}
