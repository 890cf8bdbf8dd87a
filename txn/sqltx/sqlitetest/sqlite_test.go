package sqlitetest

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/txn"
	"github.com/embermq/embermq/txn/sqltx"
	"github.com/embermq/embermq/txn/txntest"
)

var (
	images = flag.Int("tx.images", 300, "images that TestCrash looks at")
	many   = flag.Int("tx.many", 2000, "transactions of TestMarkersAreRemoved")
	bg     = context.Background()
)

// database is a SQLite file that is copied, as of its last transaction, to make
// it crash.
type database struct {
	*sqltx.Resource
	db   *sql.DB
	dir  string
	path string
	n    *int
}

func opener(t *testing.T) func(l txn.Ledger) (txntest.Database, error) {
	dir, n := t.TempDir(), 0
	return func(l txn.Ledger) (txntest.Database, error) {
		n++
		return open(dir, filepath.Join(dir, fmt.Sprint(n)), &n, l)
	}
}

func open(dir, path string, n *int, l txn.Ledger) (*database, error) {
	// What a crash leaves of SQLite's own pages is SQLite's business.
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=synchronous(0)&_pragma=journal_mode(memory)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	r, err := sqltx.New(db, l, sqltx.Options{})
	if err == nil {
		err = r.Create(bg)
	}
	if err == nil {
		_, err = db.Exec("CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY)")
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &database{r, db, dir, path, n}, nil
}

// transact rolls back when f fails.
func (d *database) transact(f func(tx *sql.Tx) error) error {
	tx, err := d.db.Begin()
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func (d *database) Transact(id message.HalfID) error {
	return d.transact(func(tx *sql.Tx) error {
		if _, err := tx.Exec("INSERT INTO orders (id) VALUES (?)", string(id)); err != nil {
			return err
		}
		return d.Mark(bg, tx, id)
	})
}

func (d *database) Has(id message.HalfID) (bool, error) {
	var n int
	err := d.db.QueryRow("SELECT COUNT(*) FROM orders WHERE id = ?", string(id)).Scan(&n)
	return n == 1, err
}

func (d *database) Crash(l txn.Ledger) (txntest.Database, error) {
	*d.n++
	path := filepath.Join(d.dir, fmt.Sprint(*d.n))
	b, err := os.ReadFile(d.path) // no transaction is under way
	if err == nil {
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		return nil, err
	}
	return open(d.dir, path, d.n, l)
}

func (d *database) Close() error { return errors.Join(d.db.Close(), os.Remove(d.path)) }

func TestCrash(t *testing.T) {
	open := opener(t)
	for seed, left := uint64(1), *images; left > 0; seed, left = seed+1, left-200 {
		require.NoError(t, txntest.Script(seed, min(left, 200), open))
	}
}

func TestMarkersAreRemoved(t *testing.T) {
	n, err := txntest.Many(*many, opener(t))
	require.NoError(t, err)
	require.LessOrEqual(t, n, 1000)
	require.LessOrEqual(t, n, *many/4)
}

// TestMissingTable: a database that is not there yet leaves halves pending.
func TestMissingTable(t *testing.T) {
	db, err := opener(t)(nil)
	require.NoError(t, err)
	defer db.Close()
	d := db.(*database)
	_, err = d.db.Exec("DROP TABLE " + sqltx.DefaultMarkers)
	require.NoError(t, err)
	_, err = d.Settle(bg, "x")
	require.Error(t, err)
	require.NoError(t, d.Create(bg))
	how, err := d.Settle(bg, "x")
	require.NoError(t, err)
	require.Equal(t, message.RolledBack, how)
}

func TestOffsets(t *testing.T) {
	db, err := opener(t)(nil)
	require.NoError(t, err)
	defer db.Close()
	d := db.(*database)
	q := message.Queue{Topic: "t", ID: 3}
	_, ok, err := d.Offset(bg, "g", q)
	require.NoError(t, err)
	require.False(t, ok)
	advance := func(from, next int64) error {
		return d.transact(func(tx *sql.Tx) error {
			if _, err := tx.Exec("INSERT INTO orders (id) VALUES (?)", fmt.Sprint(from)); err != nil {
				return err
			}
			return d.Advance(bg, tx, "g", q, from, next)
		})
	}
	require.NoError(t, advance(0, 5))
	require.Error(t, advance(0, 5))
	require.ErrorIs(t, advance(4, 9), message.ErrFenced)
	require.ErrorIs(t, advance(6, 5), message.ErrInvalidMessage)
	require.NoError(t, advance(5, 9))
	next, ok, err := d.Offset(bg, "g", q)
	require.NoError(t, err)
	require.True(t, ok)
	require.EqualValues(t, 9, next)
	var n int
	require.NoError(t, d.db.QueryRow("SELECT COUNT(*) FROM orders").Scan(&n))
	require.Equal(t, 2, n)
}
