package consumer

import (
	"context"
	"time"

	"github.com/embermq/embermq/group"
	"github.com/embermq/embermq/message"
)

// Engine is what a consumer receives from. *store.Store is one.
//
// Batches that an engine returns belong to the caller. A call whose ctx ends may
// have taken effect.
type Engine interface {
	// QueueCount is how many queues a topic has. The error for an unknown topic
	// is ErrNotFound.
	QueueCount(topic string) (int, error)
	// Read returns records from an offset on, without waiting for more. An
	// offset outside the queue is a *message.RangeError, a record that cannot
	// be read a *message.CorruptError.
	Read(ctx context.Context, q message.Queue, from int64, n message.Limit, f message.Filter) (message.Batch, error)
	// Watch waits for records on many queues with one goroutine.
	Watch(f message.Filter, qs ...message.Queue) message.Watch
	// Bounds are a queue's first kept offset and the next one to be assigned.
	Bounds(q message.Queue) (start, end int64, err error)
	// OffsetAt finds an offset by the time at which records were stored.
	OffsetAt(q message.Queue, t time.Time, b message.Bound) (int64, error)

	// Groups is where members join and get their claims.
	Groups() *group.Coordinator
	// Standing is how far the claim's group has come in a queue. A claim on a
	// queue tells of that queue alone, the claim on a seat of any queue.
	Standing(ctx context.Context, c group.Claim, q message.Queue) (message.Standing, error)
	// Settle carries out verdicts, each atomic by itself: a crash or an error
	// between two leaves the later ones undone. Under a stale claim nothing
	// changes and the error is ErrFenced. A claim on a queue settles that queue
	// alone, the claim on a seat any queue.
	Settle(ctx context.Context, c group.Claim, vs ...message.Verdict) error
	// Lease takes up to n records of the claim's queue that match f and that
	// nobody else sees, for so long, without waiting for more. Records that do
	// not match are settled. A record whose attempts exceed maxAttempts (zero:
	// the group's), or whose ExpireAt has passed, becomes a dead letter instead of
	// being returned. A record that
	// becomes visible sooner than LeaseBatch.Wait said, because its receiver gave
	// it back, wakes the watches of its queue.
	Lease(ctx context.Context, c group.Claim, f message.Filter, n message.Limit, invisible time.Duration, maxAttempts int) (message.LeaseBatch, error)
}
