package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	iofs "io/fs"
	"time"

	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
)

// RocketMQ's own checkpoint file, a page. On disk, big-endian: three store times in
// ms (log, queues, index) and two offsets, which a single master leaves 0. Behind
// them RocketMQ has nothing; our checksum of the first sector ends it, so that no
// crash tears it from the times.
const (
	timestampsSize = 4096
	timestampsSum  = 508
)

// lastTimestamp is the store time of the last record at the last checkpoint, 0 if
// that is not known for certain: a wild time would be that of every record to come.
func (s *Store) lastTimestamp() (int64, error) {
	f, err := s.root.Open("checkpoint", fs.ReadOnly)
	if errors.Is(err, iofs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("store: read RocketMQ's checkpoint: %w", err)
	}
	var b [timestampsSum + 4]byte
	_, err = f.ReadAt(b[:], 0)
	if err = errors.Join(err, f.Close()); err != nil && !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("store: read RocketMQ's checkpoint: %w", err)
	}
	if binary.BigEndian.Uint32(b[timestampsSum:]) != crc32.ChecksumIEEE(b[:timestampsSum]) {
		return 0, nil // torn, or RocketMQ's
	}
	// A clock that was far ahead must not stop ours.
	return min(int64(binary.BigEndian.Uint64(b[:])), s.cfg.env.Clock.Now().Add(24*time.Hour).UnixMilli()), nil
}

// writeTimestamps keeps RocketMQ's checkpoint such that its recovery starts early
// enough: it goes by times, not offsets.
func (s *Store) writeTimestamps() error {
	f, err := s.root.Open("checkpoint", fs.Create)
	if err != nil {
		return fmt.Errorf("store: write RocketMQ's checkpoint: %w", err)
	}
	defer f.Close()
	last := s.storeMS.Load()
	oldest := last
	if position, ok := s.queues.OldestInMemory(); ok {
		oldest = 1 // start at the first segment unless the record tells better
		var r message.Record
		if s.log.RecordAt(position, &r) == nil {
			oldest = r.StoredAtMillis()
		}
	}
	var b [timestampsSize]byte
	binary.BigEndian.PutUint64(b[0:], uint64(last))
	binary.BigEndian.PutUint64(b[8:], uint64(max(oldest, 1)))
	binary.BigEndian.PutUint32(b[timestampsSum:], crc32.ChecksumIEEE(b[:timestampsSum]))
	if _, err := f.WriteAt(b[:], 0); err != nil {
		return fmt.Errorf("store: write RocketMQ's checkpoint: %w", err)
	}
	return nil
}
