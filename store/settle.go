package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/embermq/embermq/group"
	"github.com/embermq/embermq/internal/plant"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/progress"
)

// Groups is where consumers join their groups and get claims on queues. It is nil
// in a read-only store.
func (s *Store) Groups() *group.Coordinator { return s.groups }

func (s *Store) openGroups() (err error) {
	s.groups, err = group.New(group.Options{
		Queues: s.readQueues,
		Epoch: func(name string) uint64 {
			// A group gets its epoch when its first member comes. Who may not make
			// groups hears of it from Standing.
			_ = s.progress.Ensure(s.ctx, name)
			return s.progress.Epoch(name)
		},
		Clock:  s.cfg.env.Clock,
		Logger: s.cfg.logger,
	})
	s.topics.changed = func(name string) { s.groups.Refresh(name) }
	return err
}

// readQueues is how many queues of a topic consumers share.
func (s *Store) readQueues(topic string) int {
	tp, ok := s.topics.get(topic)
	if !ok {
		return 0
	}
	return tp.row.Load().ReadQueues
}

// Standing is how far the claim's group has come in a queue, which is the claim's
// or, with the claim on a seat, any. It waits for settles that an earlier claim has
// under way, so what it tells is all that anybody settled. The error is ErrFenced
// under a claim that is over, ErrPermission for a queue that the claim does not
// cover, and ErrNotFound for an unknown group when the store may not create it.
func (s *Store) Standing(ctx context.Context, c group.Claim, q message.Queue) (message.Standing, error) {
	if err := s.writable(); err != nil {
		return message.Standing{}, err
	}
	if err := s.groups.Valid(c); err != nil {
		return message.Standing{}, err
	}
	if err := s.progress.Ensure(ctx, c.Group); err != nil {
		return message.Standing{}, err
	}
	if c.Queue != (message.Queue{}) && c.Queue != q {
		return message.Standing{}, fmt.Errorf("store: standing in %s under the claim %s: %w", q, c, ErrPermission)
	}
	return s.progress.Standing(ctx, c.Group, c.Epoch, q)
}

// Settle carries out verdicts in their order. It stops at the first that fails;
// what came before stays.
//
// Begin, Done, DoneThrough, Failed, Extend and the Retry of a leased record take effect
// at once and are on disk within 100 ms, or at return with WithDurableSettle or
// when the group had no place in the queue before; Sync and Close force them. A
// kill may take the last ones back: records are delivered again, never skipped.
// Any other Retry and every DeadLetter is one record in the log that both keeps the
// message and settles its original, as durable as the store's default promises;
// ctx is looked at before it begins. Records that lie beside each other in vs
// share an atomic group. Before a DeadLetter that names no lease, all that was
// settled earlier is on disk: order holds through a crash.
//
// Under a claim that is over, and for a lease that is, nothing changes and the
// error is ErrFenced; a verdict on a record that is settled already changes
// nothing either and is no error. ErrPermission is for a queue that the claim does
// not cover, *RangeError for a record that does not exist, ErrBusy when too much
// is settled out of order or a record is being retried by somebody else.
func (s *Store) Settle(ctx context.Context, c group.Claim, vs ...message.Verdict) error {
	if err := s.writable(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.covers(c, vs); err != nil {
		return err
	}
	for len(vs) > 0 {
		n := 0
		for n < len(vs) && inMemory(&vs[n]) {
			n++
		}
		if n > 0 {
			done, err := s.settleNow(ctx, c, vs[:n])
			if progress.IsSpent(err) {
				last := vs[done]
				last.Kind, last.Reason = message.DeadLetter, reasonSpent
				err = s.replace(ctx, c, []message.Verdict{last})
				done++
			}
			if err != nil {
				return err
			}
			vs = vs[done:]
			continue
		}
		for n < len(vs) && n < settleMost && !inMemory(&vs[n]) {
			n++
		}
		if err := s.replace(ctx, c, vs[:n]); err != nil {
			return err
		}
		vs = vs[n:]
	}
	return nil
}

// replace settles by records. What was settled before a dead letter is on disk
// before it, or a crash could bring a message back that its key's dead letter came
// behind. A lease has no order to keep.
func (s *Store) replace(ctx context.Context, c group.Claim, vs []message.Verdict) error {
	if slices.ContainsFunc(vs, func(v message.Verdict) bool { return v.Kind == message.DeadLetter && v.Lease == 0 }) &&
		!(plant.Enabled && plant.Is(plant.StoreBuriesFirst)) {
		if err := s.progress.Flush(ctx); err != nil {
			return err
		}
	}
	return s.settleByRecord(ctx, c, vs)
}

// settleMost is how many records one Settle appends at a time.
const settleMost = 64

// inMemory tells a verdict that needs no record.
func inMemory(v *message.Verdict) bool {
	switch v.Kind {
	case message.DeadLetter:
		return false
	case message.Retry:
		return v.Lease != 0
	}
	return true
}

// covers checks that the verdicts name records that exist, in queues that the
// claim is for.
func (s *Store) covers(c group.Claim, vs []message.Verdict) error {
	if c.Queue != (message.Queue{}) {
		for i := range vs {
			if vs[i].Queue != c.Queue {
				return fmt.Errorf("store: settle %s under the claim %s: %w", vs[i].Queue, c, ErrPermission)
			}
		}
	}
	return s.progress.CheckOffsets(vs)
}

// settleNow settles in memory and says how many verdicts it carried out.
func (s *Store) settleNow(ctx context.Context, c group.Claim, vs []message.Verdict) (done int, err error) {
	begun := false
	err = s.groups.Do(c, func() error {
		done, begun, err = s.progress.Settle(c.Group, c.Epoch, vs)
		return err
	})
	for i := range vs[:done] {
		if v := &vs[i]; v.Lease != 0 && (v.Kind == message.Retry || v.Kind == message.Extend) {
			s.visibleSooner(v.Queue)
		}
	}
	// A first place is what keeps a group from choosing again where to begin, and
	// perhaps to skip: it may not be lost.
	if begun && !(plant.Enabled && plant.Is(plant.StorePlaceUnsynced)) || s.cfg.durableSettle && done > 0 {
		if err := s.progress.Flush(ctx); err != nil {
			return done, err
		}
	}
	return done, err
}

// visibleSooner wakes whoever waits for a leased record to become visible: the time
// that they know may be too late.
func (s *Store) visibleSooner(name message.Queue) {
	if q, ok := s.topics.queue(name); ok {
		q.watch.wakeAll()
	}
}
