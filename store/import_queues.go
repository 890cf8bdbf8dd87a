package store

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"sort"
	"strconv"

	"github.com/embermq/embermq/consumequeue"
	"github.com/embermq/embermq/index"
	"github.com/embermq/embermq/internal/fs"
)

// javaQueue is what RocketMQ's files say about a queue.
type javaQueue struct {
	Topic string
	ID    int32
	Start int64 // offset of the first entry whose record the log still has
	End   int64
	First int64 // position of that record, -1 if there is none
}

// surveyQueues reads the ends of all queues: of a queue whose records have
// expired nothing else tells where it goes on. The entries themselves are built
// from the log again.
func (s *Store) surveyQueues(m *imported, logStart int64) error {
	_, err := s.root.Stat(abortName)
	if err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return wrapStat(s.root, abortName, err)
	}
	m.Closed = err != nil
	topics, err := foldersIn(s.queueFS, ".")
	if err != nil {
		return err
	}
	for _, topic := range topics {
		ids, err := foldersIn(s.queueFS, topic)
		if err != nil {
			return err
		}
		for _, id := range ids {
			n, err := strconv.ParseInt(id, 10, 32)
			if err != nil || n < 0 {
				continue
			}
			f := queueFolder{s.queueFS.Sub(topic + "/" + id), nil, 0}
			q, reached, ok, err := f.survey(logStart)
			if err != nil {
				return fmt.Errorf("store: read queue %s/%s: %w", topic, id, err)
			}
			if m.QueueFile == 0 {
				m.QueueFile = f.size
			}
			if f.size != 0 && f.size != m.QueueFile {
				return &CorruptError{Path: f.dir.Path("."), Reason: fmt.Sprintf("files of %d bytes, other queues have %d", f.size, m.QueueFile)}
			}
			if ok {
				q.Topic, q.ID = topic, int32(n)
				m.Queues = append(m.Queues, q)
				m.Reached = max(m.Reached, reached)
			}
		}
	}
	if m.QueueFile == 0 {
		m.QueueFile = newFormat(s.cfg).queueFileSize
	}
	m.Closed = m.Closed && len(m.Queues) > 0
	return nil
}

// foldersIn lists the folders in a folder.
func foldersIn(f fs.FS, dir string) (names []string, err error) {
	es, err := f.List(dir)
	if err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return nil, fmt.Errorf("store: list %s: %w", f.Path(dir), err)
	}
	for _, e := range es {
		if e.Dir {
			names = append(names, e.Name)
		}
	}
	return names, nil
}

// queueFolder is the files of one of RocketMQ's queues.
type queueFolder struct {
	dir   fs.FS
	files []fs.Entry
	size  int64
}

// survey finds the bounds of the queue, and how far its entries reach in the log.
func (f *queueFolder) survey(logStart int64) (q javaQueue, reached int64, ok bool, err error) {
	es, err := f.dir.List(".")
	if err != nil {
		return q, 0, false, err
	}
	base := int64(-1)
	for _, e := range es {
		at, err := strconv.ParseInt(e.Name, 10, 64)
		if err != nil || e.Dir || len(e.Name) != 20 || e.Size == 0 {
			continue
		}
		if f.size == 0 {
			base, f.size = at, e.Size
		}
		if e.Size != f.size || e.Size%consumequeue.EntrySize != 0 || at != base+int64(len(f.files))*f.size {
			return q, 0, false, &CorruptError{Path: f.dir.Path(e.Name), Reason: "length or name does not fit the queue's other files"}
		}
		f.files = append(f.files, e)
	}
	if len(f.files) == 0 {
		return q, 0, false, nil
	}
	first := base / consumequeue.EntrySize
	count := int(int64(len(f.files)) * f.size / consumequeue.EntrySize)
	// Entries are dense, then come zeros; blank ones lie in front of all others.
	n, err := f.search(count, func(e consumequeue.Entry) bool { return e.Size <= 0 })
	if err != nil {
		return q, 0, false, err
	}
	start, err := f.search(n, func(e consumequeue.Entry) bool { return !e.Blank() && e.Position >= logStart })
	if err != nil {
		return q, 0, false, err
	}
	q = javaQueue{Start: first + int64(start), End: first + int64(n), First: -1}
	if start < n {
		e, err := f.entry(start)
		if err != nil {
			return q, 0, false, err
		}
		q.First = e.Position
	}
	if n > 0 {
		e, err := f.entry(n - 1)
		if err != nil {
			return q, 0, false, err
		}
		if !e.Blank() {
			reached = e.Position + int64(e.Size)
		}
	}
	return q, reached, true, nil
}

// search finds the first of n entries for which is holds, which then holds for
// all behind it.
func (f *queueFolder) search(n int, is func(consumequeue.Entry) bool) (at int, err error) {
	at = sort.Search(n, func(i int) bool {
		e, rerr := f.entry(i)
		if rerr != nil {
			err = rerr
		}
		return is(e)
	})
	return at, err
}

func (f *queueFolder) entry(i int) (consumequeue.Entry, error) {
	at := int64(i) * consumequeue.EntrySize
	file, err := f.dir.Open(f.files[at/f.size].Name, fs.ReadOnly)
	if err != nil {
		return consumequeue.Entry{}, err
	}
	var b [consumequeue.EntrySize]byte
	_, err = file.ReadAt(b[:], at%f.size)
	return consumequeue.Decode(b[:]), errors.Join(err, file.Close())
}

// surveyIndex finds the sizes of RocketMQ's index files. Only their length is
// known; slots and entries follow from it as long as they have RocketMQ's ratio
// of one to four. Options say otherwise. The index is built anew in any case.
func (s *Store) surveyIndex(m *imported) error {
	d := newFormat(s.cfg)
	m.Slots, m.Entries = d.indexSlots, d.indexEntries
	es, err := s.indexFS.List(".")
	if err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return fmt.Errorf("store: list %s: %w", s.indexFS.Path("."), err)
	}
	for _, e := range es {
		if e.Dir || len(e.Name) != 17 {
			continue
		}
		if e.Size == index.HeaderSize+4*m.Slots+index.EntrySize*m.Entries {
			return nil
		}
		const unit = 4 + 4*index.EntrySize
		if n := e.Size - index.HeaderSize; s.cfg.indexSlots == 0 && n > 0 && n%unit == 0 {
			m.Slots, m.Entries = n/unit, 4*(n/unit)
			return nil
		}
		m.LeftOut = append(m.LeftOut, fmt.Sprintf("the index files' length of %d bytes: new ones have %d slots and %d entries, which RocketMQ must be told", e.Size, m.Slots, m.Entries))
		return nil
	}
	return nil
}
