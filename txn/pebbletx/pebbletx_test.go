package pebbletx_test

import (
	"flag"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/txn"
	"github.com/embermq/embermq/txn/pebbletx"
	"github.com/embermq/embermq/txn/txntest"
)

var (
	images = flag.Int("tx.images", 1000, "images that TestCrash looks at")
	many   = flag.Int("tx.many", 2000, "transactions of TestMarkersAreRemoved")
)

// database is Pebble on a disk in memory that can lose what was not synced.
type database struct {
	*pebbletx.Resource
	fs *vfs.MemFS
	db *pebble.DB
}

func open(l txn.Ledger) (txntest.Database, error) { return openOn(vfs.NewCrashableMem(), l) }

func openOn(fs *vfs.MemFS, l txn.Ledger) (*database, error) {
	db, err := pebble.Open("db", &pebble.Options{FS: fs, MemTableSize: 64 << 10, Logger: quiet{}})
	if err != nil {
		return nil, err
	}
	return &database{pebbletx.New(db, l, pebbletx.Options{}), fs, db}, nil
}

type quiet struct{}

func (quiet) Infof(string, ...any)      {}
func (quiet) Errorf(string, ...any)     {}
func (quiet) Fatalf(f string, v ...any) { panic(f) }

func (d *database) Transact(id message.HalfID) error {
	b := d.db.NewBatch()
	defer b.Close()
	if err := b.Set([]byte("row/"+id), []byte("x"), nil); err != nil {
		return err
	}
	return d.Commit(id, b)
}

func (d *database) Has(id message.HalfID) (bool, error) {
	_, c, err := d.db.Get([]byte("row/" + id))
	if err == pebble.ErrNotFound {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, c.Close()
}

func (d *database) Crash(l txn.Ledger) (txntest.Database, error) {
	return openOn(d.fs.CrashClone(vfs.CrashCloneCfg{}), l)
}

func (d *database) Close() error { return d.db.Close() }

func TestCrash(t *testing.T) {
	for seed, left := uint64(1), *images; left > 0; seed, left = seed+1, left-200 {
		require.NoError(t, txntest.Script(seed, min(left, 200), open))
	}
}

func TestMarkersAreRemoved(t *testing.T) {
	n, err := txntest.Many(*many, open)
	require.NoError(t, err)
	require.LessOrEqual(t, n, 1000)
	require.LessOrEqual(t, n, *many/4)
}

func TestOffsets(t *testing.T) {
	db, err := openOn(vfs.NewCrashableMem(), nil)
	require.NoError(t, err)
	q := message.Queue{Topic: "t", ID: 3}
	_, ok, err := db.Offset("g", q)
	require.NoError(t, err)
	require.False(t, ok)
	advance := func(from, next int64) error {
		b := db.db.NewBatch()
		defer b.Close()
		require.NoError(t, b.Merge([]byte("sum"), []byte("x"), nil))
		return db.Advance("g", q, from, next, b)
	}
	require.NoError(t, advance(0, 5))
	require.ErrorIs(t, advance(0, 5), message.ErrFenced)
	require.ErrorIs(t, advance(4, 9), message.ErrFenced)
	require.ErrorIs(t, advance(6, 5), message.ErrInvalidMessage)
	require.NoError(t, advance(5, 9))
	again, err := openOn(db.fs.CrashClone(vfs.CrashCloneCfg{}), nil)
	require.NoError(t, err)
	next, ok, err := again.Offset("g", q)
	require.NoError(t, err)
	require.True(t, ok)
	require.EqualValues(t, 9, next)
	v, c, err := again.db.Get([]byte("sum"))
	require.NoError(t, err)
	require.Equal(t, "xx", string(v))
	require.NoError(t, c.Close())
	require.NoError(t, again.Close())
	require.NoError(t, db.Close())
}
