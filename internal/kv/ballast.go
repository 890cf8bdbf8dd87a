package kv

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"sync"

	"github.com/embermq/embermq/internal/fs"
)

// Sizes of the ballast: enough for Pebble to flush its memtable and write a new
// MANIFEST, and for a large store enough for a compaction of its small levels.
const (
	ballastName  = "ballast"
	ballastSmall = 1 << 20
	ballastLarge = 16 << 20
)

// ballast is a file that only takes up room. When the disk is full it is
// deleted, and what Pebble must write to carry on fits into its place.
type ballast struct {
	gate *gate

	mu   sync.Mutex
	want int64 // guarded by mu; 0 in a read-only DB
	have int64 // guarded by mu
	err  error // guarded by mu: why the last try to lay it down failed
}

// giveBack deletes the file and reports whether that made room.
func (b *ballast) giveBack() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.have == 0 {
		return false
	}
	b.have = 0
	return b.remove() == nil
}

func (b *ballast) remove() error {
	return b.gate.call(func() error { return b.gate.fs.Remove(ballastName) })
}

// size is the room that the file takes up now.
func (b *ballast) size() (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.have, b.err
}

// find takes over the file of an earlier life, so that it can be given back
// while Pebble opens.
func (b *ballast) find() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	err := b.gate.read(func() error {
		e, err := b.gate.fs.Stat(ballastName)
		if err == nil {
			b.have = e.Size
		}
		return err
	})
	if errors.Is(err, iofs.ErrNotExist) {
		return nil
	}
	return err
}

// restore lays the ballast down again, or a larger one than before, if twice
// its size is free: taking the last room would only bring the next write to
// giving it back. A failure matters to nobody yet and is kept for Stats.
func (b *ballast) restore(atLeast int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.want = max(b.want, atLeast)
	if b.have >= b.want {
		return
	}
	b.err = b.gate.call(func() error {
		u, err := b.gate.fs.Usage()
		if err != nil && !errors.Is(err, fs.ErrUnsupported) {
			return err
		}
		if err == nil && u.Free < 2*(b.want-b.have) {
			return nil
		}
		if err := lay(b.gate.fs, b.want); err != nil {
			b.have = 0
			_ = b.gate.fs.Remove(ballastName) // half a ballast would only count as a whole one
			return fmt.Errorf("kv: ballast: %w", err)
		}
		b.have = b.want
		return nil
	})
}

// lay makes the file and really takes up its room.
func lay(fsys fs.FS, size int64) error {
	f, err := fsys.Open(ballastName, fs.Create)
	if err != nil {
		return err
	}
	err = fill(f, size)
	return errors.Join(err, f.Close())
}

func fill(f fs.File, size int64) error {
	if err := f.Truncate(size); err != nil {
		return err
	}
	err := f.Preallocate(0, size)
	if errors.Is(err, fs.ErrUnsupported) {
		err = zero(f, size)
	}
	if err != nil {
		return err
	}
	// Without this a power cut could leave the length without the room.
	return f.Sync()
}

func zero(f fs.File, size int64) error {
	buf := make([]byte, 64<<10)
	for off := int64(0); off < size; off += int64(len(buf)) {
		if _, err := f.WriteAt(buf[:min(int64(len(buf)), size-off)], off); err != nil {
			return err
		}
	}
	return nil
}
