package consumequeue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/embermq/embermq/message"
)

// rebuildEvery is how soon a failed rebuild is tried again when nobody asks.
const rebuildEvery = 10 * time.Second

// rebuildState is the one rebuild that may run.
type rebuildState struct {
	mu     sync.Mutex
	run    *rebuildRun // nil when none runs
	failed time.Time   // when the last one failed

	// targets is what the running rebuild fills.
	targets map[*Queue]*target
}

type rebuildRun struct {
	done chan struct{}
	err  error
}

// target collects one queue's entries [base, until) while the log is read.
// Only the rebuild's goroutine touches it.
type target struct {
	q           *Queue
	base, until int64
	next        int64 // the offset that the next entry gets
	buf         []byte
	memory      bool // no file can be written
	chunks      []*chunk
	err         error
}

// Ready returns nil when the queue is not damaged. Otherwise it starts the
// rebuild of all damaged queues, unless one runs, and waits for its end or for
// ctx. The error is the rebuild's, or the damage when nobody can rebuild.
func (q *Queue) Ready(ctx context.Context) error {
	for tried := false; ; tried = true {
		damage := q.Damaged()
		if damage == nil {
			return nil
		}
		if q.s.o.Rebuild == nil {
			return q.damagedError(damage)
		}
		run, joined := q.s.startRebuild()
		select {
		case <-run.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		if run.err != nil {
			return run.err
		}
		if damage := q.Damaged(); damage != nil && tried && !joined {
			return q.damagedError(damage)
		}
	}
}

// ReadContext is Read that waits for the rebuild of a damaged queue.
func (q *Queue) ReadContext(ctx context.Context, from int64, dst []Entry) (int, error) {
	for {
		n, err := q.Read(from, dst)
		if !errors.Is(err, ErrDamaged) {
			return n, err
		}
		if err := q.Ready(ctx); err != nil {
			return 0, err
		}
	}
}

// autoRebuild starts a rebuild that no reader has asked for, so that the tails
// of damaged queues do not stay in memory. It reports whether it did.
func (s *Queues) autoRebuild() bool {
	if s.stats.damaged.Load() == 0 || s.o.Rebuild == nil || s.ctx.Err() != nil {
		return false
	}
	s.rebuild.mu.Lock()
	wait := !s.rebuild.failed.IsZero() && s.o.Clock.Now().Sub(s.rebuild.failed).Abs() < rebuildEvery
	s.rebuild.mu.Unlock()
	if wait {
		return false
	}
	s.startRebuild()
	return true
}

// startRebuild begins a rebuild, or joins the one that runs. Under
// Options.Manual it has finished when startRebuild returns.
func (s *Queues) startRebuild() (run *rebuildRun, joined bool) {
	s.rebuild.mu.Lock()
	if run := s.rebuild.run; run != nil {
		s.rebuild.mu.Unlock()
		return run, true
	}
	run = &rebuildRun{done: make(chan struct{})}
	if s.closed.Load() {
		s.rebuild.mu.Unlock()
		run.err = message.ErrClosed
		close(run.done)
		return run, false
	}
	s.rebuild.run = run
	s.wg.Add(1) // Close sets closed under this lock before it waits
	s.rebuild.mu.Unlock()
	work := func() {
		defer s.wg.Done()
		err := s.rebuildDamaged(s.ctx)
		s.rebuild.mu.Lock()
		run.err, s.rebuild.run = err, nil
		s.rebuild.failed = time.Time{}
		if err != nil {
			s.rebuild.failed = s.o.Clock.Now()
			s.o.Logger.Warn("consumequeue: rebuild failed", "error", err)
		}
		s.rebuild.mu.Unlock()
		close(run.done)
	}
	if s.o.Manual {
		work()
	} else {
		go work()
	}
	return run, false
}

// rebuildDamaged rebuilds every queue that is damaged now. On a disk that takes no
// change their entries stay in memory, as far as that has room for them: the log can
// be read, so its messages can.
func (s *Queues) rebuildDamaged(ctx context.Context) error {
	err := s.rebuildInto(ctx, s.o.ReadOnly)
	if !errors.Is(err, errFiles) || s.o.ReadOnly {
		return err
	}
	s.o.Logger.Warn("consumequeue: queue files cannot be written, memory takes their entries", "error", err)
	if merr := s.rebuildInto(ctx, true); merr != nil {
		return errors.Join(err, merr)
	}
	return nil
}

// errFiles says that files could not be removed or written.
var errFiles = errors.New("consumequeue: rebuild")

// rebuildInto rebuilds in one pass.
func (s *Queues) rebuildInto(ctx context.Context, memory bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.rebuild.targets = map[*Queue]*target{}
	var qs []*Queue
	for _, q := range s.All() {
		if q.Damaged() == nil {
			continue
		}
		t, err := s.begin(q, memory)
		if err != nil {
			return fmt.Errorf("%w: %w", errFiles, err)
		}
		s.rebuild.targets[q] = t
		qs = append(qs, q)
	}
	if len(qs) == 0 {
		return nil
	}
	if err := s.o.Rebuild(ctx, qs); err != nil {
		return fmt.Errorf("consumequeue: rebuild: %w", err)
	}
	var errs []error
	for _, q := range qs {
		t := s.rebuild.targets[q]
		if err := s.finish(t); err != nil {
			errs = append(errs, fmt.Errorf("%w: %w", errFiles, err))
			continue
		}
		if err := q.expire(s.minPosition.Load()); err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, message.ErrNotFound) {
			errs = append(errs, err) // the queue itself is whole again
		}
		s.o.Logger.Info("consumequeue: queue rebuilt", "queue", q.String(), "from", t.base, "to", t.until)
	}
	return errors.Join(errs...)
}

// begin removes the queue's files and fixes what has to come back: everything
// that is not in the tail. The dispatcher goes on appending behind it.
//
// In memory the files stay until somebody can write again; they count no more.
func (s *Queues) begin(q *Queue, memory bool) (*target, error) {
	s.flushMu.Lock()
	defer s.flushMu.Unlock()
	if memory {
		s.files.drop(q, 0, maxOffset*EntrySize)
	} else {
		s.forgetSums(q)
		if err := s.removeFiles(q); err != nil {
			return nil, err
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.touchLocked()
	q.flags &^= flagInFiles | flagCleared | flagVerified
	if memory {
		q.flags |= flagSumsStale
	}
	q.firstFile = -1
	q.built++
	base := min(q.start, q.fileEnd)
	if need := (q.fileEnd - base) * EntrySize; memory && !s.o.ReadOnly && need > s.o.TailBudget-s.pool.bytes.Load() {
		return nil, fmt.Errorf("consumequeue: queue %s needs %d bytes of memory: %w", q.name, need, message.ErrDiskFull)
	}
	return &target{q: q, base: base, next: base, until: q.fileEnd, memory: memory}, nil
}

// removeFiles deletes all queue files of q and nothing else.
func (s *Queues) removeFiles(q *Queue) error {
	s.files.drop(q, 0, maxOffset*EntrySize)
	dir := dirName(q.name)
	list, err := s.fsys.List(dir)
	if err != nil && !isNotExist(err) {
		return fmt.Errorf("consumequeue: look into queue %s: %w", q.name, err)
	}
	for _, e := range list {
		if _, ok := parseFileName(e.Name); !ok || e.Dir || e.Link {
			continue
		}
		if err := s.fsys.Remove(dir + "/" + e.Name); err != nil && !isNotExist(err) {
			return fmt.Errorf("consumequeue: remove file of queue %s: %w", q.name, err)
		}
	}
	return nil
}

// Restore gives a damaged queue the entry of an offset back, in log order. Only
// Options.Rebuild may call it, for the queues it was given. Offsets that are not
// missing are left alone; missing ones become pre-blank entries.
func (q *Queue) Restore(offset int64, e Entry) {
	t := q.s.rebuild.targets[q]
	if t == nil || t.err != nil || offset < t.next || offset >= t.until {
		return
	}
	for t.next < offset {
		// Below the first record there is nothing to fill: the log begins there.
		if t.next == t.base {
			t.base, t.next = offset, offset
			break
		}
		t.add(Blank)
	}
	t.add(e)
}

// RestoreAtEnd is Restore for a record that was appended by AppendAtEnd: it gets
// the next offset whatever it says.
func (q *Queue) RestoreAtEnd(e Entry) {
	if t := q.s.rebuild.targets[q]; t != nil && t.err == nil && t.next < t.until {
		t.add(e)
	}
}

func (t *target) add(e Entry) {
	s := t.q.s
	if t.memory {
		if n := len(t.chunks); n == 0 || t.chunks[n-1].full() {
			t.chunks = append(t.chunks, s.pool.get(largestClass, t.next))
		}
		c := t.chunks[len(t.chunks)-1]
		e.Encode(c.data[c.n*EntrySize:])
		c.n++
		t.next++
		return
	}
	if t.buf == nil {
		t.buf = make([]byte, 0, min(flushBuffer/EntrySize*EntrySize, s.o.FileSize, (t.until-t.next)*EntrySize))
	}
	n := len(t.buf)
	t.buf = t.buf[:n+EntrySize]
	e.Encode(t.buf[n:])
	t.next++
	if len(t.buf)+EntrySize > cap(t.buf) || t.next*EntrySize%s.o.FileSize == 0 {
		t.spill()
	}
}

// spill writes the buffer, which lies inside one file.
func (t *target) spill() {
	if len(t.buf) == 0 || t.err != nil {
		return
	}
	s := t.q.s
	s.flushMu.Lock()
	defer s.flushMu.Unlock()
	if t.q.dead() {
		t.buf, t.err = t.buf[:0], message.ErrNotFound
		return
	}
	t.err = s.write(t.q, t.next-int64(len(t.buf)/EntrySize), t.buf)
	t.buf = t.buf[:0]
}

// finish heals the queue. The whole log has been read, so what has not come back
// is not in it: below the first record the queue begins later, behind it
// pre-blank entries take the places.
func (s *Queues) finish(t *target) error {
	q := t.q
	for t.next > t.base && t.next < t.until && t.err == nil {
		t.add(Blank)
	}
	t.spill()
	if t.err != nil && !q.dead() {
		return fmt.Errorf("queue %s: %w", q.name, t.err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.flags&flagDamaged == 0 { // deleted meanwhile
		return nil
	}
	q.touchLocked()
	if t.next == t.base { // the log has none of them any more
		t.base = t.until
	}
	q.start = max(q.start, t.base)
	if len(t.chunks) > 0 {
		q.chunks = append(t.chunks, q.chunks...)
		q.fileEnd = t.base
	}
	q.flags &^= flagDamaged
	q.flags |= flagVerified
	q.damage = nil
	s.stats.damaged.Add(-1)
	s.stats.rebuilt.Add(1)
	if q.end-q.fileEnd >= nominalTail && q.flags&flagReady == 0 && !s.o.ReadOnly {
		q.flags |= flagReady
		s.ready.push(q)
	}
	return nil
}
