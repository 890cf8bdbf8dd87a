package producer

import "sync"

// callbacks runs what users want to be told, one after the other, on a goroutine
// that lives as long as there is something to tell.
//
// A callback may send, and then wait for room that only other callbacks' flights
// will free. So if every goroutine here is inside a callback while somebody waits
// for room, one more is started.
//
// Invariant: if the queue is not empty and somebody waits for room, at least one
// goroutine is not inside a callback.
type callbacks struct {
	p *Producer

	mu      sync.Mutex
	queue   fifo[*flight]
	running int
	inside  int
}

func (c *callbacks) push(f *flight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue.push(f)
	if c.running == 0 || c.inside == c.running && c.p.room.anyWaiting() {
		c.running++
		go c.run()
	}
}

// help is called when somebody is about to wait for room.
func (c *callbacks) help() {
	if c.p.o.linger > 0 {
		c.p.batcher.hurry()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.queue.len() > 0 && c.inside == c.running {
		c.running++
		go c.run()
	}
}

func (c *callbacks) run() {
	c.mu.Lock()
	for c.queue.len() > 0 {
		f := c.queue.pop()
		c.inside++
		c.mu.Unlock()
		if f.size > 0 {
			c.p.room.give(f.size)
		}
		c.p.tell(f)
		c.mu.Lock()
		c.inside--
	}
	c.running--
	c.mu.Unlock()
}

// Resume ends the failure of a key under WithHeldKeys, once what has failed is
// about to be sent again or was given up. Without a failure it does nothing.
func (p *Producer) Resume(topic, shardingKey string) {
	k := key{topic, shardingKey}
	p.lanes.reopen(k, nil)
	p.batcher.reopen(k, nil)
}

// tell answers a flight.
func (p *Producer) tell(f *flight) {
	defer p.leave()
	p.finish(&f.send, f.receipt, f.err)
	if f.reopens && !p.o.hold {
		p.lanes.reopen(f.key(), f.lane)
		p.batcher.reopen(f.key(), f.lane)
	}
	f.done(f.receipt, f.err)
}
