package sqltx

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/txn"
)

// Names of the tables.
const (
	DefaultMarkers = "embermq_markers"
	DefaultOffsets = "embermq_offsets"
)

// Values of a marker. On disk. Do not change.
const (
	committed  = "C"
	rolledBack = "R"
)

// Options of New.
type Options struct {
	// Markers and Offsets are the tables' names: letters, digits, underscores, and
	// a dot behind a schema. DefaultMarkers and DefaultOffsets if empty.
	Markers, Offsets string
	// Dollar numbers the parameters, $1 and so on, as PostgreSQL wants it; otherwise
	// they are question marks.
	Dollar bool
}

// Resource is a database of the application's. It is a txn.Resource.
type Resource struct {
	db     *sql.DB
	ledger txn.Ledger

	create                                      [2]string
	markerGet, markerPut, markerList, markerDel string
	offsetGet, offsetNew, offsetSet             string
}

var _ txn.Resource = (*Resource)(nil)

// New makes a Resource. ledger is the store's Halves.
func New(db *sql.DB, ledger txn.Ledger, o Options) (*Resource, error) {
	if o.Markers == "" {
		o.Markers = DefaultMarkers
	}
	if o.Offsets == "" {
		o.Offsets = DefaultOffsets
	}
	for _, name := range []string{o.Markers, o.Offsets} {
		if strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.") != "" {
			return nil, &message.NameError{Kind: "table", Name: name, Reason: "other characters than letters, digits, _ and ."}
		}
	}
	r := &Resource{db: db, ledger: ledger}
	r.create = [2]string{
		"CREATE TABLE IF NOT EXISTS " + o.Markers + " (id VARCHAR(255) NOT NULL PRIMARY KEY, verdict CHAR(1) NOT NULL)",
		"CREATE TABLE IF NOT EXISTS " + o.Offsets + " (consumer VARCHAR(120) NOT NULL, topic VARCHAR(255) NOT NULL, queue INTEGER NOT NULL, next BIGINT NOT NULL, PRIMARY KEY (consumer, topic, queue))",
	}
	for to, q := range map[*string]string{
		&r.markerGet:  "SELECT verdict FROM " + o.Markers + " WHERE id = ?",
		&r.markerPut:  "INSERT INTO " + o.Markers + " (id, verdict) VALUES (?, ?)",
		&r.markerList: "SELECT id FROM " + o.Markers,
		&r.markerDel:  "DELETE FROM " + o.Markers + " WHERE id = ?",
		&r.offsetGet:  "SELECT next FROM " + o.Offsets + " WHERE consumer = ? AND topic = ? AND queue = ?",
		&r.offsetNew:  "INSERT INTO " + o.Offsets + " (next, consumer, topic, queue) VALUES (?, ?, ?, ?)",
		&r.offsetSet:  "UPDATE " + o.Offsets + " SET next = ? WHERE consumer = ? AND topic = ? AND queue = ? AND next = ?",
	} {
		*to = parameters(q, o.Dollar)
	}
	return r, nil
}

// parameters numbers the question marks.
func parameters(q string, dollar bool) string {
	if !dollar {
		return q
	}
	parts := strings.Split(q, "?")
	for i := range parts[1:] {
		parts[i] += fmt.Sprintf("$%d", i+1)
	}
	return strings.Join(parts, "")
}

// Create makes the two tables unless they are there. Until they are, halves stay
// pending.
func (r *Resource) Create(ctx context.Context) error {
	for _, q := range r.create {
		if _, err := r.db.ExecContext(ctx, q); err != nil {
			return fmt.Errorf("sqltx: create table: %w", err)
		}
	}
	return nil
}

// querier is a database or a transaction.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// get reads a marker; Undecided is none.
func (r *Resource) get(ctx context.Context, q querier, id message.HalfID) (message.Decision, error) {
	var v string
	err := q.QueryRowContext(ctx, r.markerGet, string(id)).Scan(&v)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return message.Undecided, nil
	case err != nil:
		return message.Undecided, fmt.Errorf("sqltx: read marker: %w", err)
	case v == committed:
		return message.Committed, nil
	case v == rolledBack:
		return message.RolledBack, nil
	}
	return message.Undecided, &message.CorruptError{Reason: fmt.Sprintf("marker of half %s: %q", id, v)}
}

// Mark puts the marker of a half into the application's transaction, which must
// be rolled back after an error. A *txn.DecidedError says that somebody has
// decided about the half before, message.ErrNotFound that there is no such half.
// When that happens at the same moment it is the database's own error about the
// primary key.
func (r *Resource) Mark(ctx context.Context, tx *sql.Tx, id message.HalfID) error {
	how, err := r.get(ctx, tx, id)
	if err != nil {
		return err
	}
	if how != message.Undecided {
		return &txn.DecidedError{ID: id, Decision: how}
	}
	if _, err := tx.ExecContext(ctx, r.markerPut, string(id), committed); err != nil {
		return fmt.Errorf("sqltx: mark: %w", err)
	}
	// Markers of halves that have ended are removed. From here on Settle cannot put
	// in its own until this transaction has ended.
	return txn.StillPending(r.ledger, id)
}

// Settle decides about a half.
func (r *Resource) Settle(ctx context.Context, id message.HalfID) (message.Decision, error) {
	// The primary key decides, not what was read before: so the marker is put in
	// first.
	_, putErr := r.db.ExecContext(ctx, r.markerPut, string(id), rolledBack)
	if putErr == nil {
		return message.RolledBack, nil
	}
	how, err := r.get(ctx, r.db, id)
	if err == nil && how == message.Undecided {
		err = putErr // it was not the key
	}
	if err != nil {
		return message.Undecided, fmt.Errorf("sqltx: settle: %w", err)
	}
	return how, nil
}

// Markers yields the ids of all markers, as they were when it began.
func (r *Resource) Markers(ctx context.Context) iter.Seq2[message.HalfID, error] {
	return func(yield func(message.HalfID, error) bool) {
		ids, err := r.list(ctx) // the loop body may need the connection
		for _, id := range ids {
			if !yield(id, nil) {
				return
			}
		}
		if err != nil {
			yield("", fmt.Errorf("sqltx: list markers: %w", err))
		}
	}
}

func (r *Resource) list(ctx context.Context) (ids []message.HalfID, err error) {
	rows, err := r.db.QueryContext(ctx, r.markerList)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return ids, err
		}
		ids = append(ids, message.HalfID(id))
	}
	return ids, rows.Err()
}

// Forget removes markers.
func (r *Resource) Forget(ctx context.Context, ids []message.HalfID) error {
	tx, err := r.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("sqltx: forget: %w", err)
	}
	for _, id := range ids {
		if _, err := tx.ExecContext(ctx, r.markerDel, string(id)); err != nil {
			return fmt.Errorf("sqltx: forget: %w", errors.Join(err, tx.Rollback()))
		}
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("sqltx: forget: %w", err)
	}
	return nil
}

// Offset is where a group goes on in a queue; false when nothing was committed.
func (r *Resource) Offset(ctx context.Context, group string, q message.Queue) (next int64, ok bool, err error) {
	return r.offset(ctx, r.db, group, q)
}

func (r *Resource) offset(ctx context.Context, on querier, group string, q message.Queue) (next int64, ok bool, err error) {
	err = on.QueryRowContext(ctx, r.offsetGet, group, q.Topic, q.ID).Scan(&next)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("sqltx: read offset: %w", err)
	}
	return next, true, nil
}

// Advance puts the offset next into the transaction that holds the effect of the
// records [from, next) of a queue. The transaction must be rolled back after an
// error; message.ErrFenced says that some of these records had their effect
// before.
func (r *Resource) Advance(ctx context.Context, tx *sql.Tx, group string, q message.Queue, from, next int64) error {
	if from < 0 || next < from {
		return &message.InvalidError{Field: "next", Reason: "before from, or negative"}
	}
	at, ok, err := r.offset(ctx, tx, group, q)
	if err != nil {
		return err
	}
	fenced := func() error {
		return fmt.Errorf("sqltx: %s has %s up to %d, not %d: %w", group, q, at, from, message.ErrFenced)
	}
	if !ok {
		if _, err := tx.ExecContext(ctx, r.offsetNew, next, group, q.Topic, q.ID); err != nil {
			return fmt.Errorf("sqltx: advance: %w", err)
		}
		return nil
	}
	if at > from {
		return fenced()
	}
	res, err := tx.ExecContext(ctx, r.offsetSet, next, group, q.Topic, q.ID, at)
	if err != nil {
		return fmt.Errorf("sqltx: advance: %w", err)
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return errors.Join(err, fenced()) // another transaction was faster
	}
	return nil
}
