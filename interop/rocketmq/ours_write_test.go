package rocketmq

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/env"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// sent is one message that a put of ours has acknowledged.
type sent struct {
	Queue    message.Queue
	Offset   int64
	Position int64
	StoredAt int64
	Message  *message.Message
}

// model is what a store has to hold. Start is how many of the oldest messages
// retention may have taken: those below log position Start.
type model struct {
	Sent  []sent
	Start int64
	End   int64
	Dead  []string // topics that were deleted, and perhaps made again
}

// writer makes one store of ours.
type writer struct {
	p     plan
	r     *rand.Rand
	clock *clock.Manual
	s     *store.Store
	model model
}

func newWriter(p plan) *writer {
	// The generated times lie in the past, so that what Java appends is newer.
	return &writer{p: p, r: p.random(), clock: clock.NewManual(time.Now().Add(-24 * time.Hour).Truncate(time.Second))}
}

func (w *writer) open() (err error) {
	e := env.Real()
	e.Clock = w.clock
	opts := append(w.p.options(), store.WithEnvironment(e), store.WithRetention(0), store.WithHost(netip.MustParseAddrPort(w.p.host())))
	if w.p.Features.has(uniqueIDs) {
		opts = append(opts, store.WithUniqueID())
	}
	if w.p.Features.has(inCache) {
		opts = append(opts, store.WithDurability(message.InCache))
	}
	if w.p.Features.has(headDeleted) {
		opts = append(opts, store.WithRetentionBytes(3*w.p.Segment))
	}
	w.s, err = store.Open(w.p.Dir, opts...)
	return err
}

// write makes the store and leaves it open.
func (w *writer) write() error {
	if err := w.open(); err != nil {
		return err
	}
	reopens := 0
	if w.p.Features.has(reopened) {
		reopens = 2
	}
	for session := range reopens + 1 {
		if session > 0 {
			if err := errors.Join(w.s.Close(), w.open()); err != nil {
				return err
			}
		}
		if err := w.puts(w.p.Messages / (reopens + 1)); err != nil {
			return err
		}
		if session == 0 {
			if err := w.huge(); err != nil {
				return err
			}
		}
		if session == 0 && w.p.Features.has(deletedTopic) {
			if err := w.delete(); err != nil {
				return err
			}
		}
	}
	if w.p.Features.has(headDeleted) {
		if err := w.expire(); err != nil {
			return err
		}
		// Files of queues that have expired go with the next save, and a Close
		// without a put behind retention saves nothing.
		if err := w.puts(1); err != nil {
			return err
		}
	}
	if err := errors.Join(w.ripen(), w.s.Sync(context.Background())); err != nil {
		return err
	}
	w.model.Start, w.model.End = w.s.Stats().Log.Start, w.s.Stats().Log.Appended
	return nil
}

func (w *writer) puts(n int) error {
	ctx := context.Background()
	for n > 0 {
		if w.r.IntN(3) > 0 {
			w.clock.Advance(time.Duration(w.r.IntN(40)) * time.Millisecond)
		}
		if w.p.Features.has(batches) && w.r.IntN(8) == 0 {
			// An atomic group over several topics and queues.
			var ms []*message.Message
			for range 2 + w.r.IntN(5) {
				m := w.p.next(w.r)
				if m.Encoding == message.None {
					m.Body = m.Body[:min(len(m.Body), 300)]
				}
				if len(m.Body) < 1000 {
					ms = append(ms, m)
				}
			}
			got, err := w.s.PutBatch(ctx, ms)
			if err != nil {
				return err
			}
			for i, g := range got {
				w.sent(g, ms[i])
			}
			n -= len(ms)
			continue
		}
		if err := w.held(); err != nil {
			return err
		}
		m := w.p.next(w.r)
		got, err := w.s.Put(ctx, m)
		if err != nil {
			return err
		}
		w.sent(got, m)
		n--
	}
	return nil
}

func (w *writer) huge() error {
	for _, m := range w.p.huge(w.r) {
		got, err := w.s.Put(context.Background(), m)
		if err != nil {
			return err
		}
		w.sent(got, m)
	}
	return nil
}

// held puts a message now and then that waits for its time or for a verdict. The
// model does not know it: Java's answers are compared with ours.
func (w *writer) held() error {
	ctx := context.Background()
	if w.p.Features.has(delayed) && w.r.IntN(8) == 0 {
		m := &message.Message{Topic: "later", Body: []byte("later"), DelayLevel: 1 + w.r.IntN(9)}
		if w.r.IntN(2) == 0 {
			m.DelayLevel, m.Delay = 0, time.Duration(1+w.r.IntN(100_000))*time.Millisecond
			if w.r.IntN(3) == 0 {
				m.Delay = 1000 * time.Hour // still waits when Java looks
			}
		}
		r, err := w.s.Put(ctx, m)
		if err != nil {
			return err
		}
		if w.r.IntN(4) == 0 && m.Delay > 0 {
			if _, err := w.s.Timers().Cancel(ctx, r.Timer); err != nil {
				return err
			}
		}
	}
	if w.p.Features.has(halves) && w.r.IntN(8) == 0 {
		_, id, err := w.s.Halves().Prepare(ctx, &message.Message{Topic: "paid", Body: []byte("paid")}, "payments", message.HalfOptions{})
		if err == nil && w.r.IntN(3) == 0 {
			_, _, err = w.s.Halves().Commit(ctx, id)
		} else if err == nil && w.r.IntN(2) == 0 {
			_, err = w.s.Halves().Rollback(ctx, id)
		}
		return err
	}
	return nil
}

// ripen lets everything fire that is due before long.
func (w *writer) ripen() error {
	if !w.p.Features.has(delayed) {
		return nil
	}
	w.clock.Advance(3 * time.Hour)
	for range 2000 {
		soon := 0
		for _, err := range w.s.Timers().Pending("", time.Time{}, w.clock.Now().Add(time.Hour)) {
			if err != nil {
				return err
			}
			soon++
		}
		if soon == 0 {
			return nil
		}
		<-time.After(time.Millisecond)
	}
	return fmt.Errorf("%d timers wait", w.s.Timers().Len())
}

func (w *writer) sent(g message.Receipt, m *message.Message) {
	w.model.Sent = append(w.model.Sent, sent{g.Queue, g.Offset, g.Position, g.StoredAt.UnixMilli(), m})
}

// delete deletes one topic that nothing is put to any more and one that comes
// back with the next put.
func (w *writer) delete() error {
	ctx := context.Background()
	gone := &message.Message{Topic: "gone", Body: []byte("x"), Keys: []string{"gone"}}
	for range 5 {
		if _, err := w.s.Put(ctx, gone); err != nil {
			return err
		}
	}
	back := w.p.topics()[0]
	for _, name := range []string{"gone", back} {
		if err := w.s.DeleteTopic(ctx, name); err != nil {
			return err
		}
	}
	w.model.Sent = slices.DeleteFunc(w.model.Sent, func(s sent) bool { return s.Queue.Topic == back })
	w.model.Dead = []string{"gone", back}
	return nil
}

// expire puts until retention has segments to delete, and waits for it.
func (w *writer) expire() error {
	for range 200 {
		if err := w.puts(5); err != nil {
			return err
		}
		if w.s.Stats().Log.Segments <= 5 {
			continue
		}
		w.clock.Advance(time.Minute)
		for range 2000 {
			// The deletion is background work; it must not be under way when the
			// store is closed.
			l := w.s.Stats().Log
			if l.Appended-l.Start <= 3*w.p.Segment {
				return nil
			}
			<-time.After(time.Millisecond)
		}
	}
	return fmt.Errorf("retention has deleted nothing: %+v", w.s.Stats())
}

// tear appends a part of a record to the log of a store that was killed, and
// lets ours cut it again.
func (w *writer) tear() error {
	// Retention is background work and may have carried records after the last look.
	end, err := logEnd(w.p)
	if err != nil {
		return err
	}
	name := filepath.Join(w.p.Dir, "commitlog", fmt.Sprintf("%020d", end-end%w.p.Segment))
	last := w.model.Sent[len(w.model.Sent)-1]
	var d message.Draft
	if err := d.Encode(last.Message, last.Queue, nil); err != nil {
		return err
	}
	d.Stamp(end, last.Offset+1, last.StoredAt)
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	w.clock.Set(time.UnixMilli(last.StoredAt)) // the killed process had a clock of its own
	// Neither retention nor anything that waits beside the close that follows.
	w.p.Features &^= headDeleted | delayed | halves
	room := w.p.Segment - end%w.p.Segment
	torn := d.Bytes()[:min(int64(1+w.r.IntN(d.Size()-1)), room)]
	if _, err := f.WriteAt(torn, end%w.p.Segment); err != nil {
		return err
	}
	if err := errors.Join(f.Close(), w.open()); err != nil {
		return err
	}
	if got := w.s.Stats().Recovery; got.CutBytes == 0 && slices.ContainsFunc(torn, func(b byte) bool { return b != 0 }) {
		return fmt.Errorf("a torn record of %d bytes was not cut: %+v", len(torn), got)
	}
	if err := w.puts(3); err != nil {
		return err
	}
	w.model.Start, w.model.End = w.s.Stats().Log.Start, w.s.Stats().Log.Appended
	return w.s.Close()
}

func saveJSON(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o600)
}

func loadJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}
