package consumequeue

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/embermq/embermq/message"
)

const (
	// retryEvery is how soon a flush is tried again after an error.
	retryEvery = 500 * time.Millisecond
	// pressedEvery is how soon the flusher looks again when tails are over the
	// budget and nothing may be written because the log is not synced.
	pressedEvery = 20 * time.Millisecond
)

// readyList holds the queues whose tail is due, and wakes the flusher.
type readyList struct {
	mu   sync.Mutex
	qs   []*Queue
	wake chan struct{}
}

func (l *readyList) push(q *Queue) {
	l.mu.Lock()
	l.qs = append(l.qs, q)
	l.mu.Unlock()
	l.signal()
}

func (l *readyList) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// take moves the list's queues behind those of into.
func (l *readyList) take(into []*Queue) []*Queue {
	l.mu.Lock()
	defer l.mu.Unlock()
	into = append(into, l.qs...)
	clear(l.qs)
	l.qs = l.qs[:0]
	return into
}

// roundState belongs to the one that runs a round.
type roundState struct {
	mu      sync.Mutex
	waiting []*Queue // due, but not flushable when last tried
	tried   int64    // what was synced then
	retry   time.Duration
	pressed int64 // what was synced when pressure could not be eased
}

// easing wakes those that Wait for pressure to fall.
type easing struct {
	mu sync.Mutex
	c  chan struct{}
}

func (e *easing) wait() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.c == nil {
		e.c = make(chan struct{})
	}
	return e.c
}

func (e *easing) signal() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.c != nil {
		close(e.c)
		e.c = nil
	}
}

// run is the flusher. It sleeps until a tail is due, memory is short or a retry
// is; an idle store never wakes it.
func (s *Queues) run() {
	defer s.wg.Done()
	for {
		_, retry := s.flushRound()
		var timer <-chan time.Time
		stop := func() {}
		if retry > 0 {
			timer, stop = s.o.Clock.After(retry)
		}
		select {
		case <-s.ready.wake:
		case <-timer:
		case <-s.ctx.Done():
			stop()
			return
		}
		stop()
		s.autoRebuild()
	}
}

// Kick wakes the flusher. The store may call it when the log has synced more.
func (s *Queues) Kick() { s.ready.signal() }

// Step runs one round of the flusher in the caller's goroutine, and a rebuild of
// damaged queues if there are any, and reports whether it did something. It is
// for Options.Manual.
func (s *Queues) Step() bool {
	if s.o.ReadOnly || s.closed.Load() {
		return false
	}
	n, _ := s.flushRound()
	return s.autoRebuild() || n > 0
}

// flushRound writes what is due. It returns how many entries it wrote and, when
// it should run again without being woken, after how long.
func (s *Queues) flushRound() (n int64, retry time.Duration) {
	r := &s.round
	r.mu.Lock()
	defer r.mu.Unlock()
	synced := s.o.Synced()
	var due []*Queue
	if synced != r.tried || r.retry > 0 {
		due, r.waiting = r.waiting, nil
	}
	due = s.ready.take(due)
	r.tried, r.retry = synced, 0
	for i, q := range due {
		k, err := s.flush(q, synced)
		n += k
		if err != nil {
			s.note(err)
			r.retry = retryEvery
			r.waiting = append(r.waiting, q)
			if isFull(err) {
				r.waiting = append(r.waiting, due[i+1:]...)
				s.ease.signal() // whoever waits for room in memory gets the error
				break
			}
			continue
		}
		if q.stillDue() {
			r.waiting = append(r.waiting, q)
		}
	}
	k, pressed := s.relieve(synced)
	n += k
	if n > 0 && r.retry == 0 {
		s.note(nil)
	}
	if r.retry == 0 && pressed {
		r.retry = pressedEvery
	}
	if !s.Pressure() {
		s.ease.signal()
	}
	return n, r.retry
}

// stillDue takes the queue off the list unless its tail is still due.
func (q *Queue) stillDue() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.end-q.fileEnd >= nominalTail && q.flags&(flagDamaged|flagDead|flagNoFiles) == 0 {
		return true
	}
	q.flags &^= flagReady
	return false
}

// relieve writes the largest tails when all of them together are over the
// budget, until a quarter of it is free. pressed says that it could not.
func (s *Queues) relieve(synced int64) (n int64, pressed bool) {
	if s.pool.bytes.Load() <= s.o.TailBudget {
		return 0, false
	}
	r := &s.round
	if synced == r.pressed && r.pressed > 0 && !s.Pressure() {
		return 0, true
	}
	type sized struct {
		q *Queue
		n int64
	}
	var tails []sized
	for _, q := range s.All() {
		q.mu.Lock()
		if k := q.end - q.fileEnd; k > 0 {
			tails = append(tails, sized{q, k})
		}
		q.mu.Unlock()
	}
	slices.SortFunc(tails, func(a, b sized) int { return cmp.Compare(b.n, a.n) })
	for _, t := range tails {
		if s.pool.bytes.Load() <= s.o.TailBudget/4*3 {
			r.pressed = 0
			return n, false
		}
		k, err := s.flush(t.q, synced)
		n += k
		if err != nil {
			s.note(err)
			r.retry = retryEvery
			if isFull(err) {
				break
			}
		}
	}
	if s.pool.bytes.Load() <= s.o.TailBudget {
		return n, false
	}
	r.pressed = synced
	return n, true
}

// Pressure reports that the tails take more than twice their budget: the disk of
// the queue files is full or too slow, and the store should hold back Puts.
func (s *Queues) Pressure() bool { return s.pool.bytes.Load() > 2*s.o.TailBudget }

// Wait returns when there is no pressure, or with ctx's error, or that of a full
// disk, which may last. Under Options.Manual it runs one Step and returns.
func (s *Queues) Wait(ctx context.Context) error {
	for tried := false; s.Pressure(); tried = true {
		if err := s.Err(); tried && isFull(err) {
			return err
		}
		if s.closed.Load() {
			return message.ErrClosed
		}
		c := s.ease.wait()
		if s.o.Manual {
			s.Step()
			return nil
		}
		if s.ready.signal(); !s.Pressure() {
			return nil
		}
		select {
		case <-c:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.ctx.Done():
			return message.ErrClosed
		}
	}
	return nil
}

// Flush writes the tails of all queues to their files as far as the log is
// synced. It does not sync the files: a save does. What fails stays in memory.
func (s *Queues) Flush() error {
	if s.o.ReadOnly {
		return message.ErrReadOnly
	}
	synced := s.o.Synced()
	var errs []error
	for _, q := range s.All() {
		if _, err := s.flush(q, synced); err != nil {
			errs = append(errs, err)
			if isFull(err) || len(errs) == 8 {
				break
			}
		}
	}
	err := errors.Join(errs...)
	s.note(err)
	if !s.Pressure() {
		s.ease.signal()
	}
	return err
}

// Flush writes the queue's tail to its files as far as the log is synced.
func (q *Queue) Flush() error {
	if q.s.o.ReadOnly {
		return message.ErrReadOnly
	}
	_, err := q.s.flush(q, q.s.o.Synced())
	return err
}

// note keeps the last background error for Err and Stats; nil forgets it.
func (s *Queues) note(err error) {
	s.errMu.Lock()
	s.err = err
	s.errMu.Unlock()
}

// Err returns why queue files cannot be written now, or nil. Nothing is lost:
// the entries are in memory and in the log, and the flusher tries again.
func (s *Queues) Err() error {
	s.errMu.Lock()
	defer s.errMu.Unlock()
	return s.err
}
