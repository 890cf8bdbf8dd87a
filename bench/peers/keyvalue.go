package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"path/filepath"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/dgraph-io/badger/v4"
	"go.etcd.io/bbolt"

	"github.com/embermq/embermq/message"
)

// Key-value stores: a message is a value under the next number, how far a reader
// is stands under a key of its own.

var (
	bucket   = []byte("orders")
	progress = []byte("~billing") // behind all numbers
)

// numbers gives keys in order.
type numbers struct{ last atomic.Uint64 }

func (n *numbers) next() []byte { return key(n.last.Add(1)) }

func key(n uint64) []byte { return binary.BigEndian.AppendUint64(make([]byte, 0, 8), n) }

type boltPeer struct {
	numbers
	db *bbolt.DB
}

// boltIn gathers concurrent puts by itself (Batch), a single one is a transaction.
// Without sync its pages are written all the same, and survive a kill.
func boltIn(d message.Durability) library {
	return library{"bbolt", d, true, func(dir string) (peer, error) {
		db, err := bbolt.Open(filepath.Join(dir, "db"), 0o600, &bbolt.Options{NoSync: d == message.InCache, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType})
		if err != nil {
			return nil, err
		}
		db.MaxBatchSize, db.MaxBatchDelay = 64, 0
		p := &boltPeer{db: db}
		return p, db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucket(bucket)
			if err == nil {
				b.FillPercent = 0.9 // keys come in order
			}
			return err
		})
	}}
}

func (p *boltPeer) putter() (func(bodies ...[]byte) error, error) {
	return func(bodies ...[]byte) error {
		return p.db.Batch(func(tx *bbolt.Tx) error {
			b := tx.Bucket(bucket)
			b.FillPercent = 0.9
			for _, body := range bodies {
				if err := b.Put(p.next(), body); err != nil {
					return err
				}
			}
			return nil
		})
	}, nil
}

func (p *boltPeer) drain(n int, stop *atomic.Bool) (read int, err error) {
	from := key(0)
	for read < n && !stop.Load() {
		before := read
		err := p.db.Update(func(tx *bbolt.Tx) error {
			c := tx.Bucket(bucket).Cursor()
			k, _ := c.Seek(from)
			for ; k != nil && read < n && read-before < commitEvery; k, _ = c.Next() {
				read++
			}
			from = bytes.Clone(k)
			return tx.Bucket(bucket).Put(progress, from)
		})
		if err != nil || from == nil {
			return read, err
		}
	}
	return read, nil
}

func (p *boltPeer) close() error { return p.db.Close() }

type pebblePeer struct {
	numbers
	db *pebble.DB
	o  *pebble.WriteOptions
}

// pebbleIn without sync is weaker than its neighbours: what is new is still in the
// process, and a kill may lose it.
func pebbleIn(d message.Durability) library {
	name, o := "pebble", pebble.Sync
	if d == message.InCache {
		name, o = "pebble (a kill may lose)", pebble.NoSync
	}
	return library{name, d, true, func(dir string) (peer, error) {
		db, err := pebble.Open(dir, &pebble.Options{Logger: silent{}, MemTableSize: 64 << 20})
		if err != nil {
			return nil, err
		}
		return &pebblePeer{db: db, o: o}, nil
	}}
}

type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}
func (silent) Fatalf(string, ...any) {}

func (p *pebblePeer) putter() (func(bodies ...[]byte) error, error) {
	return func(bodies ...[]byte) error {
		b := p.db.NewBatch()
		for _, body := range bodies {
			if err := b.Set(p.next(), body, nil); err != nil {
				return err
			}
		}
		return errors.Join(b.Commit(p.o), b.Close())
	}, nil
}

func (p *pebblePeer) drain(n int, stop *atomic.Bool) (read int, err error) {
	it, err := p.db.NewIter(nil)
	if err != nil {
		return 0, err
	}
	for ok := it.First(); ok && read < n && !stop.Load(); ok = it.Next() {
		if _, err := it.ValueAndErr(); err != nil {
			return read, errors.Join(err, it.Close())
		}
		if read++; read%commitEvery == 0 {
			if err := p.db.Set(progress, key(uint64(read)), pebble.NoSync); err != nil {
				return read, errors.Join(err, it.Close())
			}
		}
	}
	return read, it.Close()
}

func (p *pebblePeer) close() error { return p.db.Close() }

type badgerPeer struct {
	numbers
	db *badger.DB
}

// badgerIn writes through a mapping, which survives a kill.
func badgerIn(d message.Durability) library {
	return library{"badger", d, true, func(dir string) (peer, error) {
		db, err := badger.Open(badger.DefaultOptions(dir).WithSyncWrites(d == message.OnDisk).WithLogger(nil).WithMetricsEnabled(false))
		if err != nil {
			return nil, err
		}
		return &badgerPeer{db: db}, nil
	}}
}

func (p *badgerPeer) putter() (func(bodies ...[]byte) error, error) {
	return func(bodies ...[]byte) error {
		return p.db.Update(func(tx *badger.Txn) error {
			for _, body := range bodies {
				if err := tx.Set(p.next(), body); err != nil {
					return err
				}
			}
			return nil
		})
	}, nil
}

func (p *badgerPeer) drain(n int, stop *atomic.Bool) (read int, err error) {
	err = p.db.View(func(tx *badger.Txn) error {
		it := tx.NewIterator(badger.IteratorOptions{PrefetchValues: true, PrefetchSize: 100})
		defer it.Close()
		for it.Rewind(); it.Valid() && read < n && !stop.Load(); it.Next() {
			if err := it.Item().Value(func([]byte) error { return nil }); err != nil {
				return err
			}
			if read++; read%commitEvery == 0 {
				if err := p.db.Update(func(tx *badger.Txn) error { return tx.Set(progress, key(uint64(read))) }); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return read, err
}

func (p *badgerPeer) close() error { return p.db.Close() }
