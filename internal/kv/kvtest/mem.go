// Package kvtest is a key-value store in memory for the tests of packages that
// keep rows: it keeps the promises of package kv and no more of them, so that a
// model can choose what a crash leaves.
package kvtest

import (
	"context"
	"errors"
	"iter"
	"sync"

	"github.com/google/btree"

	"github.com/embermq/embermq/internal/kv"
)

// ErrDisk is what a batch gets that is made to fail.
var ErrDisk = errors.New("disk says no")

// Mem keeps a version of all rows for each batch that a crash may still take:
// batches are lost from the end only, and never below a synced one.
type Mem struct {
	// Fail makes the Fail-th batch from now fail; 0 is none. After makes it fail
	// when it is there already. Set them while nobody calls.
	Fail  int
	After bool

	mu       sync.Mutex
	versions []*version // the first survives for certain
}

// version is all rows at one time.
type version struct{ *btree.BTreeG[row] }

type row struct{ key, value string }

// New returns an empty store.
func New() *Mem {
	return &Mem{versions: []*version{{btree.NewG(16, func(a, b row) bool { return a.key < b.key })}}}
}

// Versions is how many outcomes a crash has now.
func (m *Mem) Versions() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.versions)
}

// Cut returns the store after a crash with outcome n: 0 lost most, Versions()-1
// nothing.
func (m *Mem) Cut(n int) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &Mem{versions: []*version{m.versions[n].clone()}}
}

// Apply is kv.DB's.
func (m *Mem) Apply(_ context.Context, b *kv.Batch, sync bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	failing := m.Fail == 1
	m.Fail = max(0, m.Fail-1)
	if failing && !m.After {
		return ErrDisk
	}
	next := m.nowLocked().clone()
	if err := b.Replay(next); err != nil {
		return err
	}
	if sync && !failing {
		m.versions = nil
	}
	m.versions = append(m.versions, next)
	if failing {
		return ErrDisk
	}
	return nil
}

// Scan is kv.DB's.
func (m *Mem) Scan(from, to []byte) iter.Seq2[kv.KV, error] {
	m.mu.Lock()
	now := m.nowLocked().clone()
	m.mu.Unlock()
	return func(yield func(kv.KV, error) bool) {
		var k, v []byte
		now.AscendRange(row{key: string(from)}, row{key: string(to)}, func(r row) bool {
			k, v = append(k[:0], r.key...), append(v[:0], r.value...)
			more := yield(kv.KV{Key: k, Value: v}, nil)
			clear(k) // lent for one step: who keeps them finds out
			clear(v)
			return more
		})
	}
}

func (m *Mem) nowLocked() *version { return m.versions[len(m.versions)-1] }

func (v *version) clone() *version { return &version{v.Clone()} }

// Set, Delete and DeleteRange make a version a kv.Writer.
func (v *version) Set(key, value []byte) { v.ReplaceOrInsert(row{string(key), string(value)}) }

func (v *version) Delete(key []byte) { v.BTreeG.Delete(row{key: string(key)}) }

func (v *version) DeleteRange(from, to []byte) {
	var gone []row
	v.AscendRange(row{key: string(from)}, row{key: string(to)}, func(r row) bool { gone = append(gone, r); return true })
	for _, r := range gone {
		v.BTreeG.Delete(r)
	}
}
