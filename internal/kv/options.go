package kv

import (
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"

	"github.com/embermq/embermq/internal/clock"
)

// Options of Open. The zero value is right for a small store.
type Options struct {
	// ReadOnly opens without writing a byte and without a lock: the caller knows
	// that nobody else writes. Log records that Close left behind are read into
	// memory.
	ReadOnly bool
	// MustExist refuses to make a database where there is none.
	MustExist bool
	// MemTable is how many bytes of changes are kept in memory before they go to
	// a table by themselves, and so how much an unclean Open may have to replay.
	// 0 means 1 MiB.
	MemTable int
	// Cache is the room for blocks of tables in memory, the memtable included.
	// It is taken when used. 0 means 4 MiB.
	Cache int
	// LargeBallast makes the ballast 16 MiB instead of 1 MiB from the start, as
	// Grow does later.
	LargeBallast bool
	// Clock tells when a write that waits for room is tried again. nil is the
	// real one.
	Clock clock.Clock
}

func (o Options) withDefaults() Options {
	if o.MemTable <= 0 {
		o.MemTable = 1 << 20
	}
	if o.Cache <= 0 {
		o.Cache = 4 << 20
	}
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
	return o
}

// pebbleOptions is for quick opens, few goroutines and small files. Everything
// that is not named is Pebble's default.
func (o Options) pebbleOptions(p *pebbleFS, l *fatal, s *scheduler) *pebble.Options {
	po := &pebble.Options{
		FS:                 p,
		ReadOnly:           o.ReadOnly,
		ErrorIfNotExists:   o.MustExist,
		FormatMajorVersion: pebble.FormatNewest,
		Logger:             l,
		EventListener: &pebble.EventListener{
			BackgroundError: l.background,
			// The default ends the process; without it the read returns its error.
			DataCorruption: func(pebble.DataCorruptionInfo) {},
		},
		CacheSize:                   int64(o.Cache),
		MaxOpenFiles:                64,
		MemTableSize:                uint64(o.MemTable),
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       16, // rarer compactions: reads are rare, or long scans
		L0StopWritesThreshold:       64,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 1 },
	}
	po.Experimental.CompactionScheduler = s
	po.Experimental.FileCacheShards = 1
	// Compactions that are started by reads would make a reader take Pebble's
	// main lock.
	po.Experimental.ReadSamplingMultiplier = -1
	for i := range po.Levels {
		po.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return po
}
