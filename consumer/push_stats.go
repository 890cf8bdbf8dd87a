package consumer

import (
	"cmp"
	"slices"
	"sync/atomic"

	"github.com/embermq/embermq/message"
)

type counters struct {
	read, done, failed, retried, dead, dropped, panics, late, fenced atomic.Int64
}

// PushStats are a Push's figures.
type PushStats struct {
	Read    int64 // messages read
	Done    int64 // handled without an error
	Failed  int64 // failed deliveries
	Retried int64 // failed messages that come again as copies
	Dead    int64 // messages made dead letters
	Dropped int64 // messages given up by a broadcasting group
	Panics  int64 // of handlers and hooks
	Late    int64 // handler calls that took longer than WithTimeout
	Fenced  int64 // calls of the engine that came after their claim

	Workers int // how many handlers may run
	Running int // how many do
	Queues  []QueueStats
}

// QueueStats are the figures of one queue that a consumer has.
type QueueStats struct {
	Queue     message.Queue
	Next      int64 // the offset that is read next
	Committed int64 // everything below is settled in the engine
	Lowest    int64 // the lowest offset that is not settled
	Messages  int   // read and not settled
	Bytes     int64 // theirs
	Running   int   // handler calls
	Paused    bool
	Draining  bool
	Stopped   error // why it is not read, after a corrupt record
}

// Stats returns a snapshot. Queues are sorted.
func (p *Push) Stats() PushStats {
	c := &p.count
	st := PushStats{
		Read: c.read.Load(), Done: c.done.Load(), Failed: c.failed.Load(), Retried: c.retried.Load(),
		Dead: c.dead.Load(), Dropped: c.dropped.Load(), Panics: c.panics.Load(), Late: c.late.Load(),
		Fenced: c.fenced.Load(),
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	st.Workers, st.Running = p.workers, p.running
	for _, in := range p.intakes {
		if in.flight.tree == nil {
			continue // not open yet
		}
		f := &in.flight
		st.Queues = append(st.Queues, QueueStats{
			Queue: in.q, Next: f.next, Committed: f.committed, Lowest: f.lowest(), Messages: f.count, Bytes: f.bytes,
			Running: in.running, Paused: p.pausedLocked(in.q), Draining: in.stage > serving, Stopped: in.stopped,
		})
	}
	slices.SortFunc(st.Queues, func(a, b QueueStats) int {
		return cmp.Or(cmp.Compare(a.Queue.Topic, b.Queue.Topic), cmp.Compare(a.Queue.ID, b.Queue.ID))
	})
	return st
}
