package main

import (
	"sync/atomic"

	"github.com/embermq/embermq/message"
)

// library is one way to keep messages, with one promise.
type library struct {
	name    string
	promise message.Durability
	// batches says that put takes many bodies at once, in one operation.
	batches bool
	open    func(dir string) (peer, error)
}

// peer is an open store of a library.
type peer interface {
	// putter returns the put of one goroutine. The bodies have one size and
	// are not changed while the peer is open.
	putter() (func(bodies ...[]byte) error, error)
	// drain reads the n messages from the first on, and acknowledges them if the
	// library knows that, until all are read or stop says so. It returns how many
	// were read.
	drain(n int, stop *atomic.Bool) (int, error)
	close() error
}

// libraries are all that can be measured here; java says whether Java is there.
func libraries() []library {
	return []library{
		emberIn(message.InCache), emberIn(message.OnDisk),
		jetStreamClient(message.InCache), jetStreamClient(message.OnDisk),
		jetStreamStore(message.InCache), jetStreamStore(message.OnDisk),
		diskQueue(message.InCache), diskQueue(message.OnDisk),
		boltIn(message.InCache), boltIn(message.OnDisk),
		pebbleIn(message.InCache), pebbleIn(message.OnDisk),
		badgerIn(message.InCache), badgerIn(message.OnDisk),
		tidwallIn(message.InCache), tidwallIn(message.OnDisk),
		raftWAL(), etcdWAL(),
		goqiteIn(message.InCache), goqiteIn(message.OnDisk),
		dqueIn(message.InCache), dqueIn(message.OnDisk),
	}
}

// commitEvery is after how many messages a reader notes how far it is, where the
// library has a place for that.
const commitEvery = 500
