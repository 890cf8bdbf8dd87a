package dedupe

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"iter"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/kv"
	"github.com/embermq/embermq/message"
)

// MaxCount is the most keys that a window holds.
const MaxCount = 1 << 30

// DB is the part of the key-value store that a Window needs.
type DB interface {
	// Apply makes the batch visible as a whole, and durable when sync is set.
	// Batches survive in the order in which they were applied.
	Apply(ctx context.Context, b *kv.Batch, sync bool) error
	// Scan yields the rows in [from, to) in order, lent for one step. An error is
	// the last thing it yields.
	Scan(from, to []byte) iter.Seq2[kv.KV, error]
}

// Options of New. Window, Count and Read are needed.
type Options struct {
	// Window is how long a key is remembered after its record was stored.
	Window time.Duration
	// Count is how many keys are remembered at most, up to MaxCount.
	Count int
	// Read returns the verified record at a position in memory that the record
	// keeps. ErrNotFound says that it is gone, or that its topic is.
	Read func(position int64, r *message.Record) error
	// Clock tells how old keys are; the system's if nil.
	Clock clock.Clock
	// Logger hears of saved state that cannot be read; nil is silence.
	Logger *slog.Logger

	saveBytes int // size of the batches of a save
}

// Window knows the keys of the last records.
type Window struct {
	o      Options
	db     DB
	saving sync.Mutex // held by a save; taken before mu

	duplicates, waits atomic.Int64

	mu struct {
		sync.Mutex
		ring   ring
		table  table
		flying map[uint64]*flight // keys that are being appended

		unsaved uint64 // first sequence number that no save has taken
		rows    []row  // on disk, in order
		frozen  *frozen
		saved   message.Mark
		isNew   bool // nothing usable was saved
	}
}

// Stats are counters since New.
type Stats struct {
	Keys       int   // remembered now
	Duplicates int64 // answered with an earlier receipt
	Waits      int64 // for another put of the same key
	Bytes      int64 // of memory that the keys take
}

// New reads what was saved. Nothing is written. If Saved reports false, Reset and
// a replay from the log's start follow, otherwise a replay from the mark.
func New(db DB, o Options) (*Window, error) {
	switch {
	case o.Window <= 0 || o.Count <= 0 || o.Count > MaxCount:
		return nil, &message.InvalidError{Field: "dedupe options", Reason: "Window or Count is out of range"}
	case o.Read == nil:
		return nil, &message.InvalidError{Field: "dedupe options", Reason: "Read is missing"}
	}
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.saveBytes == 0 {
		o.saveBytes = 256 << 10
	}
	w := &Window{o: o, db: db}
	w.mu.flying = make(map[uint64]*flight)
	w.clearLocked()
	if err := w.load(); err != nil {
		return nil, err
	}
	return w, nil
}

// clearLocked makes the empty state. Claims stay.
func (w *Window) clearLocked() {
	m := &w.mu
	m.ring, m.table = ring{}, table{ring: &m.ring}
	m.unsaved, m.rows, m.frozen = 0, nil, nil
	m.saved, m.isNew = message.Mark{}, true
}

// Name is the view's name.
func (w *Window) Name() string { return "dedupe" }

// Saved is the mark of the last save, false if there is nothing usable.
func (w *Window) Saved() (message.Mark, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.saved, !w.mu.isNew
}

// Stats returns a snapshot.
func (w *Window) Stats() Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := &w.mu
	bytes := int64(len(m.ring.chunks)) * chunkLen * 16
	for i := range m.table.parts {
		bytes += int64(len(m.table.parts[i].slots)) * 4
	}
	return Stats{Keys: m.ring.len(), Duplicates: w.duplicates.Load(), Waits: w.waits.Load(), Bytes: bytes}
}

// Apply learns the key of the next record of the log.
func (w *Window) Apply(r *message.Record) {
	key, ok := r.Property(message.PropIdempotency)
	if !ok {
		return
	}
	topic, ok := topicOf(r)
	if !ok {
		return
	}
	h := hashOf(topic, key)
	at := r.StoredAtMillis()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pushLocked(entry{position: r.Position(), hash: uint32(h), second: uint32(max(0, at) / 1000)})
	w.expireLocked(at)
}

// pushLocked adds the newest entry; the oldest makes room for it.
func (w *Window) pushLocked(e entry) {
	m := &w.mu
	for m.ring.len() >= w.o.Count {
		w.popLocked()
	}
	m.table.insert(m.ring.push(e), e.hash)
}

func (w *Window) popLocked() {
	r := &w.mu.ring
	w.mu.table.remove(r.head, r.at(r.head).hash)
	r.pop()
}

// expireLocked drops what is too old for certain. What is younger by less than a
// second is told by its record.
func (w *Window) expireLocked(now int64) {
	r := &w.mu.ring
	for r.len() > 0 && (int64(r.at(r.head).second)+1)*1000 <= now-w.o.Window.Milliseconds() {
		w.popLocked()
	}
}

// topicOf is the topic that a record's key belongs to; ok is false for a record
// that does not count: a copy, or one that is not a message of a user.
func topicOf(r *message.Record) (topic string, ok bool) {
	if !r.Dispatchable() {
		return "", false
	}
	for _, copied := range [...]string{message.PropTimer, message.PropCarries, message.PropSettles} {
		if _, ok := r.OwnValue(copied); ok {
			return "", false
		}
	}
	if topic = r.Topic(); topic == message.TopicSchedule || topic == message.TopicTimer {
		if _, cancels := r.Property(message.PropTimerDelUniq); cancels {
			return "", false
		}
		topic, _ = r.Property(message.PropRealTopic)
	}
	if strings.HasPrefix(topic, message.PrefixRetry) || strings.HasPrefix(topic, message.PrefixDead) {
		return "", false // RocketMQ's, which do not say what they settle
	}
	return topic, topic != "" && !message.IsSystemTopic(topic)
}

// hashOf is the hash of a key: the low half for the table, all of it for claims.
// On disk. Do not change.
func hashOf(topic, key string) uint64 {
	var buf [256]byte
	b := append(buf[:0], topic...)
	b = append(b, 0) // no topic holds it
	b = append(b, key...)
	sum := sha256.Sum256(b)
	return binary.BigEndian.Uint64(sum[:])
}
