// Command peers measures EmberMQ beside what else a Go program could keep its
// messages in, on the same work, in one run:
//
//	cd bench/peers && go run .
//
// It is a module of its own, so that a user of EmberMQ never compiles another
// library for it.
//
// # Guarantees
//
// A figure means something only beside figures of the same promise. Workloads end
// in the promise that holds when a put returns:
//
//   - ondisk: neither a kill of the process nor a power cut loses the message.
//   - incache: a kill loses nothing, a power cut may lose what is new.
//
// What weaker settings promise less is left out, except where a name says so:
// Pebble without sync keeps records in the process for a moment, and go-diskqueue
// finds the messages behind its last sync again, but not how many there are.
//
// Logs that one writer feeds (tidwall/wal, raft-wal, etcd's WAL) get what their
// users put in front of them: a leader that gathers the puts of many goroutines
// into one write. bbolt and badger gather by themselves.
package main
