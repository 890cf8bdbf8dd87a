package store

import (
	"context"
	"io"
	"sync"
	"sync/atomic"

	"github.com/embermq/embermq/commitlog"
	"github.com/embermq/embermq/consumequeue"
	"github.com/embermq/embermq/dedupe"
	"github.com/embermq/embermq/group"
	"github.com/embermq/embermq/index"
	"github.com/embermq/embermq/internal/kv"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/progress"
	"github.com/embermq/embermq/schedule"
	"github.com/embermq/embermq/txn"
)

// Store is an open directory. All methods may be called concurrently.
type Store struct {
	cfg    *config
	format format
	folders
	lock       io.Closer
	owner      owner
	previous   owner       // whose abort file was there
	live       bool        // read-only, beside a process that writes
	queuesGone bool        // their folder was not there
	imported   *imported   // while the directory is imported
	rule       *importRule // nil without an import

	log       *commitlog.Log
	logReady  atomic.Pointer[commitlog.Log] // log, for goroutines that start before it is open
	db        *kv.DB
	metaReady atomic.Pointer[kv.DB] // db, likewise
	topics    *topics
	queues    *consumequeue.Queues
	progress  *progress.Progress
	groups    *group.Coordinator
	index     *index.Index // nil without
	timers    *schedule.Schedule
	halves    *txn.Coordinator
	dedupe    *dedupe.Window // nil without WithDedupe
	levels    schedule.Levels
	dispatch  dispatcher
	puttings  sync.Pool // *putting
	ids       *message.IDs

	full, tight  atomic.Bool  // the disk is at the Full, at the Clean watermark
	checkpointed atomic.Int64 // log offset of the last saved checkpoint
	storeMS      atomic.Int64 // store time of the last record that was frozen
	dirty        atomic.Bool  // records have arrived since the last freeze
	many         atomic.Bool  // so many of them that they are worth a checkpoint
	expiredFiles atomic.Bool  // queue files wait for the next checkpoint to go
	saving       sync.Mutex   // one checkpoint at a time
	expiring     sync.Mutex   // starts of queues move; before topics.change
	pins         atomic.Int32 // copies under way, which need every segment
	nudge        chan struct{}
	work         work // the background goroutine's own

	ctx        context.Context // ends when Close begins
	cancel     context.CancelFunc
	closing    chan struct{}
	closed     atomic.Bool
	closeOnce  sync.Once
	background sync.WaitGroup

	stats    counters
	recovery Recovery
}

// Progress gives consumer groups: settings, committed offsets.
func (s *Store) Progress() *progress.Progress { return s.progress }
