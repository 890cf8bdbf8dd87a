package limits

import (
	"runtime"
	"sync"
)

// Commit is group commit and nothing else: gather, yield twice, one write, one
// fdatasync.
type Commit struct {
	log *Log
	buf []byte

	mu struct {
		sync.Mutex
		busy bool
		data [][]byte
		wait []chan bool
	}
}

// NewCommit makes a log of written zeros in a folder.
func NewCommit(dir string) (*Commit, error) {
	l, err := NewLog(dir, true)
	return &Commit{log: l}, err
}

// Appender returns the append of one goroutine. It returns when p is on disk.
func (c *Commit) Appender() func(p []byte) error {
	turn := make(chan bool, 1) // true: lead the next group; false: done
	return func(p []byte) error {
		c.mu.Lock()
		c.mu.data, c.mu.wait = append(c.mu.data, p), append(c.mu.wait, turn)
		lead := !c.mu.busy
		c.mu.busy = true
		c.mu.Unlock()
		if !lead && !<-turn {
			return nil
		}
		return c.lead(turn)
	}
}

func (c *Commit) lead(turn chan bool) error {
	runtime.Gosched()
	runtime.Gosched()
	c.mu.Lock()
	data, wait := c.mu.data, c.mu.wait
	c.mu.data, c.mu.wait = nil, nil
	c.mu.Unlock()
	c.buf = c.buf[:0]
	for _, d := range data {
		c.buf = append(c.buf, d...)
	}
	err := c.log.Write(c.buf)
	if err == nil {
		err = c.log.Sync()
	}
	for _, w := range wait {
		if w != turn {
			w <- false
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.mu.wait) > 0 {
		c.mu.wait[0] <- true
	} else {
		c.mu.busy = false
	}
	return err
}

// Close ends the log.
func (c *Commit) Close() error { return c.log.Close() }
