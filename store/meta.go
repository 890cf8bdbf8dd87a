package store

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/internal/kv"
	"github.com/embermq/embermq/message"
)

// prefixEnd is the first key after all keys that begin with prefix.
func prefixEnd(prefix string) []byte {
	b := []byte(prefix)
	b[len(b)-1]++
	return b
}

// setMark puts a view's mark into the batch that also holds its data, so that
// both become durable together.
func setMark(b *kv.Batch, key string, m message.Mark) {
	v := binary.BigEndian.AppendUint64(nil, uint64(m.Offset))
	v = binary.BigEndian.AppendUint32(v, m.Fingerprint)
	b.Set([]byte(key), v)
}

func loadMark(db *kv.DB, key string) (m message.Mark, ok bool, err error) {
	v, ok, err := db.Get([]byte(key))
	if err != nil || !ok {
		return m, false, mapMeta(err)
	}
	if len(v) != 12 {
		return m, false, fmt.Errorf("store: meta key %s has %d bytes: %w", key, len(v), message.ErrCorrupt)
	}
	m.Offset = int64(binary.BigEndian.Uint64(v))
	m.Fingerprint = binary.BigEndian.Uint32(v[8:])
	return m, true, nil
}

// mapMeta turns the errors of meta into the store's own.
func mapMeta(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, kv.ErrClosed):
		return fmt.Errorf("%w: %w", ErrClosed, err)
	case errors.Is(err, kv.ErrCorrupt) && !errors.Is(err, ErrCorrupt):
		// First: what Pebble finds in the background poisons it, too.
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if errors.Is(err, kv.ErrPoisoned) && !errors.Is(err, ErrPoisoned) {
		return fmt.Errorf("%w: %w", ErrPoisoned, err)
	}
	return typedFull(err)
}

// typedFull gives an error of a file system without room the store's own word.
func typedFull(err error) error {
	if fs.IsFull(err) && !errors.Is(err, ErrDiskFull) {
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	}
	return err
}
