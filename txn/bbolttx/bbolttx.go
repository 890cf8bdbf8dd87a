package bbolttx

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"

	"go.etcd.io/bbolt"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/txn"
)

// DefaultBucket holds markers and offsets.
const DefaultBucket = "embermq"

// Values of a marker, and names of the buckets inside. On disk. Do not change.
const (
	committed  = 'C'
	rolledBack = 'R'
	markers    = "m"
	offsets    = "o"
)

// Options of New.
type Options struct {
	// Bucket holds all that is written; DefaultBucket if empty.
	Bucket string
}

// Resource is a bbolt of the application's. It is a txn.Resource.
type Resource struct {
	db     *bbolt.DB
	ledger txn.Ledger
	bucket []byte
}

var _ txn.Resource = (*Resource)(nil)

// New makes a Resource. ledger is the store's Halves.
func New(db *bbolt.DB, ledger txn.Ledger, o Options) *Resource {
	if o.Bucket == "" {
		o.Bucket = DefaultBucket
	}
	return &Resource{db: db, ledger: ledger, bucket: []byte(o.Bucket)}
}

// inner returns a bucket to write to.
func (r *Resource) inner(tx *bbolt.Tx, name string) (*bbolt.Bucket, error) {
	b, err := tx.CreateBucketIfNotExists(r.bucket)
	if err == nil {
		b, err = b.CreateBucketIfNotExists([]byte(name))
	}
	if err != nil {
		return nil, fmt.Errorf("bbolttx: make bucket: %w", err)
	}
	return b, nil
}

// look returns a bucket to read, or nil.
func (r *Resource) look(tx *bbolt.Tx, name string) *bbolt.Bucket {
	if b := tx.Bucket(r.bucket); b != nil {
		return b.Bucket([]byte(name))
	}
	return nil
}

// decision reads a marker; Undecided is none.
func decision(id message.HalfID, v []byte) (message.Decision, error) {
	switch {
	case v == nil:
		return message.Undecided, nil
	case len(v) == 1 && v[0] == committed:
		return message.Committed, nil
	case len(v) == 1 && v[0] == rolledBack:
		return message.RolledBack, nil
	}
	return message.Undecided, &message.CorruptError{Reason: fmt.Sprintf("marker of half %s", id)}
}

// Mark puts the marker of a half into the application's transaction, which must
// be rolled back after an error. A *txn.DecidedError says that somebody has
// decided about the half before, message.ErrNotFound that there is no such half.
func (r *Resource) Mark(tx *bbolt.Tx, id message.HalfID) error {
	b, err := r.inner(tx, markers)
	if err != nil {
		return err
	}
	how, err := decision(id, b.Get([]byte(id)))
	if err != nil {
		return err
	}
	if how != message.Undecided {
		return &txn.DecidedError{ID: id, Decision: how}
	}
	if err := b.Put([]byte(id), []byte{committed}); err != nil {
		return fmt.Errorf("bbolttx: mark: %w", err)
	}
	// Markers of halves that have ended are removed, and Settle waits for this
	// transaction.
	return txn.StillPending(r.ledger, id)
}

// Settle decides about a half.
func (r *Resource) Settle(_ context.Context, id message.HalfID) (how message.Decision, err error) {
	err = r.db.Update(func(tx *bbolt.Tx) error {
		b, err := r.inner(tx, markers)
		if err != nil {
			return err
		}
		if how, err = decision(id, b.Get([]byte(id))); err != nil || how != message.Undecided {
			return err
		}
		how = message.RolledBack
		return b.Put([]byte(id), []byte{rolledBack})
	})
	if err != nil {
		return message.Undecided, fmt.Errorf("bbolttx: settle: %w", err)
	}
	return how, nil
}

// Markers yields the ids of all markers, as they were when it began.
func (r *Resource) Markers(context.Context) iter.Seq2[message.HalfID, error] {
	return func(yield func(message.HalfID, error) bool) {
		// The loop body may write, which a read transaction of its own would
		// make wait for ever.
		var ids []message.HalfID
		err := r.db.View(func(tx *bbolt.Tx) error {
			b := r.look(tx, markers)
			if b == nil {
				return nil
			}
			return b.ForEach(func(k, _ []byte) error {
				ids = append(ids, message.HalfID(k))
				return nil
			})
		})
		for _, id := range ids {
			if !yield(id, nil) {
				return
			}
		}
		if err != nil {
			yield("", fmt.Errorf("bbolttx: list markers: %w", err))
		}
	}
}

// Forget removes markers.
func (r *Resource) Forget(_ context.Context, ids []message.HalfID) error {
	err := r.db.Update(func(tx *bbolt.Tx) error {
		b, err := r.inner(tx, markers)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if err := b.Delete([]byte(id)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("bbolttx: forget: %w", err)
	}
	return nil
}

func offsetKey(group string, q message.Queue) []byte {
	key := append(append(append([]byte(group), 0), q.Topic...), 0)
	return binary.BigEndian.AppendUint32(key, uint32(q.ID))
}

// Offset is where a group goes on in a queue; false when nothing was committed.
func (r *Resource) Offset(group string, q message.Queue) (next int64, ok bool, err error) {
	err = r.db.View(func(tx *bbolt.Tx) (err error) {
		if b := r.look(tx, offsets); b != nil {
			next, ok, err = offset(b, group, q)
		}
		return err
	})
	return next, ok, err
}

func offset(b *bbolt.Bucket, group string, q message.Queue) (next int64, ok bool, err error) {
	v := b.Get(offsetKey(group, q))
	if v == nil {
		return 0, false, nil
	}
	if len(v) != 8 {
		return 0, false, &message.CorruptError{Reason: fmt.Sprintf("offset of %s in %s", group, q)}
	}
	return int64(binary.BigEndian.Uint64(v)), true, nil
}

// Advance puts the offset next into the transaction that holds the effect of the
// records [from, next) of a queue. The transaction must be rolled back after an
// error; message.ErrFenced says that some of these records had their effect
// before.
func (r *Resource) Advance(tx *bbolt.Tx, group string, q message.Queue, from, next int64) error {
	if from < 0 || next < from {
		return &message.InvalidError{Field: "next", Reason: "before from, or negative"}
	}
	b, err := r.inner(tx, offsets)
	if err != nil {
		return err
	}
	at, ok, err := offset(b, group, q)
	if err != nil {
		return err
	}
	if ok && at > from {
		return fmt.Errorf("bbolttx: %s has %s up to %d, not %d: %w", group, q, at, from, message.ErrFenced)
	}
	if err := b.Put(offsetKey(group, q), binary.BigEndian.AppendUint64(nil, uint64(next))); err != nil {
		return fmt.Errorf("bbolttx: advance: %w", err)
	}
	return nil
}
