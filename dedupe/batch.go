package dedupe

import (
	"cmp"
	"context"
	"slices"

	"github.com/embermq/embermq/message"
)

// Batch is a group of messages of which those are left out that are stored
// already, or that come twice.
type Batch struct {
	// Rest are the messages to append.
	Rest []*message.Message
	// Claims are to the keys of Rest. Each is ended by the holder of the batch.
	Claims []*Claim

	rest     []int             // for each of Rest, which message it is
	claimed  []int             // for each of Claims
	same     []int             // for each message, the earlier one with its key; itself if none
	receipts []message.Receipt // of those that are stored
}

// Batch claims the keys of messages that are to be appended together. The error is
// Claim's; nothing is claimed then.
func (w *Window) Batch(ctx context.Context, ms []*message.Message) (*Batch, error) {
	b := &Batch{same: make([]int, len(ms)), receipts: make([]message.Receipt, len(ms))}
	type keyed struct {
		hash uint64
		i    int
	}
	var order []keyed
	for i, m := range ms {
		b.same[i] = i
		if m != nil && m.IdempotencyKey != "" {
			order = append(order, keyed{hashOf(m.Topic, m.IdempotencyKey), i})
		}
	}
	// All take claims in the order of the hashes, so nobody waits in a circle.
	slices.SortFunc(order, func(x, y keyed) int { return cmp.Or(cmp.Compare(x.hash, y.hash), x.i-y.i) })
	stored := make([]bool, len(ms))
	for n, k := range order {
		m := ms[k.i]
		if n > 0 && order[n-1].hash == k.hash {
			// Two keys that only meet in the hash: the second goes unclaimed, because
			// waiting for the first would not end.
			if first := b.same[order[n-1].i]; ms[first].Topic == m.Topic && ms[first].IdempotencyKey == m.IdempotencyKey {
				b.same[k.i] = first
				w.duplicates.Add(1)
			}
			continue
		}
		c, r, err := w.Claim(ctx, m.Topic, m.IdempotencyKey)
		if err != nil {
			b.End()
			return nil, err
		}
		if c == nil {
			b.receipts[k.i], stored[k.i] = r, true
			continue
		}
		b.Claims, b.claimed = append(b.Claims, c), append(b.claimed, k.i)
	}
	for i, m := range ms {
		if b.same[i] == i && !stored[i] {
			b.Rest, b.rest = append(b.Rest, m), append(b.rest, i)
		}
	}
	return b, nil
}

// End gives all claims back.
func (b *Batch) End() {
	for _, c := range b.Claims {
		c.End()
	}
}

// Receipts are those of all messages, once Rest is stored and has these.
func (b *Batch) Receipts(rest []message.Receipt) []message.Receipt {
	for i, r := range rest {
		b.receipts[b.rest[i]] = r
	}
	for i, first := range b.same {
		b.receipts[i] = b.receipts[first]
	}
	for i, c := range b.Claims {
		c.Answer(b.receipts[b.claimed[i]])
	}
	return b.receipts
}
