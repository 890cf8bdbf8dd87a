package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/embermq/embermq/consumer"
	"github.com/embermq/embermq/message"
)

// Drains by the three kinds of consumers. Each begins at the first message, as a
// group of its own.

func drainPull(b *filled, group string) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), drainLimit)
	defer cancel()
	c := consumer.NewPull(b.s, group, consumer.WithStart(message.First()))
	defer func() { err = errors.Join(err, c.Close(ctx)) }()
	if err := c.Subscribe("orders", nil); err != nil {
		return err
	}
	for n := 0; n < b.n; {
		ds, err := c.Poll(ctx, commitEvery)
		if err != nil {
			return err
		}
		if err := c.Commit(ctx, nil); err != nil {
			return err
		}
		n += len(ds)
	}
	return nil
}

func drainPush(b *filled, group string) error {
	ctx, cancel := context.WithTimeout(context.Background(), drainLimit)
	defer cancel()
	var seen atomic.Int64
	c := consumer.NewPush(b.s, group, consumer.WithStart(message.First()), consumer.WithBatch(100))
	err := c.Subscribe("orders", nil, func(_ context.Context, ds []*consumer.Delivery) error {
		if seen.Add(int64(len(ds))) >= int64(b.n) {
			cancel()
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = c.Run(ctx)
	if seen.Load() < int64(b.n) {
		return errors.Join(err, fmt.Errorf("push: %d messages instead of %d", seen.Load(), b.n))
	}
	return nil
}

func drainLease(b *filled, group string) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), drainLimit)
	defer cancel()
	c := consumer.NewLeaser(b.s, group, consumer.WithStart(message.First()))
	defer func() { err = errors.Join(err, c.Close(ctx)) }()
	if err := c.Subscribe("orders", nil); err != nil {
		return err
	}
	receipts := make([]string, 0, commitEvery)
	for n := 0; n < b.n; {
		ls, err := c.Receive(ctx, commitEvery)
		if err != nil {
			return err
		}
		receipts = receipts[:0]
		for _, l := range ls {
			receipts = append(receipts, l.Receipt)
		}
		if err := c.Ack(ctx, receipts...); err != nil {
			return err
		}
		n += len(ls)
	}
	return nil
}
