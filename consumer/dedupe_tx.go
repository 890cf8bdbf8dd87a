package consumer

import (
	"context"

	"github.com/embermq/embermq/message"
)

// OffsetReader is a database that keeps offsets beside the application's data: the
// ready resources of package txn, or a user's own.
type OffsetReader interface {
	// Offset is where a group goes on in a queue; ok is false when the database
	// has none.
	Offset(ctx context.Context, group string, q message.Queue) (next int64, ok bool, err error)
}

// OffsetFunc is an OffsetReader for databases whose reads need no context.
type OffsetFunc func(group string, q message.Queue) (next int64, ok bool, err error)

// Offset calls f.
func (f OffsetFunc) Offset(_ context.Context, group string, q message.Queue) (int64, bool, error) {
	return f(group, q)
}

// DedupeInTransaction asks the application's database what was handled, so that a
// message has its effect exactly once: the handler puts the effect and the offset
// behind the message (Advance of the ready resources) into one transaction. It
// needs the order of a queue: a Pull, or a Push with WithOrder(PerQueue).
func DedupeInTransaction(r OffsetReader) Deduper { return inTransaction{r} }

type inTransaction struct{ r OffsetReader }

func (inTransaction) needsOrder() {}

// Begin is Deduper.Begin.
func (t inTransaction) Begin(ctx context.Context, groupName string, d *Delivery) (Known, error) {
	next, ok, err := t.r.Offset(ctx, groupName, d.Queue())
	if err == nil && ok && next > d.Offset() {
		return Handled, nil
	}
	return Fresh, err
}

// Done is Deduper.Done. The handler's transaction has said it.
func (inTransaction) Done(context.Context, string, *Delivery) error { return nil }

// Fail is Deduper.Fail.
func (inTransaction) Fail(string, *Delivery) {}
