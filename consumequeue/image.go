package consumequeue

import (
	"errors"
	"sync"

	"github.com/embermq/embermq/message"
)

// ErrAbandoned is the error of a save whose freeze was followed by another one
// before it had finished. The later one covers it.
var ErrAbandoned = errors.New("consumequeue: a later freeze replaced this one")

// image is the state of one queue at a freeze.
//
// A freeze copies nothing. It begins a new epoch, and a queue's first change in
// that epoch puts the state before the change aside. So the dispatcher stands
// still for a few nanoseconds however many queues there are, and only queues
// that change while a save is under way cost anything.
type image struct {
	start, end, fileEnd int64
	firstFile           int64
	flags               queueFlags
	pieces              []piece // each holds a reference to its chunk
}

var images = sync.Pool{New: func() any { return new(image) }}

// touchLocked must come before every change of start, end, fileEnd, the chunks
// or the flags that are saved. A change may follow a concurrent freeze by a hair
// and then belong to the image: it is one of the flusher's or of retention, which
// the log's mark says nothing about; the dispatcher itself does not run then.
func (q *Queue) touchLocked() {
	if e := q.s.epoch.Load(); q.epoch != e {
		q.captureLocked(e)
	}
}

func (q *Queue) captureLocked(epoch uint64) {
	q.s.discard(q.image)
	q.image = nil
	if q.s.pending.Load() == epoch {
		q.image = images.Get().(*image)
		q.snapshotLocked(q.image)
	}
	q.epoch = epoch
}

// snapshotLocked copies the queue's present state and takes references.
func (q *Queue) snapshotLocked(im *image) {
	im.start, im.end, im.fileEnd, im.firstFile, im.flags = q.start, q.end, q.fileEnd, q.firstFile, q.flags
	im.pieces = im.pieces[:0]
	for _, c := range q.chunks {
		c.refs.Add(1)
		im.pieces = append(im.pieces, piece{c, max(c.base, q.fileEnd), c.base + c.n})
	}
}

// discard gives an image's references back.
func (s *Queues) discard(im *image) {
	if im == nil {
		return
	}
	for i := range im.pieces {
		s.pool.release(im.pieces[i].c)
	}
	clear(im.pieces)
	im.pieces = im.pieces[:0]
	images.Put(im)
}

// Freeze fixes the state of all queues as it is now, when everything up to m
// has been applied and nothing beyond. It is called by the dispatcher, takes
// nanoseconds and copies nothing. save runs later, off the dispatcher's lock,
// when the log is synced up to m; it makes the queue files durable and replaces
// the file "queues". When save fails the file of the save before is still good.
func (s *Queues) Freeze(m message.Mark) (save func() error) {
	if s.o.ReadOnly {
		return func() error { return message.ErrReadOnly }
	}
	e := s.epoch.Load() + 1
	// pending comes first: who sees the new epoch must see that it is wanted.
	s.pending.Store(e)
	s.epoch.Store(e)
	return func() error { return s.save(e, m) }
}

// imageOf returns the state of q at the freeze epoch, which the caller gives
// back with discard; nil when the queue did not exist then, false when a later
// freeze has begun.
func (s *Queues) imageOf(q *Queue, epoch uint64) (*image, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if s.epoch.Load() != epoch {
		return nil, false
	}
	if q.flags&flagDead != 0 {
		s.discard(q.image)
		q.image, q.epoch = nil, epoch
		return nil, true
	}
	if q.epoch == epoch {
		im := q.image
		q.image = nil
		return im, true
	}
	s.discard(q.image) // of a save that was abandoned or failed
	q.image = nil
	im := images.Get().(*image)
	q.snapshotLocked(im)
	q.epoch = epoch // the save has passed: later changes need no image
	return im, true
}
