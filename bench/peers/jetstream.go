package main

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/embermq/embermq/message"
)

const subject = "orders"

// jetStreamPeer is a server in this process and a client without a network.
type jetStreamPeer struct {
	s  *server.Server
	nc *nats.Conn
	js jetstream.JetStream
}

// jetStreamClient is JetStream as a program uses it. By default it syncs every two
// minutes; with SyncAlways before each acknowledgement.
func jetStreamClient(d message.Durability) library {
	name := "jetstream"
	if d == message.OnDisk {
		name = "jetstream SyncAlways"
	}
	return library{name, d, true, func(dir string) (peer, error) {
		s, err := server.NewServer(&server.Options{JetStream: true, StoreDir: dir, DontListen: true, NoLog: true, NoSigs: true, SyncAlways: d == message.OnDisk})
		if err != nil {
			return nil, err
		}
		s.Start()
		if !s.ReadyForConnections(10 * time.Second) {
			s.Shutdown()
			return nil, errors.New("the server does not start")
		}
		p := &jetStreamPeer{s: s}
		if p.nc, err = nats.Connect("", nats.InProcessServer(s)); err != nil {
			s.Shutdown()
			return nil, err
		}
		if p.js, err = jetstream.New(p.nc, jetstream.WithPublishAsyncMaxPending(1<<16)); err == nil {
			_, err = p.js.CreateStream(context.Background(), jetstream.StreamConfig{Name: subject, Subjects: []string{subject}, Storage: jetstream.FileStorage})
		}
		if err != nil {
			return nil, errors.Join(err, p.close())
		}
		return p, nil
	}}
}

// putter publishes and waits for the acknowledgement. Many bodies are published
// before the first wait; they are no transaction.
func (p *jetStreamPeer) putter() (func(bodies ...[]byte) error, error) {
	ctx := context.Background()
	return func(bodies ...[]byte) error {
		if len(bodies) == 1 {
			_, err := p.js.Publish(ctx, subject, bodies[0])
			return err
		}
		acks := make([]jetstream.PubAckFuture, len(bodies))
		for i, b := range bodies {
			var err error
			if acks[i], err = p.js.PublishAsync(subject, b); err != nil {
				return err
			}
		}
		for _, a := range acks {
			select {
			case <-a.Ok():
			case err := <-a.Err():
				return err
			}
		}
		return nil
	}, nil
}

func (p *jetStreamPeer) drain(n int, stop *atomic.Bool) (read int, err error) {
	ctx := context.Background()
	c, err := p.js.CreateConsumer(ctx, subject, jetstream.ConsumerConfig{Durable: "billing", AckPolicy: jetstream.AckAllPolicy, MaxAckPending: -1})
	if err != nil {
		return 0, err
	}
	for read < n && !stop.Load() {
		got, err := c.Fetch(min(commitEvery, n-read))
		if err != nil {
			return read, err
		}
		var last jetstream.Msg
		for m := range got.Messages() {
			last = m
			read++
		}
		if err := got.Error(); err != nil {
			return read, err
		}
		if last == nil {
			return read, nil
		}
		if err := last.Ack(); err != nil {
			return read, err
		}
	}
	return read, nil
}

func (p *jetStreamPeer) close() error {
	p.nc.Close()
	p.s.Shutdown()
	p.s.WaitForShutdown()
	return nil
}
