package bbolttx_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/txn"
	"github.com/embermq/embermq/txn/bbolttx"
	"github.com/embermq/embermq/txn/txntest"
)

var (
	images = flag.Int("tx.images", 400, "images that TestCrash looks at")
	many   = flag.Int("tx.many", 2000, "transactions of TestMarkersAreRemoved")
)

// database is a bbolt that is copied to make it crash: bbolt's file always holds
// the last committed transaction.
type database struct {
	*bbolttx.Resource
	db  *bbolt.DB
	dir string
	n   *int
}

func opener(t *testing.T) func(l txn.Ledger) (txntest.Database, error) {
	dir, n := t.TempDir(), 0
	return func(l txn.Ledger) (txntest.Database, error) { return openFile(dir, &n, l) }
}

func (d *database) next() string {
	*d.n++
	return filepath.Join(d.dir, fmt.Sprintf("%d.db", *d.n))
}

func openFile(dir string, n *int, l txn.Ledger) (*database, error) {
	d := &database{dir: dir, n: n}
	return d.open(d.next(), l)
}

func (d *database) open(path string, l txn.Ledger) (_ *database, err error) {
	c := &database{dir: d.dir, n: d.n}
	// What a crash leaves of bbolt's own pages is bbolt's business.
	if c.db, err = bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true, NoGrowSync: true, NoFreelistSync: true}); err != nil {
		return nil, err
	}
	c.Resource = bbolttx.New(c.db, l, bbolttx.Options{})
	return c, nil
}

func (d *database) Transact(id message.HalfID) error {
	return d.db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte("rows"))
		if err != nil {
			return err
		}
		if err := b.Put([]byte(id), []byte("x")); err != nil {
			return err
		}
		return d.Mark(tx, id)
	})
}

func (d *database) Has(id message.HalfID) (ok bool, err error) {
	err = d.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("rows"))
		ok = b != nil && b.Get([]byte(id)) != nil
		return nil
	})
	return ok, err
}

func (d *database) Crash(l txn.Ledger) (txntest.Database, error) {
	path := d.next()
	if err := d.db.View(func(tx *bbolt.Tx) error { return tx.CopyFile(path, 0o600) }); err != nil {
		return nil, err
	}
	return d.open(path, l)
}

func (d *database) Close() error {
	path := d.db.Path()
	if err := d.db.Close(); err != nil {
		return err
	}
	return os.Remove(path)
}

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

func TestOffsets(t *testing.T) {
	n := 0
	db, err := openFile(t.TempDir(), &n, nil)
	require.NoError(t, err)
	defer db.Close()
	q := message.Queue{Topic: "t", ID: 3}
	_, ok, err := db.Offset("g", q)
	require.NoError(t, err)
	require.False(t, ok)
	effect := 0
	advance := func(from, next int64) error {
		return db.db.Update(func(tx *bbolt.Tx) error {
			tx.OnCommit(func() { effect++ })
			return db.Advance(tx, "g", q, from, next)
		})
	}
	require.NoError(t, advance(0, 5))
	require.ErrorIs(t, advance(0, 5), message.ErrFenced)
	require.ErrorIs(t, advance(4, 9), message.ErrFenced)
	require.ErrorIs(t, advance(6, 5), message.ErrInvalidMessage)
	require.NoError(t, advance(5, 9))
	require.Equal(t, 2, effect)
	next, ok, err := db.Offset("g", q)
	require.NoError(t, err)
	require.True(t, ok)
	require.EqualValues(t, 9, next)
}
