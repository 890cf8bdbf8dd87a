package dedupe

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/embermq/embermq/internal/plant"
	"github.com/embermq/embermq/message"
)

// flight is a key that somebody is appending. Keys that meet in all 64 bits of
// the hash share one: the second then waits for the first, which is only slow.
type flight struct {
	topic, key string
	done       chan struct{} // closed when receipt is known or the flight has ended
	receipt    message.Receipt
	known      bool // guarded by Window.mu, as is receipt until then
}

// Claim is the right to append a message with a key. Its holder calls Answer when
// the message is stored, and End once, when the log has done with the record.
type Claim struct {
	w    *Window
	hash uint64
	f    *flight
}

// Claim gives the right to append a message with this key, or, as c is nil then,
// the receipt of the record that bears it already. While somebody else holds the
// claim it waits for the outcome. The error is ctx's, or that of a record that may
// bear the key and cannot be read.
func (w *Window) Claim(ctx context.Context, topic, key string) (c *Claim, r message.Receipt, err error) {
	h := hashOf(topic, key)
	for {
		w.mu.Lock()
		f := w.mu.flying[h]
		if f == nil || plant.Enabled && plant.Is(plant.DedupeNoClaim) {
			break
		}
		same := f.known && f.topic == topic && f.key == key
		r = f.receipt
		w.mu.Unlock()
		if same {
			w.duplicates.Add(1)
			return nil, r, nil
		}
		w.waits.Add(1)
		if err := f.wait(ctx); err != nil {
			return nil, r, err
		}
	}
	c = &Claim{w: w, hash: h, f: &flight{topic: topic, key: key, done: make(chan struct{})}}
	w.mu.flying[h] = c.f
	var candidates []int64
	w.mu.table.find(uint32(h), func(e *entry) { candidates = append(candidates, e.position) })
	w.mu.Unlock()
	if len(candidates) == 0 {
		return c, r, nil
	}
	slices.Sort(candidates) // the first counts
	for _, position := range candidates {
		r, found, err := w.recall(position, topic, key)
		if err != nil || found {
			c.End()
			if found {
				w.duplicates.Add(1)
			}
			return nil, r, err
		}
	}
	return c, message.Receipt{}, nil
}

// wait returns when the flight may be over. One that ended is no longer flying.
func (f *flight) wait(ctx context.Context) error {
	select {
	case <-f.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Answer tells those who wait for the key, and those who come until End, that
// it is stored.
func (c *Claim) Answer(r message.Receipt) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	if !c.f.known {
		c.f.receipt, c.f.known = r, true
		close(c.f.done)
	}
}

// End gives the claim back. The record, if it was stored, has been applied.
func (c *Claim) End() {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	if c.w.mu.flying[c.hash] == c.f {
		delete(c.w.mu.flying, c.hash)
	}
	if !c.f.known {
		close(c.f.done)
	}
}

// recall reads a record and returns its receipt if it bears the key and is in the
// window.
func (w *Window) recall(position int64, topic, key string) (r message.Receipt, found bool, err error) {
	var rec message.Record
	if err := w.o.Read(position, &rec); errors.Is(err, message.ErrNotFound) || errors.Is(err, message.ErrOutOfRange) {
		return r, false, nil
	} else if err != nil {
		return r, false, err
	}
	k, _ := rec.Property(message.PropIdempotency)
	home, ok := topicOf(&rec)
	if !ok || k != key || home != topic || !rec.StoredAt().After(w.o.Clock.Now().Add(-w.o.Window)) {
		return r, false, nil
	}
	return receiptOf(&rec, topic), true, nil
}

// receiptOf is what the put of a record was answered with.
func receiptOf(rec *message.Record, topic string) message.Receipt {
	r := message.Receipt{
		Queue:    message.Queue{Topic: topic, ID: rec.QueueID()},
		Offset:   rec.Offset(),
		Position: rec.Position(),
		StoredAt: time.UnixMilli(rec.StoredAtMillis()),
	}
	if in := rec.Topic(); in != topic {
		id, _ := rec.Property(message.PropRealQueue)
		n, _ := strconv.ParseInt(id, 10, 32)
		r.Queue.ID, r.Offset = int32(n), -1
		if in == message.TopicTimer {
			r.Timer = message.TimerID(strings.Clone(rec.UniqueID()))
		}
	}
	return r
}
