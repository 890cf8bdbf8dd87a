package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/joncrlsn/dque"
	"github.com/nsqio/go-diskqueue"
	"maragu.dev/goqite"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/embermq/embermq/message"
)

// Queues whose reader takes messages away.

type diskQueuePeer struct{ q diskqueue.Interface }

// diskQueue syncs each message, or never by itself. Without a sync the next start
// skips to a new file and reads what the old one holds; how many are left it has
// forgotten.
func diskQueue(d message.Durability) library {
	every := int64(1)
	if d == message.InCache {
		every = math.MaxInt64
	}
	return library{"go-diskqueue", d, false, func(dir string) (peer, error) {
		quiet := func(diskqueue.LogLevel, string, ...any) {}
		return &diskQueuePeer{diskqueue.New("orders", dir, 64<<20, 0, 4<<20, every, time.Hour, quiet)}, nil
	}}
}

func (p *diskQueuePeer) putter() (func(bodies ...[]byte) error, error) {
	return func(bodies ...[]byte) error {
		for _, b := range bodies {
			if err := p.q.Put(b); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

func (p *diskQueuePeer) drain(n int, stop *atomic.Bool) (int, error) {
	for i := range n {
		if stop.Load() {
			return i, nil
		}
		<-p.q.ReadChan()
	}
	return n, nil
}

func (p *diskQueuePeer) close() error { return p.q.Close() }

type dquePeer struct{ q *dque.DQue }

type item struct{ Body []byte }

// dqueIn in turbo mode leaves out the sync.
func dqueIn(d message.Durability) library {
	return library{"dque", d, false, func(dir string) (peer, error) {
		q, err := dque.New("orders", dir, 10_000, func() any { return &item{} })
		if err == nil && d == message.InCache {
			err = q.TurboOn()
		}
		return &dquePeer{q}, err
	}}
}

func (p *dquePeer) putter() (func(bodies ...[]byte) error, error) {
	return func(bodies ...[]byte) error {
		for _, b := range bodies {
			if err := p.q.Enqueue(&item{b}); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

func (p *dquePeer) drain(n int, stop *atomic.Bool) (int, error) {
	for i := range n {
		if stop.Load() {
			return i, nil
		}
		if _, err := p.q.Dequeue(); err != nil {
			return i, err
		}
	}
	return n, nil
}

func (p *dquePeer) close() error { return p.q.Close() }

type goqitePeer struct {
	db *sql.DB
	q  *goqite.Queue
}

// goqiteIn is a table of SQLite with a write-ahead log, which syncs each
// transaction or leaves that to the system.
func goqiteIn(d message.Durability) library {
	level := "FULL"
	if d == message.InCache {
		level = "NORMAL"
	}
	return library{"goqite", d, true, func(dir string) (peer, error) {
		db, err := sql.Open("sqlite", fmt.Sprintf("file:%s?_pragma=journal_mode(WAL)&_pragma=synchronous(%s)&_pragma=busy_timeout(10000)", filepath.Join(dir, "db"), level))
		if err != nil {
			return nil, err
		}
		db.SetMaxOpenConns(1) // SQLite has one writer; waiting here is cheaper than in its lock
		p := &goqitePeer{db, goqite.New(goqite.NewOpts{DB: db, Name: "orders", Timeout: time.Minute})}
		return p, goqite.Setup(context.Background(), db)
	}}
}

func (p *goqitePeer) putter() (func(bodies ...[]byte) error, error) {
	ctx := context.Background()
	return func(bodies ...[]byte) error {
		if len(bodies) == 1 {
			return p.q.Send(ctx, goqite.Message{Body: bodies[0]})
		}
		tx, err := p.db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		for _, b := range bodies {
			if err := p.q.SendTx(ctx, tx, goqite.Message{Body: b}); err != nil {
				return errors.Join(err, tx.Rollback())
			}
		}
		return tx.Commit()
	}, nil
}

func (p *goqitePeer) drain(n int, stop *atomic.Bool) (int, error) {
	ctx := context.Background()
	for i := range n {
		if stop.Load() {
			return i, nil
		}
		m, err := p.q.Receive(ctx)
		if err != nil {
			return i, err
		}
		if m == nil {
			return i, nil
		}
		if err := p.q.Delete(ctx, m.ID); err != nil {
			return i, err
		}
	}
	return n, nil
}

func (p *goqitePeer) close() error { return p.db.Close() }
