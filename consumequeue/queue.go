package consumequeue

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/embermq/embermq/message"
)

// ErrDamaged is matched by the error of a read from files that do not fit the
// queue. Ready waits until they have been rebuilt from the log; the cause is
// wrapped beside it and matches message.ErrCorrupt.
var ErrDamaged = errors.New("consumequeue: queue is damaged and waits for its rebuild")

type queueFlags uint16

const (
	flagInFiles   queueFlags = 1 << iota // the queue has at least one file
	flagVerified                         // its files were compared with its ends
	flagCleared                          // nothing but zeros lies behind fileEnd in its file
	flagReady                            // it is in the flusher's list
	flagDirty                            // it is in the list of queues with unsynced files
	flagDamaged                          // its files cannot be trusted
	flagDead                             // it was deleted
	flagNoFiles                          // its topic cannot be a folder's name
	flagNewName                          // a file was made whose name may not be durable
	flagSumsStale                        // the checksums of its files are those of files that are gone
)

// Queue is the entries of one (topic, id). The dispatcher appends; anyone reads.
//
// Invariant: start <= end, fileEnd <= end; the chunks hold exactly the entries
// [fileEnd, end), except that the first chunk may begin before fileEnd.
type Queue struct {
	s    *Queues
	name message.Queue

	mu      sync.Mutex // guards everything below
	start   int64
	end     int64
	fileEnd int64
	chunks  []*chunk
	image   *image // the state at the pending freeze, once it has changed since
	epoch   uint64 // the freeze after which the queue last changed
	// firstFile is the byte offset of the oldest file, -1 when there is none or
	// the folder has not been looked at.
	firstFile int64
	// unsynced is the first offset that may not be durable in its file; it
	// counts while flagDirty is set.
	unsynced int64
	damage   error
	built    uint32 // counts rebuilds, so that a slow reader does not blame new files for old trouble
	flags    queueFlags
	grow     int8 // class of the next chunk
}

// Name returns the topic and the id.
func (q *Queue) Name() message.Queue { return q.name }

// String returns "topic/3".
func (q *Queue) String() string { return q.name.String() }

// Bounds returns the first kept offset and the offset that the next entry gets.
func (q *Queue) Bounds() (start, end int64) {
	q.mu.Lock()
	start, end = q.start, q.end
	q.mu.Unlock()
	return start, end
}

// Append adds the entry of a queue offset. It touches memory only and cannot
// fail. The dispatcher calls it in log order.
//
// An offset below the end is already there and is left alone: a replay repeats
// what a view has seen. An offset beyond the end means that the log has lost
// records in between, and pre-blank entries take their places; in a queue that
// has never held an entry it is where the queue starts.
func (q *Queue) Append(offset int64, e Entry) {
	q.mu.Lock()
	if offset == q.end || q.reachLocked(offset) {
		q.appendLocked(e)
	}
	q.mu.Unlock()
}

// AppendAtEnd adds an entry at the current end whatever the record says, and
// returns the offset it got: RocketMQ's rule for records that repeat offset 0
// or follow a jump, which the store applies in foreign ranges of the log.
func (q *Queue) AppendAtEnd(e Entry) (offset int64) {
	q.mu.Lock()
	offset = q.end
	q.appendLocked(e)
	q.mu.Unlock()
	return offset
}

func (q *Queue) appendLocked(e Entry) {
	if q.flags&flagDead != 0 {
		return
	}
	q.touchLocked()
	c := q.lastLocked()
	if c == nil || c.full() {
		c = q.growLocked()
	}
	e.Encode(c.data[c.n*EntrySize:])
	c.n++
	q.end++
	if q.end-q.fileEnd >= nominalTail && q.flags&flagReady == 0 {
		q.flags |= flagReady
		q.s.ready.push(q)
	}
}

// reachLocked moves the end up to offset, if that is the way to treat it.
func (q *Queue) reachLocked(offset int64) bool {
	if q.flags&flagDead != 0 || offset < q.end || offset > maxOffset {
		q.s.stats.ignored.Add(1)
		return false
	}
	q.touchLocked()
	if q.emptyLocked() {
		q.start, q.end, q.fileEnd = offset, offset, offset
		return true
	}
	n := offset - q.end
	q.chunks = append(q.chunks, q.s.pool.gap(q.end, n))
	q.end = offset
	q.s.stats.blanks.Add(n)
	return true
}

// emptyLocked reports that the queue has never held an entry, so that it may
// still start anywhere.
func (q *Queue) emptyLocked() bool {
	return q.start == q.end && q.fileEnd == q.end && q.flags&flagInFiles == 0
}

func (q *Queue) lastLocked() *chunk {
	if len(q.chunks) == 0 {
		return nil
	}
	return q.chunks[len(q.chunks)-1]
}

func (q *Queue) growLocked() *chunk {
	c := q.s.pool.get(int(q.grow), q.end)
	q.chunks = append(q.chunks, c)
	if int(q.grow) < largestClass {
		q.grow++
	}
	if q.s.pool.bytes.Load() > q.s.o.TailBudget {
		q.s.ready.signal()
	}
	return c
}

// dropLocked forgets the entries below to, which are in files now.
func (q *Queue) dropLocked(to int64) {
	q.touchLocked()
	// A tail that filled up will fill up again; one that was written for other
	// reasons starts small.
	if to-q.fileEnd >= nominalTail {
		q.grow = int8(largestClass)
	} else {
		q.grow = 0
	}
	q.fileEnd = to
	n := 0
	for n < len(q.chunks) && q.chunks[n].base+q.chunks[n].n <= to {
		q.s.pool.release(q.chunks[n])
		n++
	}
	rest := copy(q.chunks, q.chunks[n:])
	clear(q.chunks[rest:])
	q.chunks = q.chunks[:rest]
	if rest == 0 && cap(q.chunks) > 4 {
		q.chunks = nil
	}
}

// Read copies entries from offset from on into dst and returns how many. It
// stops short only at the end of the queue, so 0 and no error mean that from is
// the end. Entries for which Blank is true stand for no record.
//
// The error matches message.ErrOutOfRange when from lies outside the bounds,
// ErrDamaged when the entries are in files that do not fit the queue (see
// Ready), message.ErrNotFound when the queue was deleted. Otherwise it is that
// of the file system. Entries read before an error are returned without it.
func (q *Queue) Read(from int64, dst []Entry) (int, error) {
	n := 0
	for n < len(dst) {
		k, more, err := q.readSome(from+int64(n), dst[n:])
		n += k
		if err != nil && n == 0 {
			return 0, err
		}
		if err != nil || !more {
			break
		}
	}
	return n, nil
}

// readSome reads from the tail, or from one file. more says that entries follow
// which another call may reach.
func (q *Queue) readSome(from int64, dst []Entry) (n int, more bool, err error) {
	q.mu.Lock()
	switch {
	case q.flags&flagDead != 0:
		q.mu.Unlock()
		return 0, false, fmt.Errorf("consumequeue: queue %s: %w", q.name, message.ErrNotFound)
	case from < q.start || from > q.end:
		err = q.rangeErrorLocked(from)
		q.mu.Unlock()
		return 0, false, err
	case from >= q.fileEnd:
		n = q.copyTailLocked(from, dst)
		q.mu.Unlock()
		return n, false, nil
	}
	fileEnd, flags, damage, built := q.fileEnd, q.flags, q.damage, q.built
	q.mu.Unlock()
	if flags&flagDamaged != 0 {
		return 0, false, q.damagedError(damage)
	}
	if flags&flagVerified == 0 {
		if err := q.s.verify(q); err != nil {
			return 0, false, err
		}
	}
	n, err = q.readFile(from, fileEnd, built, dst)
	return n, err == nil && n > 0, err
}

func (q *Queue) rangeErrorLocked(from int64) error {
	return fmt.Errorf("consumequeue: offset %d of queue %s is not in [%d, %d]: %w", from, q.name, q.start, q.end, message.ErrOutOfRange)
}

func (q *Queue) damagedError(cause error) error {
	return fmt.Errorf("queue %s: %w: %w", q.name, ErrDamaged, cause)
}

// copyTailLocked reads [from, ...) out of the chunks; from >= fileEnd.
func (q *Queue) copyTailLocked(from int64, dst []Entry) (n int) {
	if from >= q.end {
		return 0
	}
	for i := find(q.chunks, from); i < len(q.chunks) && n < len(dst); i++ {
		c := q.chunks[i]
		for from < c.base+c.n && n < len(dst) {
			dst[n] = c.entry(from)
			n++
			from++
		}
	}
	return n
}

// readFile reads entries of one file with one call, straight into dst's memory.
func (q *Queue) readFile(from, fileEnd int64, built uint32, dst []Entry) (int, error) {
	at := from * EntrySize
	base := at - at%q.s.o.FileSize
	n := min(int64(len(dst)), fileEnd-from, (base+q.s.o.FileSize-at)/EntrySize)
	dst = dst[:n]
	f, err := q.s.files.acquire(q, base, q.s.openFile)
	if err != nil {
		return 0, q.readError(from, base, built, err)
	}
	proven, err := q.proven(f, fileEnd)
	if err == nil && proven {
		_, err = f.f.ReadAt(raw(dst), at-base)
	}
	q.s.files.release(f)
	if err != nil {
		return 0, q.readError(from, base, built, err)
	}
	if !proven {
		q.blame(built, base, 0, badSum, nil)
		return 0, q.damageNow()
	}
	unpack(dst)
	for i := range dst {
		if !dst[i].valid() {
			q.blame(built, base, at-base+int64(i)*EntrySize, "entry is not valid", nil)
			return 0, q.damageNow()
		}
	}
	return int(n), nil
}

// readError sorts out why a file could not be read: the queue may have moved on
// (expired, deleted, being rebuilt), a missing or short file is damage, and
// anything else is the file system's own trouble.
func (q *Queue) readError(from, base int64, built uint32, err error) error {
	q.mu.Lock()
	moved := q.flags&flagDead != 0 || from < q.start
	rangeErr := q.rangeErrorLocked(from)
	q.mu.Unlock()
	if moved {
		return rangeErr
	}
	if errors.Is(err, fs.ErrNotExist) || isShort(err) {
		q.blame(built, base, 0, "file is missing or short", err)
		return q.damageNow()
	}
	return fmt.Errorf("consumequeue: read queue %s: %w", q.name, err)
}

// damageNow is the error of a queue that has just been marked; a rebuild may
// have healed it already, and then the caller tries again.
func (q *Queue) damageNow() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.damage == nil {
		return q.damagedError(&message.CorruptError{Path: q.s.fsys.Path(dirName(q.name)), Reason: "changed while it was read"})
	}
	return q.damagedError(q.damage)
}

// MarkDamaged says that the queue's files hold something wrong, for example an
// entry that names another record. Readers of its files get ErrDamaged until it
// has been rebuilt. What is in memory is not affected: when [start, end) is in
// memory as a whole nothing happens.
func (q *Queue) MarkDamaged(offset int64, reason string) {
	at := max(offset, 0) * EntrySize
	q.markDamaged(at-at%q.s.o.FileSize, at%q.s.o.FileSize, reason, nil)
}

// blame is markDamaged by a reader that began after so many rebuilds.
func (q *Queue) blame(built uint32, base, off int64, reason string, cause error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.built == built {
		q.damageLocked(base, off, reason, cause)
	}
}

func (q *Queue) markDamaged(base, off int64, reason string, cause error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.damageLocked(base, off, reason, cause)
}

func (q *Queue) damageLocked(base, off int64, reason string, cause error) {
	if q.flags&(flagDamaged|flagDead) != 0 || q.flags&flagInFiles == 0 {
		return
	}
	q.touchLocked()
	q.flags |= flagDamaged
	q.flags &^= flagVerified | flagCleared
	q.damage = &message.CorruptError{
		Path: q.s.fsys.Path(dirName(q.name) + "/" + fileName(base)), Offset: off, Reason: reason, Err: cause,
	}
	q.s.stats.damaged.Add(1)
	q.s.ready.signal()
}

func (q *Queue) dead() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.flags&flagDead != 0
}

// Damaged returns why the queue is damaged, or nil.
func (q *Queue) Damaged() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.damage
}
