package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/embermq/embermq/commitlog"
	"github.com/embermq/embermq/consumequeue"
	"github.com/embermq/embermq/index"
	"github.com/embermq/embermq/internal/kv"
	"github.com/embermq/embermq/internal/plant"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/progress"
)

// Open opens the store in dir and makes it when dir is missing or empty. A
// directory of Apache RocketMQ becomes a store: topics, committed offsets, delayed
// and half messages are taken over (Stats().Recovery.Import), queue files and
// index are built anew, the log stays as it is. After a crash Open recovers first:
// it cuts a torn tail, rewrites and syncs what the last process may not have
// synced, and replays what views have not saved; Stats().Recovery tells what was
// done. Open changes nothing when it fails with a *CorruptError: OpenReadOnly
// reads such a directory.
//
// Only one process, and one Store in it, may have a directory open; others get
// *LockedError with the holder's process id. Other errors are *OptionMismatchError
// for options that disagree with the directory, *MissingError for a part that is
// not mounted, ErrUnknownFormat for a directory that is not a store or is a newer
// program's, ErrUnsupported for RocketMQ's with another kind of queues, all
// problems of the options at once, and those of the file system.
func Open(dir string, opts ...Option) (*Store, error) {
	return open(dir, false, opts)
}

// OpenReadOnly opens the log and the queues of a store without writing a byte,
// also beside a process that has it open: it then shows what was on disk at the time
// of the call. A torn tail is cut in memory only. Beside damage everything else is
// readable, and reading the damage gives *CorruptError. Puts and settings return
// ErrReadOnly; groups, timers and transactions belong to the writer.
func OpenReadOnly(dir string, opts ...Option) (*Store, error) {
	return open(dir, true, opts)
}

func open(dir string, readOnly bool, opts []Option) (*Store, error) {
	c, err := newConfig(opts)
	if err != nil {
		return nil, err
	}
	c.readOnly = readOnly
	s := &Store{cfg: c, closing: make(chan struct{}), nudge: make(chan struct{}, 1)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.ids = message.NewIDs(c.env.Clock.Now)
	began := c.env.Clock.Now()
	if err := s.open(dir); err != nil {
		s.cancel()
		return nil, errors.Join(err, s.abandon())
	}
	s.recovery.Took = c.env.Clock.Now().Sub(began)
	if !readOnly {
		_, _ = s.look() // retention tells of an error
	}
	if !c.env.Manual && !readOnly {
		s.startBackground()
	}
	return s, nil
}

func (s *Store) open(dir string) error {
	if err := s.openRoot(dir, !s.cfg.readOnly); err != nil {
		return err
	}
	if err := s.claim(dir); err != nil {
		return err
	}
	if err := s.openQueues(); err != nil {
		return err
	}
	if err := s.readLevels(); err != nil {
		return err
	}
	g := newGate()
	meta := make(chan error, 1)
	go func() { meta <- s.openMeta(g) }() // Pebble reads its log while ours is scanned
	err := s.openLog(g)
	g.decide(err)
	if metaErr := <-meta; err == nil {
		err = metaErr
	}
	if err != nil {
		return err
	}
	if err := s.openViews(); err != nil {
		return mapMeta(err)
	}
	return mapMeta(s.replay())
}

// claim takes the lock, tells what the directory is and opens its folders. A new
// one is laid out.
func (s *Store) claim(dir string) (err error) {
	if !s.cfg.readOnly {
		if s.lock, err = takeLock(s.root); err != nil {
			return err
		}
	}
	f, found, err := readFormat(s.state)
	if err != nil {
		return err
	}
	if !found && s.cfg.readOnly {
		// A store whose FORMAT is gone is damaged, and not nothing.
		if err := s.openFolders(dir, true); err == nil && errors.Is(s.vacant(), ErrCorrupt) {
			return &CorruptError{Path: s.state.Path(formatName), Reason: "missing"}
		}
		return fmt.Errorf("store: %s holds no store: %w", s.root.Path("."), ErrNotFound)
	}
	if found {
		if err := f.agree(s.cfg); err != nil {
			return err
		}
	}
	if err := s.openFolders(dir, !found); err != nil {
		return err
	}
	if found {
		s.format = f
		if err := s.present(); err != nil {
			return err
		}
		if err := s.importAgain(); err != nil {
			return err
		}
	} else if err := s.begin(); err != nil {
		return err
	}
	if s.cfg.readOnly {
		s.live = heldElsewhere(s.root)
		return nil
	}
	if s.previous, _, err = readAbort(s.root); err != nil {
		return err
	}
	s.owner = newOwner(s.cfg.env.PID, s.previous)
	if s.recovery.New {
		if plant.Enabled && plant.Is(plant.StoreEarlyFormat) {
			if err := errors.Join(s.makeFolders(), writeFormat(s.state, s.format)); err != nil {
				return err
			}
		}
		return s.makeFolders()
	}
	return nil
}

// begin says what a directory becomes that is not a store yet: an import, if
// another program's log is there, or a new store.
func (s *Store) begin() error {
	foreign, err := s.foreignDirectory()
	if err != nil {
		return err
	}
	if foreign {
		return s.beginImport()
	}
	if err := s.vacant(); err != nil {
		return err
	}
	s.format = newFormat(s.cfg)
	s.recovery.New = true
	return nil
}

// openQueues reads what was saved of the queues. It comes before the log, which
// verifies what the queues will want to replay.
func (s *Store) openQueues() (err error) {
	s.queues, err = consumequeue.Open(s.queueFS, s.state, consumequeue.Options{
		FileSize:     s.format.queueFileSize,
		TailBudget:   s.cfg.tailMemory,
		MaxOpenFiles: s.cfg.openFiles,
		Synced:       s.synced,
		Manual:       s.cfg.env.Manual,
		ReadOnly:     s.cfg.readOnly,
		LiveWriter:   s.live,
		Rebuild:      s.rebuildQueues,
		Sums:         queueSums{s},
		Clock:        s.cfg.env.Clock,
		Logger:       s.cfg.logger,
	})
	s.dispatch.queues = s.queues
	return err
}

// synced is how far queue entries may reach files; nothing before the log is open.
func (s *Store) synced() int64 {
	if l := s.logReady.Load(); l != nil {
		return l.Synced()
	}
	return 0
}

func (s *Store) openLog(g *gate) error {
	verify, _ := s.queues.Saved()
	foreign, err := readForeign(s.state)
	if err != nil {
		return err
	}
	s.dispatch.grown, s.dispatch.entry, s.dispatch.foreign = s.grown, s.entryOf, s.foreign
	s.dispatch.readOnly, s.dispatch.lost = s.cfg.readOnly, -1
	s.log, err = commitlog.Open(s.logFS, s.state, commitlog.Options{
		SegmentSize: s.format.segmentSize,
		MaxUnsynced: s.cfg.maxUnsynced,
		OnDisk:      s.cfg.durability == message.OnDisk,
		Clock:       s.cfg.env.Clock,
		Manual:      s.cfg.env.Manual,
		ReadOnly:    s.cfg.readOnly,
		LiveWriter:  s.live,
		DiskReserve: s.cfg.reserve,
		AcceptLog:   s.cfg.acceptLog,
		Owner:       s.owner.nonce,
		Found:       s.previous.nonce,
		Foreign:     foreign,
		Import:      s.imported != nil,
		Verify:      verify,
		Begin: func() error {
			if s.imported != nil {
				if err := s.writeImported(); err != nil {
					g.decide(err)
					return err
				}
			}
			if plant.Enabled && plant.Is(plant.StoreNoAbort) {
				g.decide(nil)
				return nil
			}
			err := writeAbort(s.root, s.owner)
			g.decide(err)
			return err
		},
		Apply:   s.dispatch.live,
		Release: s.release,
		NoYield: s.cfg.env.NoYield,
		Logger:  s.cfg.logger,
	})
	if err != nil {
		return s.lostLog(err)
	}
	s.logReady.Store(s.log)
	return writeForeign(s.state, foreign, s.log.Recovery().Foreign, s.cfg.readOnly)
}

// metaMemTable is how many bytes of changes meta gathers before it makes a table of
// them. Many timers make many changes, and few large tables are merged with less
// work than many small ones. An Open after a kill reads as much back, at most.
const metaMemTable = 4 << 20

func (s *Store) openMeta(g *gate) error {
	if s.cfg.readOnly {
		return nil
	}
	db, err := kv.Open(gatedFS{s.metaFS, g}, kv.Options{MustExist: !s.recovery.New, MemTable: metaMemTable, Clock: s.cfg.env.Clock})
	if err != nil {
		return fmt.Errorf("store: open meta: %w", mapMeta(err))
	}
	s.db = db
	s.metaReady.Store(db)
	return nil
}

// openViews restores the views whose state is in meta.
func (s *Store) openViews() (err error) {
	if err := s.openIndex(); err != nil {
		return err
	}
	if s.cfg.readOnly {
		s.topics = guessTopics(s.queues)
		s.dispatch.topics = s.topics
		return nil
	}
	if s.topics, err = openTopics(s.db); err != nil {
		return err
	}
	s.dispatch.topics = s.topics
	if err := s.readRule(); err != nil {
		return err
	}
	if s.imported != nil {
		if err := s.importTopics(); err != nil {
			return err
		}
	}
	if err := s.openTimers(); err != nil {
		return err
	}
	if err := s.openHalves(); err != nil {
		return err
	}
	if err := s.openDedupe(); err != nil {
		return err
	}
	s.progress, err = progress.Open(s.ctx, s.db, progress.Options{
		Clock:         s.cfg.env.Clock,
		Manual:        s.cfg.env.Manual,
		Bounds:        s.bounds,
		SyncLog:       s.log.Sync,
		NoAutoCreate:  s.cfg.noAutoGroup,
		DurableSettle: s.cfg.durableSettle,
		ForgetAfter:   s.cfg.groupExpiry,
		Raised:        func(name string) { s.groups.Fence(name) },
		RetryAfter:    s.retryAfter,
		Logger:        s.cfg.logger,
	})
	if err != nil {
		return err
	}
	s.topics.dropped = s.progress.DropTopic
	s.dispatch.views = append(s.dispatch.views, s.progress.View())
	return s.openGroups()
}

func (s *Store) openIndex() (err error) {
	if s.cfg.noIndex {
		return nil
	}
	if !s.cfg.readOnly {
		if err := s.indexFS.MkdirAll("."); err != nil {
			return fmt.Errorf("store: make %s: %w", s.indexFS.Path("."), err)
		}
	}
	s.index, err = index.Open(s.indexFS, s.state, index.Options{
		Slots:      s.format.indexSlots,
		Entries:    s.format.indexEntries,
		Synced:     s.log.Synced,
		Scan:       s.log.Scan,
		Start:      s.log.Start,
		Skip:       s.unindexed,
		NoUniqueID: s.cfg.noIDIndex,
		Clock:      s.cfg.env.Clock,
		Manual:     s.cfg.env.Manual,
		ReadOnly:   s.cfg.readOnly,
		Logger:     s.cfg.logger,
	})
	if err == nil {
		s.dispatch.views = append(s.dispatch.views, s.index)
	}
	return err
}

// unindexed reports whether the index leaves a record out.
func (s *Store) unindexed(r *message.Record) bool {
	if tp, ok := s.topics.get(r.Topic()); ok && tp.row.Load().Unindexed {
		return true
	}
	_, ok := r.Property(message.PropUnindexed)
	return ok || !s.topics.alive(r.Topic(), r.Position())
}
