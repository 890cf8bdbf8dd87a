package store

import (
	"context"
	"iter"

	"github.com/embermq/embermq/message"
)

// Follow yields the records of q from offset from on that f matches, waiting
// for new ones at the end of the queue until ctx is done. The consumer of the sequence owns
// the records. The sequence ends after its first error, which comes with a nil
// record; when ctx is done that is ctx's error.
func (s *Store) Follow(ctx context.Context, q message.Queue, from int64, f message.Filter) iter.Seq2[*message.Record, error] {
	return func(yield func(*message.Record, error) bool) {
		w := s.Watch(f, q)
		defer w.Close()
		for {
			if _, err := w.Next(ctx); err != nil {
				yield(nil, err)
				return
			}
			for {
				b, err := s.Read(ctx, q, from, message.Limit{}, f)
				if err != nil {
					yield(nil, err)
					return
				}
				for i := range b.Records {
					if !yield(&b.Records[i], nil) {
						return
					}
				}
				if b.Next == from {
					break
				}
				from = b.Next
				if err := ctx.Err(); err != nil {
					yield(nil, err)
					return
				}
			}
		}
	}
}
