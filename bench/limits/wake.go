package limits

import (
	"sync/atomic"
	"time"
)

// Wake is the shortest way from one goroutine to another through a log: write,
// count, wake.
type Wake struct {
	log   *Log
	rec   []byte
	due   []time.Time // of the last writes, by number
	count atomic.Int64
	bell  chan struct{}
}

// NewWake makes a log in a folder.
func NewWake(dir string, rec []byte) (*Wake, error) {
	l, err := NewLog(dir, false)
	return &Wake{log: l, rec: rec, due: make([]time.Time, 1<<20), bell: make(chan struct{}, 1)}, err
}

// Write writes the record and wakes the reader.
func (w *Wake) Write(due time.Time) error {
	if err := w.log.Write(w.rec); err != nil {
		return err
	}
	n := w.count.Load()
	w.due[n%int64(len(w.due))] = due
	w.count.Store(n + 1)
	select {
	case w.bell <- struct{}{}:
	default: // it is awake, or about to be
	}
	return nil
}

// Read calls f with when each of n writes was due.
func (w *Wake) Read(n int64, f func(due time.Time)) {
	for seen := int64(0); seen < n; {
		have := w.count.Load()
		if have == seen {
			<-w.bell
			continue
		}
		for ; seen < have; seen++ {
			f(w.due[seen%int64(len(w.due))])
		}
	}
}

// Close ends the log.
func (w *Wake) Close() error { return w.log.Close() }
