package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/embermq/embermq/consumequeue"
	"github.com/embermq/embermq/group"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/progress"
)

// leaseMost bounds the records of one lease.
const leaseMost = 4096

// reasonExpired stands in the dead letters of messages that came too late.
const reasonExpired = "expired"

// Lease takes up to n records of the claim's queue that f matches and that nobody
// else sees, for so long, without waiting for more: first those whose
// invisibility is over, then new ones. A record is handed out by reference: no copy
// is made, and Settle with the lease's number acknowledges it, in any order. The
// caller owns the records and their bytes.
//
// Records that do not match are settled. One that was delivered maxAttempts times
// (zero: as often as the group retries, and once), or whose ExpireAt has passed,
// becomes a dead letter. Leases are in memory at once and on disk within
// 100 ms; a kill before that delivers the records again. A group without a place in
// the queue begins at its first record.
//
// n.Count defaults to 32 and n.Bytes to 4 MiB. The batch may be smaller than what
// is there. The error is ErrFenced under a claim that is over, ErrOutOfRange for
// an invisible time that is not positive, and otherwise as for Read.
func (s *Store) Lease(ctx context.Context, c group.Claim, f message.Filter, n message.Limit, invisible time.Duration, maxAttempts int) (message.LeaseBatch, error) {
	if err := s.writable(); err != nil {
		return message.LeaseBatch{}, err
	}
	if err := ctx.Err(); err != nil {
		return message.LeaseBatch{}, err
	}
	if invisible <= 0 || maxAttempts < 0 {
		return message.LeaseBatch{}, fmt.Errorf("store: lease for %v, %d attempts: %w", invisible, maxAttempts, ErrOutOfRange)
	}
	if err := s.groups.Valid(c); err != nil {
		return message.LeaseBatch{}, err
	}
	if err := s.progress.Ensure(ctx, c.Group); err != nil {
		return message.LeaseBatch{}, err
	}
	if n.Count <= 0 {
		n.Count = readCount
	}
	if n.Bytes <= 0 {
		n.Bytes = readBytes
	}
	n.Count = min(n.Count, leaseMost)
	now := s.cfg.env.Clock.Now()
	l := leasing{s: s, c: c, filter: f, left: n, most: maxAttempts, now: now,
		work: s.progress.Lease(c.Group, c.Epoch, c.Queue, now.Add(invisible))}
	defer l.work.Release()
	if maxAttempts == 0 {
		g, _ := s.progress.Group(c.Group)
		l.most = max(g.RetryMax, 0) + 1
	}
	err := l.run(ctx)
	if len(l.batch.Records) > 0 {
		return l.batch, nil // the next call meets the error again
	}
	l.batch.Wait = l.work.Wait()
	return l.batch, err
}

// leasing is one call of Lease.
type leasing struct {
	s      *Store
	c      group.Claim
	work   *progress.Leasing
	filter message.Filter
	left   message.Limit
	most   int
	now    time.Time
	batch  message.LeaseBatch
	dead   []message.Verdict // what must not be delivered
}

func (l *leasing) run(ctx context.Context) error {
	err := l.again(ctx)
	if err == nil && l.left.Count > 0 && l.left.Bytes > 0 {
		err = l.onwards(ctx)
	}
	if len(l.dead) > 0 {
		err = errors.Join(err, l.s.settleByRecord(ctx, l.c, l.dead))
	}
	return err
}

// again takes records that were delivered before.
func (l *leasing) again(ctx context.Context) (err error) {
	start, _, err := l.s.Bounds(l.c.Queue)
	if err != nil {
		return err
	}
	var taken, spent []progress.Taken
	begun := false
	err = l.s.groups.Do(l.c, func() (err error) {
		taken, spent, begun, err = l.work.Again(start, l.left.Count, l.most)
		return err
	})
	if err != nil {
		return err
	}
	if begun {
		if err := l.s.progress.Flush(ctx); err != nil {
			return err
		}
	}
	for _, t := range spent {
		l.dead = append(l.dead, l.verdict(t, reasonSpent))
	}
	for i, t := range taken {
		if i > 0 && l.left.Bytes <= 0 {
			l.work.Back(taken[i:])
			return nil
		}
		var rec message.Record
		rec, err = l.s.recordAt(ctx, l.c.Queue, t.Offset)
		switch {
		case errors.Is(err, ErrNotFound), errors.Is(err, ErrOutOfRange): // it expired
			v := l.verdict(t, "")
			v.Kind = message.Done
			if err := l.s.Settle(ctx, l.c, v); err != nil {
				return err
			}
		case err != nil:
			l.work.Back(taken[i:])
			return err
		default:
			l.deliver(rec, t)
		}
	}
	return nil
}

func (l *leasing) verdict(t progress.Taken, reason string) message.Verdict {
	return message.Verdict{Queue: l.c.Queue, Offset: t.Offset, Kind: message.DeadLetter, Reason: reason, Lease: t.Lease}
}

// deliver hands a record out, unless it is too late for that.
func (l *leasing) deliver(rec message.Record, t progress.Taken) {
	if at, ok := rec.ExpireAt(); ok && !at.After(l.now) {
		l.dead = append(l.dead, l.verdict(t, reasonExpired))
		return
	}
	if rec.Encoding() != message.None {
		_ = rec.InflateBody(0) // one that cannot be inflated comes as it is stored
	}
	l.left.Count--
	l.left.Bytes -= rec.Size()
	l.batch.Records = append(l.batch.Records, message.Leased{Record: rec, Lease: t.Lease, Attempt: t.Attempt, Until: t.Until})
}

// onwards takes records that nobody has looked at yet. It reads them first, and
// then makes the leases under the claim.
func (l *leasing) onwards(ctx context.Context) error {
	from, room, err := l.work.Cursor(ctx)
	if err != nil || room <= 0 {
		return err
	}
	limit := l.left
	limit.Count = min(limit.Count, room)
	records, offsets, next, readErr := l.read(ctx, from, limit)
	if next == from {
		return l.beyond(readErr)
	}
	var taken []progress.Taken
	err = l.s.groups.Do(l.c, func() (err error) {
		taken, err = l.work.Take(from, next, offsets)
		return err
	})
	if err != nil {
		return err
	}
	i := 0
	for _, t := range taken {
		for offsets[i] != t.Offset {
			i++
		}
		l.deliver(records[i], t)
	}
	return nil
}

// beyond knows the errors of a cursor at the end of its queue.
func (l *leasing) beyond(err error) error {
	if errors.Is(err, ErrOutOfRange) {
		return nil
	}
	return err
}

// read is Read that tells the offsets, too.
func (l *leasing) read(ctx context.Context, from int64, n message.Limit) (records []message.Record, offsets []int64, next int64, err error) {
	var buf []byte
	chunk := 0
	next, err = l.s.walk(ctx, l.c.Queue, from, n, l.filter, func(q *queue, e consumequeue.Entry, at int64) (bool, error) {
		if len(buf) < int(e.Size) {
			chunk = min(2*chunk+int(e.Size), readChunk)
			buf = make([]byte, max(int(e.Size), chunk))
		}
		var r message.Record
		if _, err := l.s.log.Record(e.Position, int(e.Size), buf[:e.Size:e.Size], &r); err != nil {
			return false, err
		}
		if err := l.s.belongs(&r, q, at); err != nil {
			return false, err
		}
		if l.filter != nil && !l.filter.Match(&r) {
			return false, nil
		}
		buf = buf[e.Size:]
		records, offsets = append(records, r), append(offsets, at)
		return true, nil
	})
	return records, offsets, next, err
}
