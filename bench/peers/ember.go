package main

import (
	"context"
	"sync/atomic"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

type emberPeer struct{ s *store.Store }

const ember = "embermq"

func emberIn(d message.Durability) library {
	return library{ember, d, true, func(dir string) (peer, error) {
		s, err := store.Open(dir, store.WithDurability(d))
		if err != nil {
			return nil, err
		}
		return emberPeer{s}, nil
	}}
}

func (p emberPeer) putter() (func(bodies ...[]byte) error, error) {
	ctx := context.Background()
	ms := []*message.Message{}
	return func(bodies ...[]byte) error {
		for len(ms) < len(bodies) {
			ms = append(ms, &message.Message{Topic: "orders"})
		}
		for i, b := range bodies {
			ms[i].Body = b
		}
		if len(bodies) == 1 {
			_, err := p.s.Put(ctx, ms[0])
			return err
		}
		_, err := p.s.PutBatch(ctx, ms[:len(bodies)])
		return err
	}, nil
}

func (p emberPeer) drain(n int, stop *atomic.Bool) (int, error) {
	q := message.Queue{Topic: "orders"}
	lend := func(*message.Record) error { return nil }
	from := int64(0)
	for from < int64(n) && !stop.Load() {
		next, err := p.s.Scan(q, from, message.Limit{Count: commitEvery}, nil, lend)
		if err != nil {
			return int(from), err
		}
		if err := p.s.Commit(context.Background(), "billing", map[message.Queue]int64{q: next}); err != nil {
			return int(from), err
		}
		from = next
	}
	return int(from), nil
}

func (p emberPeer) close() error { return p.s.Close() }
