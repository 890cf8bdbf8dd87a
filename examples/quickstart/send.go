package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// childEnv tells a process that it is the child, and in which directory.
const childEnv = "EMBERMQ_QUICKSTART_DIR"

type digest = [sha256.Size]byte

// notary is told of each message before it is sent and when it was
// acknowledged. Its methods are called by several goroutines at once.
type notary interface {
	sending() error
	acknowledged(q int32, offset int64, sum digest) error
}

// send puts what is planned for each queue, one goroutine a queue, each message
// when the one before it is on disk.
func send(ctx context.Context, s *store.Store, planned [queues][]*flight, n notary) error {
	var wg sync.WaitGroup
	var errs [queues]error
	for q, flights := range planned {
		wg.Go(func() { errs[q] = sendQueue(ctx, s, flights, n) })
	}
	wg.Wait()
	return errors.Join(errs[:]...)
}

func sendQueue(ctx context.Context, s *store.Store, flights []*flight, n notary) error {
	for _, f := range flights {
		if err := n.sending(); err != nil {
			return err
		}
		r, err := s.Put(ctx, f.message())
		if err != nil {
			return err
		}
		if err := n.acknowledged(r.Queue.ID, r.Offset, sha256.Sum256(f.body)); err != nil {
			return err
		}
	}
	return nil
}

// child sends all flights and writes a line to w for each step. It never gets
// to the end: its parent kills it.
func child(ctx context.Context, dir string, w io.Writer) error {
	plan, err := loadPlan()
	if err != nil {
		return err
	}
	s, err := store.Open(dir)
	if err != nil {
		return err
	}
	if err := s.CreateTopic(ctx, store.Topic{Name: topic, WriteQueues: queues}); err != nil {
		return closing(s, err)
	}
	if err := send(ctx, s, plan.byQueue, pipeNotary{w}); err != nil {
		return closing(s, err)
	}
	return s.Close()
}

// pipeNotary writes each line with one call, so that a kill leaves whole lines
// in the pipe.
type pipeNotary struct{ w io.Writer }

func (p pipeNotary) sending() error {
	_, err := io.WriteString(p.w, "sending\n")
	return err
}

func (p pipeNotary) acknowledged(q int32, offset int64, sum digest) error {
	_, err := fmt.Fprintf(p.w, "ack %d %d %x\n", q, offset, sum)
	return err
}

// ledger is what the parent knows: the notary of its own sending, and the
// reader of what the child has reported.
type ledger struct {
	mu          sync.Mutex
	sent, acked int
	began       time.Time                // when the first message was sent
	sums        [queues]map[int64]digest // of acknowledged messages, by offset
	twice       int                      // one offset acknowledged for two messages
}

func newLedger() *ledger {
	l := &ledger{}
	for q := range l.sums {
		l.sums[q] = make(map[int64]digest)
	}
	return l
}

func (l *ledger) sending() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sent == 0 {
		l.began = time.Now()
	}
	l.sent++
	return nil
}

func (l *ledger) acknowledged(q int32, offset int64, sum digest) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.sums[q][offset]; ok {
		l.twice++
	}
	l.acked++
	l.sums[q][offset] = sum
	return nil
}

// line takes one line of the child's report.
func (l *ledger) line(text string) error {
	if text == "sending\n" {
		return l.sending()
	}
	var q int32
	var offset int64
	var hexSum string
	if _, err := fmt.Sscanf(text, "ack %d %d %s\n", &q, &offset, &hexSum); err != nil || q < 0 || q >= queues {
		return fmt.Errorf("the child wrote %q", text)
	}
	sum, err := hex.DecodeString(hexSum)
	if err != nil || len(sum) != sha256.Size {
		return fmt.Errorf("the child wrote %q", text)
	}
	return l.acknowledged(q, offset, digest(sum))
}

// killWhileSending runs this program as a child and kills it when it has
// reported enough. What it has still written to the pipe by then counts too: those messages
// were acknowledged.
func killWhileSending(ctx context.Context, dir string, l *ledger) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program)
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	killed := false
	var bad error
	for lines := bufio.NewReader(pipe); ; {
		text, err := lines.ReadString('\n')
		if err != nil {
			break // the child is dead; a line without an end was cut by the kill
		}
		if bad == nil {
			bad = l.line(text)
		}
		if !killed && (bad != nil || l.acked >= killAfter) {
			killed = true
			if err := cmd.Process.Kill(); err != nil {
				return err
			}
		}
	}
	err = cmd.Wait()
	switch {
	case bad != nil:
		return bad
	case !killed:
		return fmt.Errorf("the child ended by itself: %v", err)
	}
	return nil
}

// found is what a survey found in the store after the kill.
type found struct {
	ends     [queues]int64
	stored   int
	lost     int // acknowledged, and not there
	changed  int // there, but not what belongs there
	survived int // not acknowledged, and there
}

// survey reads all queues and compares them with the plan and the ledger.
func survey(s *store.Store, p *plan, l *ledger) (found, error) {
	var f found
	for id := range int32(queues) {
		q := message.Queue{Topic: topic, ID: id}
		start, end, err := s.Bounds(q)
		if err != nil {
			return f, err
		}
		for next := start; next < end; {
			next, err = s.Scan(q, next, message.Limit{}, nil, func(r *message.Record) error {
				f.stored++
				sum := sha256.Sum256(r.Body())
				acked, ok := l.sums[id][r.Offset()]
				if !ok {
					f.survived++
				}
				want := p.at(id, r.Offset())
				if ok && acked != sum || want == nil || sum != sha256.Sum256(want.body) {
					f.changed++
				}
				return nil
			})
			if err != nil {
				return f, err
			}
		}
		for offset := range l.sums[id] {
			if offset < start || offset >= end {
				f.lost++
			}
		}
		f.ends[id] = end
	}
	return f, nil
}
