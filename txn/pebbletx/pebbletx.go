package pebbletx

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/txn"
)

// DefaultPrefix begins the keys of rows.
const DefaultPrefix = "embermq/"

// Values of a marker. On disk. Do not change.
const (
	committed  = 'C'
	rolledBack = 'R'
)

// Options of New.
type Options struct {
	// Prefix begins the keys of all rows; DefaultPrefix if empty.
	Prefix string
}

// Resource is a Pebble of the application's. It is a txn.Resource.
type Resource struct {
	db      *pebble.DB
	ledger  txn.Ledger
	markers []byte
	offsets []byte
	seed    maphash.Seed
	locks   [64]sync.Mutex // by the hash of a row's key: read and write are one step
}

var _ txn.Resource = (*Resource)(nil)

// New makes a Resource. ledger is the store's Halves.
func New(db *pebble.DB, ledger txn.Ledger, o Options) *Resource {
	if o.Prefix == "" {
		o.Prefix = DefaultPrefix
	}
	return &Resource{db: db, ledger: ledger, markers: []byte(o.Prefix + "m/"), offsets: []byte(o.Prefix + "o/"), seed: maphash.MakeSeed()}
}

// lock makes what is done with a key one step.
func (r *Resource) lock(key []byte) *sync.Mutex {
	l := &r.locks[maphash.Bytes(r.seed, key)%uint64(len(r.locks))]
	l.Lock()
	return l
}

func (r *Resource) marker(id message.HalfID) []byte {
	return append(bytes.Clone(r.markers), id...)
}

// get reads a marker; Undecided is none.
func (r *Resource) get(key []byte) (message.Decision, error) {
	v, c, err := r.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return message.Undecided, nil
	}
	if err != nil {
		return message.Undecided, fmt.Errorf("pebbletx: read marker: %w", err)
	}
	defer c.Close()
	switch string(v) {
	case string(rune(committed)):
		return message.Committed, nil
	case string(rune(rolledBack)):
		return message.RolledBack, nil
	}
	return message.Undecided, &message.CorruptError{Reason: fmt.Sprintf("marker %q", key)}
}

// Commit commits b, with the marker of a half in it, synced. Nothing of b is there
// after a *txn.DecidedError: somebody has decided about the half before. After
// message.ErrNotFound there is no such half. After any other error the outcome may
// be unknown: the store will ask.
func (r *Resource) Commit(id message.HalfID, b *pebble.Batch) error {
	key := r.marker(id)
	defer r.lock(key).Unlock()
	how, err := r.get(key)
	if err != nil {
		return err
	}
	if how != message.Undecided {
		return &txn.DecidedError{ID: id, Decision: how}
	}
	// Markers of halves that have ended are removed, and Settle waits for the lock:
	// a half that is pending now cannot be rolled back by it before b is in.
	if err := txn.StillPending(r.ledger, id); err != nil {
		return err
	}
	if err := b.Set(key, []byte{committed}, nil); err != nil {
		return fmt.Errorf("pebbletx: commit: %w", err)
	}
	if err := b.Commit(pebble.Sync); err != nil {
		return fmt.Errorf("pebbletx: commit: %w", err)
	}
	return nil
}

// Settle decides about a half.
func (r *Resource) Settle(_ context.Context, id message.HalfID) (message.Decision, error) {
	key := r.marker(id)
	defer r.lock(key).Unlock()
	how, err := r.get(key)
	if err != nil || how != message.Undecided {
		return how, err
	}
	if err := r.db.Set(key, []byte{rolledBack}, pebble.Sync); err != nil {
		return message.Undecided, fmt.Errorf("pebbletx: settle: %w", err)
	}
	return message.RolledBack, nil
}

// Markers yields the ids of all markers.
func (r *Resource) Markers(ctx context.Context) iter.Seq2[message.HalfID, error] {
	return func(yield func(message.HalfID, error) bool) {
		it, err := r.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: r.markers, UpperBound: after(r.markers)})
		if err != nil {
			yield("", fmt.Errorf("pebbletx: list markers: %w", err))
			return
		}
		for ok := it.First(); ok; ok = it.Next() {
			if !yield(message.HalfID(it.Key()[len(r.markers):]), nil) {
				_ = it.Close() // nobody listens any more
				return
			}
		}
		if err := it.Close(); err != nil {
			yield("", fmt.Errorf("pebbletx: list markers: %w", err))
		}
	}
}

// after is the first key behind all that begin with p, which ends in a slash.
func after(p []byte) []byte {
	end := bytes.Clone(p)
	end[len(end)-1]++
	return end
}

// Forget removes markers. It need not be durable: what comes back is removed
// again.
func (r *Resource) Forget(_ context.Context, ids []message.HalfID) error {
	b := r.db.NewBatch()
	defer b.Close()
	for _, id := range ids {
		if err := b.Delete(r.marker(id), nil); err != nil {
			return fmt.Errorf("pebbletx: forget: %w", err)
		}
	}
	if err := b.Commit(pebble.NoSync); err != nil {
		return fmt.Errorf("pebbletx: forget: %w", err)
	}
	return nil
}

func (r *Resource) offset(group string, q message.Queue) []byte {
	key := append(bytes.Clone(r.offsets), group...)
	key = append(append(append(key, 0), q.Topic...), 0)
	return binary.BigEndian.AppendUint32(key, uint32(q.ID))
}

// Offset is where a group goes on in a queue; false when nothing was committed.
func (r *Resource) Offset(group string, q message.Queue) (next int64, ok bool, err error) {
	v, c, err := r.db.Get(r.offset(group, q))
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("pebbletx: read offset: %w", err)
	}
	defer c.Close()
	if len(v) != 8 {
		return 0, false, &message.CorruptError{Reason: fmt.Sprintf("offset of %s in %s", group, q)}
	}
	return int64(binary.BigEndian.Uint64(v)), true, nil
}

// Advance commits b, the effect of the records [from, next) of a queue, synced,
// together with the offset next. Nothing of b is there after message.ErrFenced:
// some of these records had their effect before.
func (r *Resource) Advance(group string, q message.Queue, from, next int64, b *pebble.Batch) error {
	if from < 0 || next < from {
		return &message.InvalidError{Field: "next", Reason: "before from, or negative"}
	}
	key := r.offset(group, q)
	defer r.lock(key).Unlock()
	at, ok, err := r.Offset(group, q)
	if err != nil {
		return err
	}
	if ok && at > from {
		return fmt.Errorf("pebbletx: %s has %s up to %d, not %d: %w", group, q, at, from, message.ErrFenced)
	}
	if err := b.Set(key, binary.BigEndian.AppendUint64(nil, uint64(next)), nil); err != nil {
		return fmt.Errorf("pebbletx: advance: %w", err)
	}
	if err := b.Commit(pebble.Sync); err != nil {
		return fmt.Errorf("pebbletx: advance: %w", err)
	}
	return nil
}
